//! Reads the sources once and makes a [`Picture`] of them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::http;
use crate::picture::{Agent, Link, Picture};
use crate::status::{InitReport, Status};

/// A local answer takes milliseconds; while the agent is stuck the screen still moves.
const AGENT_DEADLINE: Duration = Duration::from_secs(1);
/// Largest report of PID 1 that is read, in bytes.
const MAX_REPORT_BYTES: u64 = 256 * 1024;
/// `ARPHRD_ETHER` in `/sys/class/net/*/type`: linux/if_arp.h.
const ETHERNET: &str = "1";

/// Where the facts are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The agent's local socket.
    pub agent_socket: PathBuf,
    /// PID 1's report.
    pub init_report: PathBuf,
    /// The kernel's list of network interfaces.
    pub interfaces: PathBuf,
}

impl Default for Sources {
    fn default() -> Sources {
        Sources {
            agent_socket: "/run/mnemos/agent/local.sock".into(),
            init_report: "/run/mnemos/init/services.json".into(),
            interfaces: "/sys/class/net".into(),
        }
    }
}

/// Observes again and again, and remembers what the agent said last.
#[derive(Debug, Default)]
pub struct Observer {
    sources: Sources,
    last: Option<Box<Status>>,
    silence: Option<String>,
}

impl Observer {
    /// An observer that has seen nothing yet.
    pub fn new(sources: Sources) -> Observer {
        Observer {
            sources,
            ..Observer::default()
        }
    }

    /// Everything known now.
    pub fn observe(&mut self) -> Picture {
        let answer = fetch_status(&self.sources.agent_socket);
        self.log_silence(answer.as_ref().err());
        let agent = match answer {
            Ok(status) => {
                self.last = Some(Box::new(status.clone()));
                Agent::Answers(Box::new(status))
            }
            Err(reason) => match &self.last {
                Some(last) => Agent::Silent {
                    last: last.clone(),
                    reason,
                },
                None => Agent::NotYet,
            },
        };
        Picture {
            uptime_ms: uptime_ms(),
            agent,
            // No report yet, or one this version cannot read: the screen shows the rest.
            init: read_report(&self.sources.init_report).ok(),
            links: read_links(&self.sources.interfaces).unwrap_or_default(),
            stopping: false,
        }
    }

    /// A line in the journal when the agent falls silent for another reason than before.
    fn log_silence(&mut self, reason: Option<&String>) {
        if let Some(reason) = reason.filter(|reason| self.silence.as_ref() != Some(reason)) {
            eprintln!("no status from the agent: {reason}");
        }
        self.silence = reason.cloned();
    }
}

/// The error and all its causes, for the journal and the screen.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn fetch_status(socket: &Path) -> Result<Status, String> {
    let body = http::get(socket, "/status", AGENT_DEADLINE).map_err(|error| chain(&error))?;
    serde_json::from_slice(&body).map_err(|error| format!("its status cannot be read: {error}"))
}

fn read_report(path: &Path) -> io::Result<InitReport> {
    let mut text = String::new();
    File::open(path)?
        .take(MAX_REPORT_BYTES)
        .read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Ethernet cards by name; interfaces without a device behind them have no cable to check.
fn read_links(interfaces: &Path) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(interfaces)? {
        let entry = entry?;
        let read = |file: &str| {
            // An interface that is down refuses to tell its carrier.
            fs::read_to_string(entry.path().join(file))
                .map(|text| text.trim().to_owned())
                .unwrap_or_default()
        };
        if read("type") == ETHERNET && entry.path().join("device").exists() {
            let name = entry.file_name().to_string_lossy().into_owned();
            links.push(Link {
                name,
                mac: read("address"),
                carrier: read("carrier") == "1",
            });
        }
    }
    links.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(links)
}

/// Milliseconds since the kernel started, time asleep included.
pub fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let milliseconds = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or_default();
    seconds * 1000 + milliseconds
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn lists_ethernet_cards_with_their_link_state() {
        let folder = tempfile::tempdir().unwrap();
        let cards = [
            ("lo", "772", "00:00:00:00:00:00", "1"),
            ("ifb0", "1", "52:54:00:00:00:01", "1"),
            ("ens4", "1", "52:54:00:00:00:02", "0"),
        ];
        for (name, kind, mac, carrier) in cards {
            let card = folder.path().join(name);
            fs::create_dir(&card).unwrap();
            fs::write(card.join("type"), format!("{kind}\n")).unwrap();
            fs::write(card.join("address"), format!("{mac}\n")).unwrap();
            fs::write(card.join("carrier"), format!("{carrier}\n")).unwrap();
        }
        fs::create_dir_all(folder.path().join("ens3/device")).unwrap();
        fs::create_dir(folder.path().join("ens4/device")).unwrap();
        fs::write(folder.path().join("ens3/type"), "1\n").unwrap();
        let links = read_links(folder.path()).unwrap();
        let expected = [
            Link {
                name: "ens3".into(),
                mac: String::new(),
                carrier: false,
            },
            Link {
                name: "ens4".into(),
                mac: "52:54:00:00:00:02".into(),
                carrier: false,
            },
        ];
        assert_eq!(links, expected);
    }

    #[test]
    fn an_agent_that_answered_once_falls_silent() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("local.sock");
        let sources = Sources {
            agent_socket: socket.clone(),
            ..Sources::default()
        };
        let mut observer = Observer::new(sources);
        assert_eq!(observer.observe().agent, Agent::NotYet);

        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let body = r#"{"name":"mnemos-a1b2c3","ready":true,"something_new":[1],
                "engines":[{"model":null,"detail":null,"state":"starting"}],
                "self_test":{"state":"pending","detail":null,"decode_tokens_per_s":null}}"#;
            let (mut stream, _) = listener.accept().unwrap();
            assert_ne!(stream.read(&mut [0; 1024]).unwrap(), 0);
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        });
        assert!(observer.observe().is_ready());
        server.join().unwrap();
        match observer.observe().agent {
            Agent::Silent { last, reason } => {
                assert_eq!(last.name, "mnemos-a1b2c3");
                assert!(reason.starts_with("cannot connect: "), "{reason}");
            }
            other => panic!("expected silence, got {other:?}"),
        }
    }

    #[test]
    fn uptime_moves_forward() {
        let before = uptime_ms();
        assert!(before > 0 && uptime_ms() >= before);
    }
}
