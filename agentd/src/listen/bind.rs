//! Binding a TCP port: on both families where the kernel has IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections the kernel may hold until we accept them.
const BACKLOG: i32 = 256;

/// Why a port is not ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// Where.
    address: SocketAddr,
    /// What the kernel said.
    #[source]
    source: io::Error,
}

/// Listens on `address`; the IPv6 wildcard takes IPv4 too, and gives way to the IPv4 wildcard on a
/// kernel without IPv6.
pub(crate) fn bind(address: IpAddr, port: u16) -> Result<TcpListener, BindError> {
    let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match listen(SocketAddr::new(address, port)) {
        Err(error) if address == any_v6 && is_unsupported(&error.source) => {
            listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        other => other,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL]
        .into_iter()
        .any(|no| code == Some(no))
}

fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A restarted agent gets its port although old connections linger.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| BindError { address, source })
}
