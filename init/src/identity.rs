//! Who this machine is: machine-id and host name from what the hardware says, the first usable clock.

use sha2::{Digest, Sha256};

/// A clock this far past the build is as wrong as one before it: a time in the future would poison
/// WireGuard's replay counters and the node's certificates for good. 20 years of 365.25 days.
const LATEST_AFTER_BUILD_S: i64 = 20 * 31_557_600;

/// The machine-id (machine-id(5): 32 hex digits) for a hardware identity, which is the SMBIOS UUID, else the first
/// MAC address, else random bytes. Hashed with a purpose, so that the id does not reveal the hardware's.
pub fn machine_id(hardware: &[u8]) -> String {
    let digest = Sha256::new()
        .chain_update(b"mnemos machine-id\0")
        .chain_update(hardware)
        .finalize();
    let mut id: [u8; 16] = [0; 16];
    id.copy_from_slice(&digest[..16]);
    // The version and variant bits of a random UUID, as systemd sets them.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    hex(&id)
}

/// `mnemos-` and the first six digits of the machine-id.
pub fn host_name(machine_id: &str) -> String {
    format!("mnemos-{}", machine_id.get(..6).unwrap_or(machine_id))
}

/// The SMBIOS UUID in canonical form, unless it is one of the fillers that boards ship with: all digits equal,
/// or the well-known 03000200-0400-0500-0006-000700080009.
pub fn usable_smbios_uuid(text: &str) -> Option<String> {
    let digits: String = text
        .trim()
        .to_ascii_lowercase()
        .chars()
        .filter(|letter| *letter != '-')
        .collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let first = digits.bytes().next()?;
    let filler =
        digits.bytes().all(|byte| byte == first) || digits == "03000200040005000006000700080009";
    (is_hex && !filler).then_some(digits)
}

/// A MAC address of one machine: neither zero nor multicast.
pub fn usable_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.trim().split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    let ours = mac != [0; 6] && mac[0] & 1 == 0 && parts.next().is_none();
    ours.then_some(mac)
}

/// The time to set, if the clock at `now_s` cannot be right; both are UNIX seconds.
pub fn corrected_time(now_s: i64, build_s: i64) -> Option<i64> {
    let plausible = build_s..=build_s.saturating_add(LATEST_AFTER_BUILD_S);
    (!plausible.contains(&now_s)).then_some(build_s)
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_ids_are_stable_and_well_formed() {
        let id = machine_id(b"1c0a7b6e");
        assert_eq!(id, machine_id(b"1c0a7b6e"));
        assert_ne!(id, machine_id(b"1c0a7b6f"));
        assert_eq!((id.len(), &id[12..13]), (32, "4"));
        assert_eq!(host_name(&id), format!("mnemos-{}", &id[..6]));
    }

    #[test]
    fn filler_identities_are_refused() {
        assert!(usable_smbios_uuid("4C4C4544-0042-3510-8054-b4c04f4d3332\n").is_some());
        for filler in [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "Not Settable",
            "",
        ] {
            assert_eq!(usable_smbios_uuid(filler), None, "{filler}");
        }
        assert_eq!(usable_mac("01:00:5e:00:00:01\n"), None, "multicast");
        assert_eq!(
            usable_mac("00:1b:21:aa:bb:cc"),
            Some([0, 0x1b, 0x21, 0xaa, 0xbb, 0xcc])
        );
        assert_eq!(usable_mac("00:00:00:00:00:00"), None);
    }

    #[test]
    fn clock_is_corrected_only_when_impossible() {
        let build = 1_790_000_000;
        assert_eq!(corrected_time(0, build), Some(build));
        assert_eq!(corrected_time(build + 1, build), None);
        assert_eq!(corrected_time(i64::MAX, build), Some(build));
    }
}
