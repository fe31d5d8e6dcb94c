//! One sd_notify socket a unit: the path says which unit speaks, the kernel says which process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::net::SocketAddrUnix;

use crate::sys::{self, Datagram};

/// A bound datagram socket.
pub(super) struct NotifySocket {
    fd: OwnedFd,
    /// For `$NOTIFY_SOCKET`.
    pub(super) path: PathBuf,
}

impl NotifySocket {
    /// Binds `path`, for `uid` (and root) alone to send to.
    ///
    /// # Errors
    /// What socket, bind or chown said.
    pub(super) fn bind(path: &Path, uid: u32) -> io::Result<NotifySocket> {
        let _ = fs::remove_file(path);
        let fd = sys::notify_socket()?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        chown(path, Some(uid), None)?;
        Ok(NotifySocket {
            fd,
            path: path.to_owned(),
        })
    }

    /// The next datagram; `None` when there is none.
    pub(super) fn receive(&self) -> Option<Datagram> {
        sys::receive(self.fd.as_fd())
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
