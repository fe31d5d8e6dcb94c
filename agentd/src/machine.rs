//! Processor and memory, as `/proc` tells them.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// Flags in `/proc/cpuinfo` that make up x86-64-v3. `abm` stands for LZCNT.
/// Source: [x86-64 psABI](https://gitlab.com/x86-psABIs/x86-64-ABI), "Micro-Architecture Levels".
const X86_64_V3: &[&str] = &[
    "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave",
];

/// The processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cpu {
    pub(crate) model: String,
    pub(crate) threads: usize,
    pub(crate) x86_64_v3: bool,
    /// Those of [`X86_64_V3`] that are missing.
    #[serde(skip)]
    pub(crate) lacks: Vec<&'static str>,
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
}

impl Cpu {
    pub(crate) fn read(proc_dir: &Path) -> Cpu {
        parse_cpuinfo(&fs::read_to_string(proc_dir.join("cpuinfo")).unwrap_or_default())
    }

    /// Why this processor cannot serve models, with the remedy.
    pub(crate) fn problem(&self) -> Option<String> {
        (!self.x86_64_v3).then(|| {
            format!(
                "this CPU ({}) lacks {}: the node cannot serve models; any x86-64-v3 processor can \
                 (Intel from Haswell 2013 on, AMD from Excavator 2015 on)",
                self.model,
                self.lacks.join(", "),
            )
        })
    }
}

impl Memory {
    pub(crate) fn read(proc_dir: &Path) -> Memory {
        parse_meminfo(&fs::read_to_string(proc_dir.join("meminfo")).unwrap_or_default())
    }
}

fn parse_cpuinfo(text: &str) -> Cpu {
    let entry = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    let entries: Vec<(String, String)> = text.lines().filter_map(entry).collect();
    let first = |wanted: &str| {
        entries
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    };
    let flags: Vec<&str> = first("flags")
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let lacks: Vec<&str> = X86_64_V3
        .iter()
        .copied()
        .filter(|flag| !flags.contains(flag))
        .collect();
    Cpu {
        model: first("model name").unwrap_or("unknown").to_owned(),
        threads: entries
            .iter()
            .filter(|(name, _)| name == "processor")
            .count(),
        x86_64_v3: lacks.is_empty(),
        lacks,
    }
}

fn parse_meminfo(text: &str) -> Memory {
    let bytes = |wanted: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    };
    Memory {
        total_bytes: bytes("MemTotal").unwrap_or(0),
        available_bytes: bytes("MemAvailable").unwrap_or(0),
    }
}

/// Seconds since the machine started.
pub(crate) fn uptime_s(proc_dir: &Path) -> u64 {
    let text = fs::read_to_string(proc_dir.join("uptime")).unwrap_or_default();
    text.split('.')
        .next()
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `qemu64` processor: `grep -m2 -E 'processor|flags|model name' /proc/cpuinfo`, shortened.
    const QEMU64: &str = "processor\t: 0\nmodel name\t: QEMU Virtual CPU version 2.5+\n\
        flags\t\t: fpu sse sse2 pni cx16 lahf_lm abm xsave\n\nprocessor\t: 1\n";

    #[test]
    fn an_old_processor_is_named_with_what_it_lacks() {
        let cpu = parse_cpuinfo(QEMU64);
        assert_eq!(cpu.threads, 2);
        assert!(!cpu.x86_64_v3);
        let problem = cpu.problem().unwrap();
        assert!(problem.contains("QEMU Virtual CPU"), "{problem}");
        assert!(
            problem.contains("lacks avx, avx2, bmi1, bmi2, f16c, fma, movbe"),
            "{problem}"
        );
    }

    #[test]
    fn a_new_processor_has_no_problem() {
        let flags = X86_64_V3.join(" ");
        let cpu = parse_cpuinfo(&format!(
            "processor : 0\nmodel name : X\nflags : sse2 {flags}\n"
        ));
        assert!(cpu.x86_64_v3);
        assert_eq!(cpu.problem(), None);
    }

    #[test]
    fn memory_is_in_bytes_and_garbage_is_zero() {
        let memory = parse_meminfo("MemTotal:    2048 kB\nMemFree: 1 kB\nMemAvailable:  1024 kB\n");
        assert_eq!(
            memory,
            Memory {
                total_bytes: 2048 * 1024,
                available_bytes: 1024 * 1024
            }
        );
        assert_eq!(
            parse_meminfo("MemTotal: many kB\nMemAvailable"),
            Memory::default()
        );
    }
}
