//! A running QEMU. Dropping it ends QEMU, also while a test panics.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use mnemos_image::{Cache, cmd};

use crate::accelerator::Accelerator;
use crate::arguments::{OVMF_VARS, Paths, QEMU, arguments};
use crate::console::{Console, Line};
use crate::machine::{Firmware, Forward, Machine};
use crate::marker::{Marker, Ready};
use crate::qmp::Qmp;

/// A booted machine.
#[derive(Debug)]
pub struct Vm {
    console: Arc<Console>,
    child: Arc<Mutex<Child>>,
    /// Owns the process: Linux kills QEMU when this thread ends, so it ends last.
    owner: Option<JoinHandle<()>>,
    started: Instant,
    forwards: Vec<Forward>,
    paths: Paths,
    folder: PathBuf,
    keep_logs: AtomicBool,
}

impl Vm {
    /// Starts QEMU. Returns at once; what boots is seen on the console.
    ///
    /// # Errors
    /// When QEMU or its firmware is missing, or a port is taken.
    pub fn boot(machine: &Machine, accelerator: Accelerator) -> Result<Self> {
        let folder = fresh_folder()?;
        let paths = Paths {
            qmp: folder.join("qmp"),
            serial_log: folder.join("serial.log"),
            control: folder.join("control"),
            uefi_variables: folder.join("uefi-variables.fd"),
        };
        if machine.firmware == Firmware::Uefi {
            fs::copy(OVMF_VARS, &paths.uefi_variables).with_context(|| {
                format!("cannot copy {OVMF_VARS}: is the package ovmf installed?")
            })?;
        }
        let mut machine = machine.clone();
        for forward in machine.network.iter_mut().flatten() {
            if forward.host == 0 {
                forward.host = free_port()?;
            }
        }
        // If this program is killed, so is QEMU: the option holds across the change of program.
        let mut command = cmd::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args(arguments(&machine, accelerator, &paths));
        // A group of its own: a Ctrl-C at the terminal is ours to handle.
        command.process_group(0);
        command.stdout(Stdio::piped());
        command.stderr(File::create(folder.join("qemu.log"))?);
        let console = Arc::new(Console::default());
        let started = Instant::now();
        let (child, owner) = own(command, Arc::clone(&console))?;
        Ok(Self {
            console,
            child,
            owner: Some(owner),
            started,
            forwards: machine.network.unwrap_or_default(),
            paths,
            folder,
            keep_logs: AtomicBool::new(false),
        })
    }

    /// The first serial port.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// When QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The loopback port that leads to `guest`.
    ///
    /// # Errors
    /// When no such forward was asked for.
    pub fn port(&self, guest: u16) -> Result<u16> {
        let forward = self.forwards.iter().find(|forward| forward.guest == guest);
        forward
            .map(|forward| forward.host)
            .ok_or_else(|| anyhow!("no host port leads to guest port {guest}"))
    }

    /// Waits for the first line since power-on for which `find` has an answer.
    ///
    /// # Errors
    /// QEMU ended or the limit passed. The logs are kept, and the error says where.
    pub fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        find: impl FnMut(&Line) -> Option<T>,
    ) -> Result<T> {
        self.wait_for_after(0, what, limit, find)
    }

    /// As [`Vm::wait_for`], from console line `position` on.
    ///
    /// # Errors
    /// As [`Vm::wait_for`].
    pub fn wait_for_after<T>(
        &self,
        position: usize,
        what: &str,
        limit: Duration,
        find: impl FnMut(&Line) -> Option<T>,
    ) -> Result<T> {
        let found = self.console.wait_for(what, position, limit, find);
        found.map_err(|error| self.explain(error.into()))
    }

    /// Waits for `MNEMOS-READY`. An emergency or a node that cannot serve ends the wait early.
    ///
    /// # Errors
    /// The node said why it will not become ready, QEMU ended, or the limit passed.
    pub fn wait_for_ready(&self, limit: Duration) -> Result<Ready> {
        let outcome =
            self.wait_for("MNEMOS-READY", limit, |line| match line.marker.clone()? {
                Marker::Ready(ready) => Some(Ok(ready)),
                Marker::Emergency(reason) => {
                    Some(Err(format!("the node stopped: {}", reason.reason)))
                }
                Marker::CannotServe(reason) => {
                    Some(Err(format!("the node cannot serve: {}", reason.reason)))
                }
                Marker::Stage(_) => None,
            })?;
        outcome.map_err(|reason| self.explain(anyhow!(reason)))
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// When QEMU is gone.
    pub fn press_power_button(&self) -> Result<()> {
        Qmp::connect(&self.paths.qmp)?.execute("system_powerdown")?;
        Ok(())
    }

    /// Presses the power button and waits until the machine is off.
    ///
    /// # Errors
    /// When it is still on after `limit`, or QEMU ended with an error.
    pub fn power_off(&self, limit: Duration) -> Result<()> {
        // Before its driver is loaded nobody sees the button.
        self.wait_for("the devices stage", limit, |line| {
            let Some(Marker::Stage(stage)) = &line.marker else {
                return None;
            };
            (stage.stage == "devices" && stage.state != "start").then_some(())
        })?;
        self.press_power_button()?;
        self.wait_for_exit(limit)
    }

    /// Waits until QEMU has ended well.
    ///
    /// # Errors
    /// When it still runs after `limit`, or ended with an error.
    pub fn wait_for_exit(&self, limit: Duration) -> Result<()> {
        let status = self
            .console
            .wait_for_exit(limit)
            .map_err(|error| self.explain(error.into()))?;
        if status != GOOD_EXIT {
            bail!(self.explain(anyhow!("QEMU ended with {status}")));
        }
        Ok(())
    }

    /// Sends one line over the second serial port and returns the line that answers it.
    ///
    /// # Errors
    /// When nothing in the guest answers within `limit`.
    pub fn control(&self, request: &str, limit: Duration) -> Result<String> {
        let stream = UnixStream::connect(&self.paths.control)
            .context("cannot reach the second serial port")?;
        stream.set_read_timeout(Some(limit))?;
        (&stream).write_all(format!("{request}\n").as_bytes())?;
        let mut answer = String::new();
        let read = BufReader::new(&stream).read_line(&mut answer);
        read.with_context(|| format!("no answer to {request:?} within {} s", limit.as_secs()))?;
        Ok(answer.trim().to_owned())
    }

    /// Ends QEMU at once, as if the plug were pulled.
    pub fn kill(&self) {
        // It may have ended by itself.
        let _ = self
            .child
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kill();
    }

    /// Keeps console and QEMU logs after this machine is gone, and returns their folder.
    pub fn keep_logs(&self) -> &Path {
        self.keep_logs.store(true, Ordering::Relaxed);
        &self.folder
    }

    /// `error` with what QEMU said itself and where the logs stay.
    #[must_use]
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let folder = self.keep_logs();
        let said = fs::read_to_string(folder.join("qemu.log")).unwrap_or_default();
        // TCG complains about features of the CPU model that it lacks; harmless, and always there.
        let said: Vec<&str> = said
            .lines()
            .filter(|line| !line.contains("TCG doesn't support"))
            .collect();
        let said = if said.is_empty() {
            String::new()
        } else {
            format!("QEMU said: {}\n", said.join("\n"))
        };
        anyhow!("{error:#}\n{said}logs are in {}", folder.display())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
        if let Some(owner) = self.owner.take() {
            // It only panics when a lock was poisoned; there is nothing left to end then.
            let _ = owner.join();
        }
        let keep = self.keep_logs.load(Ordering::Relaxed) || std::thread::panicking();
        if !keep {
            // Logs in the cache harm nobody.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// What a clean end of QEMU reads as.
const GOOD_EXIT: &str = "exit status: 0";

/// Starts the process in a thread of its own that reads its output to the end and then reaps it.
fn own(mut command: Command, console: Arc<Console>) -> Result<(Arc<Mutex<Child>>, JoinHandle<()>)> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let owner = std::thread::spawn(move || {
        let spawned = command.spawn().map(|mut child| {
            let output = child.stdout.take();
            (Arc::new(Mutex::new(child)), output)
        });
        let (child, output) = match spawned {
            Ok(started) => started,
            Err(error) => {
                // The receiver waits for exactly one message.
                let _ = sender.send(Err(error));
                return;
            }
        };
        // As above.
        let _ = sender.send(Ok(Arc::clone(&child)));
        if let Some(output) = output {
            console.read(output);
        }
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        console.set_exit(match status {
            Ok(status) => status.to_string(),
            Err(error) => format!("cannot tell: {error}"),
        });
    });
    let started = receiver
        .recv()
        .context("the thread that starts QEMU is gone")?;
    let child = started.context("cannot start setpriv, from the package util-linux")?;
    Ok((child, owner))
}

/// A folder for one machine's logs and sockets. Short, since a socket's path has at most 107 bytes.
fn fresh_folder() -> Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{number}", std::process::id());
    let folder = Cache::open()?.dir("vm")?.join(name);
    if folder.as_os_str().len() > 90 {
        bail!(
            "{} is too long for a socket: give a shorter MNEMOS_CACHE",
            folder.display()
        );
    }
    // Left by a process that had this number before.
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot empty {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// A loopback port nobody listens on. QEMU cannot take a listening socket for a forward, so another program
/// may still be faster; QEMU then ends, and its log says so.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on loopback")?;
    Ok(listener.local_addr()?.port())
}
