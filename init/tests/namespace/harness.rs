//! Starts the built binary as PID 1 of new name spaces, with units and scripts in a folder of the test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};
use rustix_libc_wrappers::process::SignalExt;
use serde_json::Value;

/// Longer than anything here takes on a busy machine: its end means a defect.
const DEADLINE: Duration = Duration::from_secs(60);

const INIT: &str = env!("CARGO_BIN_EXE_mnemos-init");

/// Tells this test program, started as a service, to act as one; the value is the path it waits for.
const NOTIFIER: &str = "MNEMOS_TEST_GATE";

/// Marks the process that says READY=1 without being the service's main one.
const LIAR: &str = "MNEMOS_TEST_LIAR";

/// Waits for `condition`, and says what it waited for when it never comes true.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        pause();
    }
}

/// Between two looks at something that cannot be waited on.
fn pause() {
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: 10_000_000,
    };
    let _ = rustix::event::poll(&mut [], Some(&tick));
}

/// `services.json`.
pub(crate) struct Report(Value);

impl Report {
    pub(crate) fn unit(&self, name: &str) -> Value {
        let units = self.0["units"].as_array().cloned().unwrap_or_default();
        units
            .into_iter()
            .find(|unit| unit["name"] == name)
            .unwrap_or(Value::Null)
    }
}

/// One PID 1 and its folder; dropping it kills everything inside.
pub(crate) struct Init {
    dir: tempfile::TempDir,
    unshare: Option<Child>,
}

impl Init {
    pub(crate) fn prepare() -> Init {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["units", "run", "cgroup"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Init { dir, unshare: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a shell script and returns its path.
    pub(crate) fn script(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    pub(crate) fn fifo(&self, name: &str) {
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            self.path(name),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
    }

    pub(crate) fn unit(&self, name: &str, text: &str) {
        fs::write(self.path("units").join(name), text).unwrap();
    }

    /// Starts PID 1 and waits for its first report.
    pub(crate) fn start(&mut self) {
        self.spawn();
        let report = self.path("run/services.json");
        wait_for("the first services.json", || report.exists());
    }

    /// Starts PID 1, which must refuse; returns its stderr.
    pub(crate) fn fails_to_start(&mut self) -> String {
        self.spawn();
        let status = self.unshare.take().map(|mut child| child.wait().unwrap());
        assert!(status.is_some_and(|status| !status.success()));
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    /// In the new mount name space: a cgroup2 of the test's own and an empty /run, then PID 1.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where these tests start processes"
    )]
    fn spawn(&mut self) {
        let setup = format!(
            "mount -t tmpfs run /run && mount -t cgroup2 cgroup {dir}/cgroup && mkdir -p {group} && \
             exec {INIT} namespace {dir}/units {dir}/run {group}",
            dir = self.dir.path().display(),
            group = self.group().display(),
        );
        let output = |name| Stdio::from(fs::File::create(self.path(name)).unwrap());
        let child = Command::new("unshare")
            .args([
                "--pid",
                "--mount",
                "--fork",
                "--mount-proc",
                "--kill-child",
                "/bin/sh",
                "-c",
                &setup,
            ])
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .unwrap();
        self.unshare = Some(child);
    }

    fn group(&self) -> PathBuf {
        self.path("cgroup")
            .join(self.dir.path().file_name().unwrap())
    }

    /// PID 1 as this side sees it.
    fn pid(&self) -> Option<Pid> {
        let unshare = self.unshare.as_ref()?.id();
        let children =
            fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        Pid::from_raw(children.split_whitespace().next()?.parse().ok()?)
    }

    /// What PID 1 has as children, zombies included.
    pub(crate) fn children(&self) -> Vec<String> {
        let pid = self.pid().expect("PID 1 runs").as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    pub(crate) fn report(&self) -> Report {
        let text = fs::read(self.path("run/services.json")).unwrap();
        Report(serde_json::from_slice(&text).unwrap())
    }

    pub(crate) fn wait_until(&self, what: &str, condition: impl Fn(&Report) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !condition(&self.report()) {
            let stderr = fs::read_to_string(self.path("stderr")).unwrap_or_default();
            assert!(
                Instant::now() < until,
                "waited in vain until {what}: {}\n{stderr}",
                self.report().0
            );
            pause();
        }
    }

    /// Asks PID 1 to power off as poweroff(8) does and waits for its end; returns how long that took.
    pub(crate) fn stop(&mut self) -> Duration {
        let pid = self.pid().expect("PID 1 runs");
        let begun = Instant::now();
        let power_off = Signal::rt(4).expect("SIGRTMIN+4");
        rustix::process::kill_process(pid, power_off).unwrap();
        self.wait_for_end();
        begun.elapsed()
    }

    fn wait_for_end(&mut self) {
        let mut unshare = self.unshare.take().expect("it runs");
        let id = Pid::from_raw(i32::try_from(unshare.id()).unwrap()).unwrap();
        let pidfd = rustix::process::pidfd_open(id, PidfdFlags::empty()).unwrap();
        let timeout = Timespec::try_from(DEADLINE).unwrap();
        let ended =
            rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap();
        assert_eq!(
            ended,
            1,
            "PID 1 did not end: {}",
            fs::read_to_string(self.path("stderr")).unwrap()
        );
        let status = unshare.wait().unwrap();
        assert!(
            status.success(),
            "{status}: {}",
            fs::read_to_string(self.path("stderr")).unwrap()
        );
    }

    /// Starts PID 1 and waits for it to end well without being asked from outside.
    pub(crate) fn ends_by_itself(&mut self) {
        self.spawn();
        self.wait_for_end();
    }

    /// Sends SIGTERM to PID 1.
    pub(crate) fn terminate(&self) {
        rustix::process::kill_process(self.pid().expect("PID 1 runs"), Signal::TERM).unwrap();
    }

    /// The built program under another name.
    pub(crate) fn program_as(&self, name: &str) -> String {
        let path = self.path(name);
        std::os::unix::fs::symlink(INIT, &path).unwrap();
        path.display().to_string()
    }

    pub(crate) fn stdout(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }

    pub(crate) fn has(&self, file: &str) -> bool {
        self.path(file).exists()
    }

    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        fs::read_to_string(self.path(file))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// A file as PID 1 sees it.
    pub(crate) fn inside(&self, path: &str) -> String {
        let pid = self.pid().expect("PID 1 runs").as_raw_nonzero();
        fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap()
    }
}

impl Drop for Init {
    fn drop(&mut self) {
        if let Some(mut unshare) = self.unshare.take() {
            let _ = unshare.kill();
            let _ = unshare.wait();
        }
        self.remove_groups();
    }
}

impl Init {
    /// Groups outlive the name spaces; only an empty one can go, so a process that survived shows up as one left over.
    #[expect(
        clippy::disallowed_methods,
        reason = "umount(8) undoes what mount(8) did"
    )]
    fn remove_groups(&self) {
        let script = format!(
            "mount -t cgroup2 cgroup {dir}/cgroup && find {group} -depth -type d -exec rmdir {{}} +",
            dir = self.dir.path().display(),
            group = self.group().display(),
        );
        let _ = Command::new("unshare")
            .args(["--mount", "/bin/sh", "-c", &script])
            .stderr(Stdio::null())
            .status();
    }
}

/// The command line of this test program as a service that waits for a file before it is ready, and the variable that
/// carries the file's path.
pub(crate) fn notifier() -> (String, &'static str) {
    let program = std::env::current_exe().unwrap();
    (
        format!(
            "{} --exact a_helper_process_cannot_say_ready --nocapture",
            program.display()
        ),
        NOTIFIER,
    )
}

/// The other side of [`notifier`]; returns at once in a normal test run.
pub(crate) fn act_as_notifier() {
    let Some(gate) = std::env::var_os(NOTIFIER) else {
        return;
    };
    let socket = UnixDatagram::unbound().unwrap();
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap();
    let say = |text: &str| {
        assert_eq!(
            socket.send_to(text.as_bytes(), Path::new(&path)).unwrap(),
            text.len()
        )
    };
    if std::env::var_os(LIAR).is_some() {
        return say("READY=1");
    }
    liar();
    say("STATUS=waiting at the gate");
    wait_for("the gate", || Path::new(&gate).exists());
    say("READY=1");
    wait_for("the end", || false);
}

/// Another process of the service says READY=1, which must not count.
#[expect(clippy::disallowed_methods, reason = "the process that lies")]
fn liar() {
    let mut liar = Command::new(std::env::current_exe().unwrap());
    let status = liar
        .args(std::env::args_os().skip(1))
        .env(LIAR, "1")
        .status()
        .unwrap();
    assert!(status.success());
}
