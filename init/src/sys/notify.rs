//! Receiving a datagram together with who sent it. rustix 1.1.6 offers this, but dropping its buffer before all messages
//! are taken reads a misaligned header.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A datagram and what the kernel says of it.
pub struct Datagram {
    /// Its bytes; cut off at the size of the buffer.
    pub bytes: Vec<u8>,
    /// Process id of the sender in our pid name space; 0 when it has none.
    pub sender: i32,
    /// Descriptors sent along. Dropping closes them.
    pub descriptors: Vec<OwnedFd>,
}

/// Room for credentials and as many descriptors as the kernel passes at once (SCM_MAX_FD is 253); aligned as a cmsghdr.
#[repr(C, align(8))]
struct Ancillary([u8; 2048]);

/// The next datagram on `socket`, which must have `SO_PASSCRED` on; `None` when there is none.
pub fn receive(socket: BorrowedFd<'_>) -> Option<Datagram> {
    let mut bytes = vec![0; 4096];
    let mut ancillary = Ancillary([0; 2048]);
    let mut slice = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data; null and zero mean absent.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut ancillary.0).cast();
    header.msg_controllen = size_of::<Ancillary>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: all pointers in `header` are to live buffers of the given lengths.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    bytes.truncate(usize::try_from(read).ok()?);
    let mut datagram = Datagram {
        bytes,
        sender: 0,
        descriptors: Vec::new(),
    };
    // SAFETY: `header` was filled by a successful recvmsg and its control buffer is alive.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return pointers to whole, aligned headers inside the buffer or null.
        unsafe {
            take_in(message, &mut datagram);
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Some(datagram)
}

/// Reads one control message into `datagram`.
///
/// # Safety
/// `message` points to a control message that recvmsg wrote and that nobody has read before.
unsafe fn take_in(message: *const libc::cmsghdr, datagram: &mut Datagram) {
    // SAFETY: as promised by the caller; CMSG_DATA of a message of these types holds what cmsg(3) says, up to cmsg_len.
    unsafe {
        let data = libc::CMSG_DATA(message);
        let length = (*message)
            .cmsg_len
            .saturating_sub(data.offset_from(message.cast()).unsigned_abs());
        match ((*message).cmsg_level, (*message).cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                datagram.sender = data.cast::<libc::ucred>().read_unaligned().pid;
            }
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for at in 0..length / size_of::<libc::c_int>() {
                    let fd = data.cast::<libc::c_int>().add(at).read_unaligned();
                    datagram.descriptors.push(OwnedFd::from_raw_fd(fd));
                }
            }
            _ => {}
        }
    }
}

/// A datagram socket for [`receive`]: close-on-exec, non-blocking, with `SO_PASSCRED`.
///
/// # Errors
/// What socket(2) or setsockopt(2) said.
pub fn socket() -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::sockopt::set_socket_passcred(&fd, true)?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{IoSlice, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn sender_and_descriptors_come_with_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let ours = socket().unwrap();
        rustix::net::bind(&ours, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert!(receive(ours.as_fd()).is_none());
        let theirs = UnixDatagram::unbound().unwrap();
        theirs.connect(&path).unwrap();
        theirs.send(b"READY=1").unwrap();
        let (mut kept, sent) = std::io::pipe().unwrap();
        let sent_fds = [sent.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = rustix::net::SendAncillaryBuffer::new(&mut space);
        assert!(rights.push(rustix::net::SendAncillaryMessage::ScmRights(&sent_fds)));
        let flags = rustix::net::SendFlags::empty();
        rustix::net::sendmsg(&theirs, &[IoSlice::new(b"FDSTORE=1")], &mut rights, flags).unwrap();
        drop(sent);
        let first = receive(ours.as_fd()).unwrap();
        assert_eq!(
            (first.bytes.as_slice(), first.descriptors.len()),
            (&b"READY=1"[..], 0)
        );
        assert_eq!(first.sender.unsigned_abs(), std::process::id());
        let second = receive(ours.as_fd()).unwrap();
        std::fs::File::from(second.descriptors.into_iter().next().unwrap())
            .write_all(b"x")
            .unwrap();
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(
            text, "x",
            "the descriptor works, and was closed when dropped"
        );
    }
}
