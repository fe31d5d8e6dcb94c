//! Is there enough memory to be a node at all.

/// Below this `MemTotal`, image, services and the self-test model do not fit. A machine with 1 GiB shows about 960 MiB.
pub const MINIMUM_MIB: u64 = 900;

/// `MemTotal` of the text of /proc/meminfo.
pub fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// What to tell the operator when memory does not suffice.
pub fn shortage(total_bytes: u64) -> Option<String> {
    let mib = total_bytes >> 20;
    (mib < MINIMUM_MIB).then(|| {
        format!(
            "too little memory: {mib} MiB found, a node needs at least {MINIMUM_MIB} MiB to start and 2048 MiB to work \
             well; add memory and start again"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortage_names_figure_and_remedy() {
        let total = total_bytes("MemTotal:         524288 kB\nMemFree: 1 kB\n").unwrap();
        let text = shortage(total).unwrap();
        assert!(
            text.contains("512 MiB found") && text.contains("add memory"),
            "{text}"
        );
        assert_eq!(shortage(960 << 20), None);
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
    }
}
