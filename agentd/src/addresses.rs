//! The addresses of this machine.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use serde::Serialize;

/// An address under which the node can be reached from outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Address {
    pub(crate) interface: String,
    pub(crate) address: IpAddr,
}

/// The node's addresses, sorted: interfaces that are up, without loopback and link-local ones.
pub(crate) fn current() -> nix::Result<Vec<Address>> {
    let mut addresses: Vec<Address> = getifaddrs()?
        .filter(|entry| entry.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|entry| {
            let storage = entry.address?;
            let v4 = storage
                .as_sockaddr_in()
                .map(|address| IpAddr::from(address.ip()));
            let address = v4.or_else(|| Some(storage.as_sockaddr_in6()?.ip().into()))?;
            Some(Address {
                interface: entry.interface_name,
                address,
            })
        })
        .filter(|address| is_reachable(address.address))
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// A link-local address is of no use in a URL: it needs the client's interface name.
fn is_reachable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !link_local
}

/// `https://` URL of `address`, with the port unless it is the default.
pub(crate) fn url(address: IpAddr, port: u16) -> String {
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    match port {
        443 => format!("https://{host}/"),
        port => format!("https://{host}:{port}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_brackets_and_ports_where_needed() {
        assert_eq!(url("10.0.2.15".parse().unwrap(), 443), "https://10.0.2.15/");
        assert_eq!(
            url("2001:db8::1".parse().unwrap(), 8443),
            "https://[2001:db8::1]:8443/"
        );
    }

    #[test]
    fn only_addresses_for_others_are_listed() {
        for (address, reachable) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.3.4", false),
            ("fe80::1", false),
            ("10.0.2.15", true),
            ("fd00::2", true),
        ] {
            assert_eq!(
                is_reachable(address.parse().unwrap()),
                reachable,
                "{address}"
            );
        }
        assert!(
            current()
                .unwrap()
                .iter()
                .all(|address| is_reachable(address.address))
        );
    }
}
