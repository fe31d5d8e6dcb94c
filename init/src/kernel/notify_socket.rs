//! One sd_notify socket a unit: the path says which unit speaks, the kernel says which process.

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix,
    SocketFlags, SocketType,
};

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
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        rustix::net::sockopt::set_socket_passcred(&fd, true)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        chown(path, Some(uid), None)?;
        Ok(NotifySocket {
            fd,
            path: path.to_owned(),
        })
    }

    /// The next datagram with the process that sent it; `None` when there is none. Descriptors sent along are closed.
    pub(super) fn receive(&self) -> Option<(i32, Vec<u8>)> {
        let mut bytes = [0; 4096];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(64))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message = rustix::net::recvmsg(
            &self.fd,
            &mut slices,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
        .ok()?;
        let sender = ancillary.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmCredentials(credentials) => {
                Some(credentials.pid.as_raw_nonzero().get())
            }
            _ => None,
        });
        // A sender in another pid name space has no number here; it is nobody's main process.
        Some((sender.unwrap_or(0), bytes[..message.bytes].to_vec()))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
