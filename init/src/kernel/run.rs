//! PID 1's loop: wait, decide, act.

use super::{Kernel, KernelError};
use crate::supervisor::{Action, Leave, Supervisor};

/// Runs until everything has stopped; returns how to leave. `main` then unmounts and reboots.
///
/// Only this thread reaps. `Supervisor` does no I/O, so every decision is a unit test. Nothing here blocks except
/// `wait`, so the watchdog's deadline is always met.
///
/// # Errors
/// When waiting itself fails, which leaves nothing but the emergency path.
pub fn run(supervisor: &mut Supervisor<'_>, kernel: &mut Kernel<'_>) -> Result<Leave, KernelError> {
    loop {
        if kernel.report_is_due() {
            kernel.publish(&supervisor.report());
        }
        for event in kernel.wait(supervisor.next_deadline())? {
            for action in supervisor.handle(kernel.now(), event) {
                match action {
                    Action::Leave(leave) => {
                        kernel.publish(&supervisor.report());
                        return Ok(leave);
                    }
                    action => kernel.perform(action),
                }
            }
        }
    }
}
