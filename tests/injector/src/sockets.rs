//! Ports that accept something from the network, from `/proc/net`.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use crate::start::PROC;

/// `TCP_LISTEN` in `include/net/tcp_states.h`.
const TCP_LISTEN: &str = "0A";
/// What an unconnected UDP socket shows: `TCP_CLOSE`.
const UDP_UNCONNECTED: &str = "07";

/// Every TCP listener and unconnected UDP socket.
pub(crate) fn listening() -> io::Result<Vec<Value>> {
    let mut found = Vec::new();
    for (table, state) in [
        ("tcp", TCP_LISTEN),
        ("tcp6", TCP_LISTEN),
        ("udp", UDP_UNCONNECTED),
        ("udp6", UDP_UNCONNECTED),
    ] {
        // A kernel without IPv6 has no such table.
        let text = fs::read_to_string(format!("{PROC}/self/net/{table}")).unwrap_or_default();
        for (address, port) in text
            .lines()
            .skip(1)
            .filter_map(|line| parse_row(line, state))
        {
            let protocol = table.trim_end_matches('6');
            found.push(
                json!({ "protocol": protocol, "address": address.to_string(), "port": port }),
            );
        }
    }
    Ok(found)
}

/// `sl local_address rem_address st ...`; see proc(5), /proc/net/tcp.
fn parse_row(row: &str, wanted_state: &str) -> Option<(IpAddr, u16)> {
    let mut columns = row.split_whitespace().skip(1);
    let local = columns.next()?;
    let state = columns.nth(1)?;
    if state != wanted_state {
        return None;
    }
    let (address, port) = local.split_once(':')?;
    Some((parse_address(address)?, u16::from_str_radix(port, 16).ok()?))
}

/// Each 32-bit word is printed as a number of the host's byte order, little-endian here.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for start in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(start..start + 8)?, 16).ok()?;
        bytes.extend(word.to_le_bytes());
    }
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(
            <[u8; 16]>::try_from(bytes).ok()?,
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Rows as Linux 6.12 prints them.
    #[test]
    fn rows() {
        let listen = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(
            parse_row(listen, TCP_LISTEN),
            Some((IpAddr::V4(Ipv4Addr::LOCALHOST), 8080))
        );
        let connected = "   1: 0F02000A:01BB 0202000A:D5E2 01 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert_eq!(parse_row(connected, TCP_LISTEN), None);
        let any = "   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 1 1";
        assert_eq!(
            parse_row(any, TCP_LISTEN),
            Some((IpAddr::V6(Ipv6Addr::UNSPECIFIED), 443))
        );
        assert_eq!(parse_row("garbage", TCP_LISTEN), None);
    }
}
