//! Descriptors PID 1 keeps for services over their restarts: sockets it bound for them, and what they asked it to store.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::notify::StoreRequest;
use crate::unit::{Listen, ListenKind, UnitId};

/// systemd's own sockets for journald have the same: a burst at start must not block who sends it.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A connection that waits for its service is not refused.
const BACKLOG: i32 = 4096;

struct Kept {
    name: String,
    fd: OwnedFd,
}

/// What is kept for each unit.
#[derive(Default)]
pub(super) struct Descriptors {
    kept: BTreeMap<UnitId, Vec<Kept>>,
}

impl Descriptors {
    /// Binds the sockets of a unit.
    ///
    /// # Errors
    /// What socket, bind or listen said.
    pub(super) fn listen(&mut self, unit: UnitId, sockets: &[Listen]) -> io::Result<()> {
        for socket in sockets {
            let name = socket
                .path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            self.kept.entry(unit).or_default().push(Kept {
                name,
                fd: bind(socket)?,
            });
        }
        Ok(())
    }

    /// Carries out what a service asked for, as long as it has fewer than `max` stored. What is not kept is closed.
    pub(super) fn store(
        &mut self,
        unit: UnitId,
        request: StoreRequest,
        sent: Vec<OwnedFd>,
        max: usize,
    ) {
        let kept = self.kept.entry(unit).or_default();
        match request {
            StoreRequest::Keep(name) => {
                drop_hung_up(kept);
                for fd in sent {
                    if kept.len() < max {
                        kept.push(Kept {
                            name: name.clone(),
                            fd,
                        });
                    }
                }
            }
            StoreRequest::Remove(name) => kept.retain(|entry| entry.name != name),
        }
    }

    /// What the next process of `unit` gets, in order.
    pub(super) fn of(&self, unit: UnitId) -> Vec<BorrowedFd<'_>> {
        self.kept
            .get(&unit)
            .into_iter()
            .flatten()
            .map(|entry| entry.fd.as_fd())
            .collect()
    }

    /// Their names for `$LISTEN_FDNAMES`; `None` when there are none.
    pub(super) fn names(&self, unit: UnitId) -> Option<String> {
        let kept = self.kept.get(&unit).filter(|kept| !kept.is_empty())?;
        Some(
            kept.iter()
                .map(|entry| entry.name.as_str())
                .collect::<Vec<_>>()
                .join(":"),
        )
    }
}

fn bind(socket: &Listen) -> io::Result<OwnedFd> {
    if let Some(parent) = socket.path.parent() {
        fs::create_dir_all(parent)?;
    }
    let _ = fs::remove_file(&socket.path);
    let kind = match socket.kind {
        ListenKind::Stream => SocketType::STREAM,
        ListenKind::Datagram => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    sockopt::set_socket_passcred(&fd, true)?;
    // Without CAP_NET_ADMIN the default must do.
    let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER_BYTES);
    rustix::net::bind(&fd, &SocketAddrUnix::new(&socket.path)?)?;
    fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o666))?;
    if socket.kind == ListenKind::Stream {
        rustix::net::listen(&fd, BACKLOG)?;
    }
    Ok(fd)
}

/// Stored connections whose other side is gone would only fill the store.
fn drop_hung_up(kept: &mut Vec<Kept>) {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    kept.retain(|entry| {
        let mut polled = [PollFd::new(&entry.fd, PollFlags::empty())];
        let _ = rustix::event::poll(&mut polled, Some(&now));
        // A listening or unconnected socket never hangs up.
        !polled[0]
            .revents()
            .intersects(PollFlags::HUP | PollFlags::ERR)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn sockets_are_there_and_dead_connections_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let listen = |kind, name: &str| Listen {
            kind,
            path: dir.path().join("sub").join(name),
        };
        let sockets = [
            listen(ListenKind::Stream, "stdout"),
            listen(ListenKind::Datagram, "socket"),
        ];
        let mut descriptors = Descriptors::default();
        let unit = UnitId(3);
        descriptors.listen(unit, &sockets).unwrap();
        UnixStream::connect(&sockets[0].path).unwrap();
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"x", &sockets[1].path)
            .unwrap();
        let keep = |descriptors: &mut Descriptors, fd: UnixStream| {
            descriptors.store(
                unit,
                StoreRequest::Keep("stored".to_owned()),
                vec![fd.into()],
                4,
            );
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        keep(&mut descriptors, ours);
        drop(theirs);
        let (ours, _alive) = UnixStream::pair().unwrap();
        keep(&mut descriptors, ours);
        assert_eq!(
            descriptors.names(unit).as_deref(),
            Some("stdout:socket:stored")
        );
        assert_eq!(descriptors.of(unit).len(), 3);
        descriptors.store(
            unit,
            StoreRequest::Remove("stored".to_owned()),
            Vec::new(),
            4,
        );
        assert_eq!(descriptors.names(unit).as_deref(), Some("stdout:socket"));
        assert_eq!(descriptors.names(UnitId(0)), None);
    }
}
