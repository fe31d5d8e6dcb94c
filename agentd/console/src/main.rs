//! `mnemos-console`: observes the node, draws tty1, and tells serial consoles what is new.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mnemos_console::{
    Announcer, Message, Observer, Picture, Port, Screen, Sources, render, serial_consoles,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;
use signal_hook::consts::SIGTERM;
use signal_hook::flag;

/// While the node starts, things change quickly and somebody watches.
const TICK_STARTING: Duration = Duration::from_millis(500);
/// Later the uptime and the memory gauge are what moves.
const TICK_READY: Duration = Duration::from_secs(2);
/// Unchanged lines are repainted this often, in case kernel messages ran over them.
const REPAINT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let screen = open("screen", Path::new("/dev/tty1"), Screen::open);
    let ports = open_ports();
    if screen.is_none() && ports.is_empty() {
        eprintln!("neither a screen nor a serial console to write to");
        return ExitCode::FAILURE;
    }
    let stopping = Arc::new(AtomicBool::new(false));
    if let Err(error) = flag::register(SIGTERM, Arc::clone(&stopping)) {
        eprintln!("cannot watch for SIGTERM: {error}");
    }
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        eprintln!("cannot notify PID 1: {error}");
    }
    let mut console = Console {
        screen,
        ports,
        announcer: Announcer::default(),
        repaint_at: Instant::now(),
    };
    let mut observer = Observer::new(Sources::default());
    loop {
        let mut picture = observer.observe();
        picture.stopping = stopping.load(Ordering::Relaxed);
        console.show(&picture);
        if picture.stopping {
            return ExitCode::SUCCESS;
        }
        let tick = if picture.is_ready() {
            TICK_READY
        } else {
            TICK_STARTING
        };
        console.flush_until(Instant::now() + tick);
    }
}

/// A missing screen or serial line is a line in the journal; the other still works.
fn open<T>(what: &str, path: &Path, open: impl Fn(&Path) -> std::io::Result<T>) -> Option<T> {
    open(path)
        .inspect_err(|error| eprintln!("cannot open {what} {}: {error}", path.display()))
        .ok()
}

fn open_ports() -> Vec<Port> {
    let consoles = std::fs::read_to_string("/proc/consoles").unwrap_or_default();
    let paths = serial_consoles(&consoles)
        .into_iter()
        .map(|name| Path::new("/dev").join(name));
    paths
        .filter_map(|path| open("serial console", &path, Port::open))
        .collect()
}

/// Everything written to.
struct Console {
    screen: Option<Screen>,
    ports: Vec<Port>,
    announcer: Announcer,
    repaint_at: Instant,
}

impl Console {
    fn show(&mut self, picture: &Picture) {
        for message in self.announcer.observe(picture) {
            self.announce(&message);
        }
        let now = Instant::now();
        let everything = now >= self.repaint_at;
        if everything {
            self.repaint_at = now + REPAINT;
        }
        let Some(screen) = &mut self.screen else {
            return;
        };
        let size = screen.size();
        if let Err(error) = screen.draw(size, render(picture, size), everything) {
            eprintln!("cannot draw the screen: {error}");
            self.screen = None;
        }
    }

    fn announce(&mut self, message: &Message) {
        for port in &mut self.ports {
            port.push(message);
        }
    }

    /// Hands serial lines what they take, until the next observation is due.
    fn flush_until(&mut self, due: Instant) {
        loop {
            self.ports.retain_mut(|port| match port.flush() {
                Ok(()) => true,
                Err(error) => {
                    eprintln!("a serial console is gone: {error}");
                    false
                }
            });
            let left = due.saturating_duration_since(Instant::now());
            let Ok(timeout) = Timespec::try_from(left) else {
                return;
            };
            let pending = self.ports.iter().filter(|port| port.is_pending());
            let mut fds: Vec<PollFd<'_>> = pending
                .map(|port| PollFd::new(port, PollFlags::OUT))
                .collect();
            // A signal cuts the wait short: SIGTERM is shown at once.
            if poll(&mut fds, Some(&timeout)).is_err() || left.is_zero() {
                return;
            }
        }
    }
}
