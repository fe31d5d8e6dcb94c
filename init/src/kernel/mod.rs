//! The thin side of PID 1: waits for the kernel, turns what happened into events, carries out actions.

mod cgroup;
mod descriptors;
mod leave;
mod notify_socket;
mod plan;
mod power;
mod process;
mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

pub use cgroup::{Cgroups, Entry};
pub use leave::Ending;
pub use plan::{PlanError, Surroundings, plan};
pub use power::PowerButtons;
pub use run::run;

use crate::accounts::Accounts;
use crate::condition::{self, Facts};
use crate::console::Console;
use crate::moment::Moment;
use crate::report;
use crate::supervisor::{Action, Event, Leave, Run, Severity, UnitReport};
use crate::sys::{Received, Signals, Watchdog};
use crate::unit::{Kind, UnitId, UnitSet};
use descriptors::Descriptors;
use notify_socket::NotifySocket;
use process::Processes;

/// The report is written at most this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// How soon pending console output is tried again; a serial line drains 4 KiB in 360 ms at 115200 baud.
const CONSOLE_RETRY: Duration = Duration::from_millis(50);

/// Longer than any wait PID 1 can cause itself; shorter ones reset machines that are only busy
/// (home-assistant/operating-system#4705).
pub const WATCHDOG_TIMEOUT_S: i32 = 180;

/// Datagrams taken from one socket before others get their turn: a service that floods PID 1 stops only itself.
const DATAGRAMS_AT_ONCE: usize = 64;

/// Where the kernel side finds and leaves things; tests use other places than a booted node.
pub struct Layout {
    /// `services.json` and notify sockets, for example `/run/mnemos/init`.
    pub run_dir: PathBuf,
    /// Hardware watchdog to arm when it appears.
    pub watchdog: Option<PathBuf>,
    /// The unit that draws on the screen once it runs.
    pub screen_unit: Option<UnitId>,
}

/// PID 1 cannot go on supervising.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The directory for sockets and the report is not there.
    #[error("cannot make {}", path.display())]
    RunDirectory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A notify socket could not be bound.
    #[error("cannot bind the notify socket of {unit}")]
    NotifySocket {
        /// Whose.
        unit: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A socket that a service listens on could not be bound.
    #[error("cannot bind the sockets of {unit}")]
    Listen {
        /// Whose.
        unit: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// poll(2) failed for another reason than a signal.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
}

/// Everything PID 1 holds of the kernel.
pub struct Kernel<'u> {
    units: &'u UnitSet,
    layout: Layout,
    accounts: Accounts,
    signals: Signals,
    cgroups: Option<Cgroups>,
    power: Option<PowerButtons>,
    watchdog: Option<Watchdog>,
    processes: Processes,
    notify: BTreeMap<UnitId, NotifySocket>,
    descriptors: Descriptors,
    /// Units for whose helper processes' notifications the log has a line already.
    strangers_named: BTreeSet<UnitId>,
    queued: VecDeque<Event>,
    report_wanted: bool,
    report_written: Option<Moment>,
    report_failed: bool,
    /// Sentences for `services.json`, each with its remedy.
    pub problems: Vec<String>,
    /// Where PID 1 is heard.
    pub console: Console,
}

impl<'u> Kernel<'u> {
    /// Takes over `signals`, which must already be blocked, and binds the notify sockets.
    ///
    /// # Errors
    /// [`KernelError::RunDirectory`] or [`KernelError::NotifySocket`].
    pub fn new(
        units: &'u UnitSet,
        layout: Layout,
        signals: Signals,
        cgroups: Option<Cgroups>,
        mut console: Console,
    ) -> Result<Kernel<'u>, KernelError> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let accounts = Accounts::parse(&read("/etc/passwd"), &read("/etc/group"));
        let notify = bind_notify_sockets(units, &layout.run_dir, &accounts)?;
        let descriptors = bind_listening_sockets(units)?;
        let power = PowerButtons::watch(Path::new("/dev/input"));
        if let Err(error) = &power {
            console.log(
                Severity::Warning,
                &format!("the power button is not watched: {error}"),
            );
        }
        Ok(Kernel {
            units,
            layout,
            accounts,
            signals,
            cgroups,
            power: power.ok(),
            watchdog: None,
            processes: Processes::default(),
            notify,
            descriptors,
            strangers_named: BTreeSet::new(),
            // The first tick starts the units; without it the loop would wait for somebody else to begin.
            queued: VecDeque::from([Event::Tick]),
            report_wanted: false,
            report_written: None,
            report_failed: false,
            problems: Vec::new(),
            console,
        })
    }

    /// The time.
    pub fn now(&self) -> Moment {
        now()
    }

    /// Blocks until something happened or `deadline` has passed. Never returns an empty list.
    ///
    /// # Errors
    /// [`KernelError::Poll`].
    pub fn wait(&mut self, deadline: Option<Moment>) -> Result<Vec<Event>, KernelError> {
        if self.queued.is_empty() {
            let console_pending = self.console.flush();
            self.poll(self.timeout(deadline, console_pending))?;
        }
        if let Some(watchdog) = &self.watchdog {
            watchdog.feed();
        }
        // Readiness before death: what a process still said must not come after its end.
        self.collect_notices();
        self.collect_executed();
        if self.power.as_mut().is_some_and(PowerButtons::check) {
            self.console
                .log(Severity::Info, "power button pressed: powering off");
            self.queued.push_back(Event::Shutdown(Leave::PowerOff));
        }
        self.collect_signals();
        let mut events: Vec<Event> = self.queued.drain(..).collect();
        events.push(Event::Tick);
        Ok(events)
    }

    /// Carries out one action. What fails comes back as an event of a later [`Kernel::wait`].
    pub fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn { run, unit, command } => {
                if let Err(event) = self.spawn(run, unit, command) {
                    self.queued.push_back(event);
                }
            }
            Action::Signal { run, signal } => self.processes.signal(run, signal),
            Action::KillGroup { unit } => {
                if let Some(cgroups) = &mut self.cgroups {
                    cgroups.kill(&self.units.unit(unit).name);
                }
            }
            Action::Stage {
                stage,
                state,
                detail,
            } => self.console.stage(now(), &stage, state, &detail),
            Action::Log { severity, text } => self.console.log(severity, &text),
            Action::Report => self.report_wanted = true,
            // The loop takes this one itself.
            Action::Leave(_) => {}
        }
    }

    /// After the loop: ends every process, and the machine unless this is a name space.
    pub fn end(&mut self, leave: Leave, ending: Ending) {
        leave::end(leave, ending, &self.signals, &mut self.console);
    }

    /// Whether the report should be published now.
    pub fn report_is_due(&self) -> bool {
        self.report_wanted
            && self
                .report_written
                .is_none_or(|last| now() - last >= REPORT_INTERVAL)
    }

    /// Writes `services.json` and follows what the units' states mean for PID 1 itself.
    pub fn publish(&mut self, rows: &[UnitReport]) {
        let now = now();
        let main_pid = |row: &UnitReport| row.run.and_then(|run| self.processes.pid(run));
        let text = report::services_json(now, rows, main_pid, &self.problems);
        let (path, fresh) = (
            self.layout.run_dir.join("services.json"),
            self.layout.run_dir.join("services.json.new"),
        );
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
        let failed_before = std::mem::replace(&mut self.report_failed, written.is_err());
        if let (Err(error), false) = (written, failed_before) {
            self.console.log(
                Severity::Warning,
                &format!("cannot write {}: {error}", path.display()),
            );
        }
        self.report_written = Some(now);
        self.report_wanted = false;
        let screen_runs = rows
            .iter()
            .any(|row| Some(row.id) == self.layout.screen_unit && row.state == "running");
        if screen_runs {
            self.console.give_screen();
        }
        self.arm_watchdog();
    }

    /// The watchdog's driver is loaded late in the cold-plug, so it is looked for at each report.
    fn arm_watchdog(&mut self) {
        let (None, Some(path)) = (&self.watchdog, &self.layout.watchdog) else {
            return;
        };
        if let Ok(watchdog) = Watchdog::arm(path, WATCHDOG_TIMEOUT_S) {
            self.console.log(
                Severity::Info,
                &format!("{} armed, {} s", path.display(), watchdog.timeout_s),
            );
            self.watchdog = Some(watchdog);
        }
    }

    fn timeout(&self, deadline: Option<Moment>, console_pending: bool) -> Option<Duration> {
        let now = now();
        let report = self.report_wanted.then(|| {
            self.report_written
                .map_or(now, |last| last + REPORT_INTERVAL)
        });
        let console = console_pending.then(|| now + CONSOLE_RETRY);
        let feed = |watchdog: &Watchdog| {
            now + Duration::from_secs(u64::from(watchdog.timeout_s.unsigned_abs()) / 3)
        };
        let watchdog = self.watchdog.as_ref().map(feed);
        [deadline, report, console, watchdog]
            .into_iter()
            .flatten()
            .min()
            .map(|due| due - now)
    }

    fn poll(&self, timeout: Option<Duration>) -> Result<(), KernelError> {
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd()];
        fds.extend(self.notify.values().map(AsFd::as_fd));
        fds.extend(self.processes.unconfirmed());
        fds.extend(self.power.iter().flat_map(PowerButtons::descriptors));
        let mut polled: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = timeout.and_then(|span| Timespec::try_from(span).ok());
        match rustix::event::poll(&mut polled, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(KernelError::Poll(error.into())),
        }
    }

    fn collect_notices(&mut self) {
        let mut received = Vec::new();
        for (unit, socket) in &self.notify {
            received.extend(
                std::iter::from_fn(|| socket.receive())
                    .take(DATAGRAMS_AT_ONCE)
                    .map(|datagram| (*unit, datagram)),
            );
        }
        for (unit, datagram) in received {
            let Some(run) = self.processes.main_run(unit, datagram.sender) else {
                if !self.strangers_named.insert(unit) {
                    continue;
                }
                let (name, sender) = (&self.units.unit(unit).name, datagram.sender);
                let text = format!(
                    "{name}: ignored a notification from process {sender}, not its main one"
                );
                self.console.log(Severity::Warning, &text);
                continue;
            };
            let notices = crate::notify::parse(&datagram.bytes);
            self.queued.extend(
                notices
                    .into_iter()
                    .map(|notice| Event::Notified { run, notice }),
            );
            if let (Some(request), Kind::Service(service)) = (
                crate::notify::store_request(&datagram.bytes),
                &self.units.unit(unit).kind,
            ) {
                let max = service.listen.len() + service.descriptor_store_max;
                self.descriptors
                    .store(unit, request, datagram.descriptors, max);
            }
        }
    }

    fn collect_executed(&mut self) {
        self.queued.extend(self.processes.confirm());
    }

    fn collect_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            let (leave, why) = match signal {
                Received::ChildEnded => continue,
                Received::CtrlAltDel => (Leave::Reboot, "Ctrl-Alt-Del"),
                Received::Reboot => (Leave::Reboot, "SIGRTMIN+5"),
                Received::PowerOff => (Leave::PowerOff, "SIGRTMIN+4"),
                Received::PowerFail => (Leave::PowerOff, "SIGPWR"),
                Received::Halt => (Leave::Halt, "SIGRTMIN+3"),
                Received::Other(number) => {
                    self.console
                        .log(Severity::Info, &format!("signal {number} ignored"));
                    continue;
                }
            };
            self.console
                .log(Severity::Info, &format!("{why}: going down"));
            self.queued.push_back(Event::Shutdown(leave));
        }
        // SIGCHLD coalesces, so its number says nothing: reap until nobody is left.
        self.queued.extend(self.processes.reap());
    }

    /// Starts a process, or says what happened instead.
    fn spawn(&mut self, run: Run, id: UnitId, command: usize) -> Result<(), Event> {
        let unit = self.units.unit(id);
        let Kind::Service(service) = &unit.kind else {
            return Ok(());
        };
        if let Some(reason) = self.unmet_condition(id) {
            return Err(Event::ConditionUnmet { run, reason });
        }
        let failed = |error: String| Event::SpawnFailed { run, error };
        let socket = self
            .notify
            .get(&id)
            .map(|socket| socket.path.to_string_lossy().into_owned());
        let around = Surroundings {
            accounts: &self.accounts,
            notify_socket: socket.as_deref(),
            descriptor_names: self.descriptors.names(id),
        };
        let plan =
            plan(unit, service, command, &around).map_err(|error| failed(crate::chain(&error)))?;
        let group = match &mut self.cgroups {
            Some(cgroups) => {
                let (group, unset) = cgroups
                    .prepare(&unit.name, &service.cgroup)
                    .map_err(|error| failed(format!("cannot make its control group: {error}")))?;
                for text in unset {
                    self.console.log(Severity::Warning, &text);
                }
                Some(group)
            }
            None => None,
        };
        self.processes
            .spawn(run, id, plan, group.as_ref(), &self.descriptors.of(id))
            .map_err(|error| failed(format!("cannot fork: {error}")))
    }

    fn unmet_condition(&self, id: UnitId) -> Option<String> {
        let conditions = &self.units.unit(id).conditions;
        if conditions.is_empty() {
            return None;
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (cpuinfo, command_line) = (read("/proc/cpuinfo"), read("/proc/cmdline"));
        let facts = Facts {
            cpuinfo: &cpuinfo,
            command_line: &command_line,
            path_exists: &|path| path.exists(),
        };
        condition::unmet(conditions, &facts)
    }
}

/// `CLOCK_BOOTTIME` now.
pub fn now() -> Moment {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let ms = time
        .tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000);
    Moment {
        uptime_ms: u64::try_from(ms).unwrap_or_default(),
    }
}

fn bind_listening_sockets(units: &UnitSet) -> Result<Descriptors, KernelError> {
    let mut descriptors = Descriptors::default();
    for (id, unit) in units.iter() {
        if let Kind::Service(service) = &unit.kind {
            descriptors
                .listen(id, &service.listen)
                .map_err(|source| KernelError::Listen {
                    unit: unit.name.clone(),
                    source,
                })?;
        }
    }
    Ok(descriptors)
}

fn bind_notify_sockets(
    units: &UnitSet,
    run_dir: &Path,
    accounts: &Accounts,
) -> Result<BTreeMap<UnitId, NotifySocket>, KernelError> {
    let directory = run_dir.join("notify");
    fs::create_dir_all(&directory).map_err(|source| KernelError::RunDirectory {
        path: directory.clone(),
        source,
    })?;
    let mut sockets = BTreeMap::new();
    for (id, unit) in units.iter() {
        let Kind::Service(service) = &unit.kind else {
            continue;
        };
        if service.service_type != crate::unit::ServiceType::Notify {
            continue;
        }
        // A missing user fails the spawn, with its name; here root's socket does no harm.
        let user = service
            .privileges
            .user
            .as_ref()
            .and_then(|name| accounts.user(name).ok());
        let bound =
            NotifySocket::bind(&directory.join(&unit.name), user.map_or(0, |user| user.uid));
        let socket = bound.map_err(|source| KernelError::NotifySocket {
            unit: unit.name.clone(),
            source,
        })?;
        sockets.insert(id, socket);
    }
    Ok(sockets)
}
