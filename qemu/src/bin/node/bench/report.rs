//! What was measured, as data, as JSON and as one table.

use std::fmt::Write;

use serde::Serialize;

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) host: Host,
    pub(super) sizes_bytes: Sizes,
    pub(super) node: Node,
    pub(super) reference: Option<Reference>,
    pub(super) speed: Vec<Speed>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(super) struct Host {
    pub(super) cpu: String,
    pub(super) threads: usize,
    pub(super) qemu: String,
    pub(super) accelerator: String,
    pub(super) guest_memory_mib: u32,
    pub(super) guest_cpus: u32,
}

/// Sizes of what a release ships.
#[derive(Debug, Serialize)]
pub(super) struct Sizes {
    pub(super) iso: u64,
    pub(super) initramfs: u64,
    pub(super) root_image: u64,
    pub(super) kernel: u64,
}

/// One boot of the node, kernel loaded by QEMU.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    /// From QEMU's start to the first answer over verified TLS.
    pub(super) first_https_s: f64,
    /// From QEMU's start to `MNEMOS-READY`.
    pub(super) ready_s: f64,
    pub(super) stages: Vec<Stage>,
    /// `MemTotal - MemAvailable` when ready, with image and model in it.
    pub(super) memory_used_bytes: u64,
    pub(super) processes: Vec<String>,
    pub(super) listening: Vec<String>,
    /// Measured by the node's self-test, under this run's accelerator.
    pub(super) self_test_decode_tokens_per_s: Option<f64>,
}

/// End of a boot stage.
#[derive(Debug, Serialize)]
pub(super) struct Stage {
    pub(super) stage: String,
    pub(super) state: String,
    /// Since QEMU's start, by the host's clock.
    pub(super) host_s: f64,
    /// Since the kernel's start, by the guest's clock.
    pub(super) guest_s: f64,
}

/// The image to beat: Debian with systemd and nginx.
#[derive(Debug, Serialize)]
pub(super) struct Reference {
    pub(super) initramfs_bytes: u64,
    /// From QEMU's start to HTTP 200, of each boot.
    pub(super) first_http_s: Vec<f64>,
}

/// One model, one prompt, both engines.
#[derive(Debug, Serialize)]
pub(super) struct Speed {
    pub(super) model: String,
    pub(super) node: serde_json::Value,
    pub(super) llama_cpp: serde_json::Value,
}

impl Report {
    /// The table people read.
    pub(super) fn table(&self) -> String {
        let mut table = Table(String::new());
        let host = &self.host;
        table.head(&format!(
            "{}, {} threads; guest: {}, {} CPUs, {} MiB",
            host.cpu, host.threads, host.accelerator, host.guest_cpus, host.guest_memory_mib
        ));
        self.sizes_bytes.rows(&mut table);
        let best = self
            .reference
            .as_ref()
            .map(|reference| median(&reference.first_http_s));
        self.node.rows(&mut table, best);
        self.reference
            .iter()
            .for_each(|reference| reference.rows(&mut table));
        self.speed.iter().for_each(|speed| speed.rows(&mut table));
        table.0
    }
}

impl Sizes {
    fn rows(&self, table: &mut Table) {
        table.row("ISO", &megabytes(self.iso), "at most 250 MB");
        table.row(
            "initramfs, with the root image",
            &megabytes(self.initramfs),
            "",
        );
        table.row("root image", &megabytes(self.root_image), "");
        table.row("kernel", &megabytes(self.kernel), "");
    }
}

impl Node {
    /// `best_s` is the reference image's time.
    fn rows(&self, table: &mut Table, best_s: Option<f64>) {
        let reach = best_s.map_or_else(String::new, |best| format!("reference image: {best:.1} s"));
        table.row(
            "power-on to first HTTPS answer",
            &seconds(self.first_https_s),
            &reach,
        );
        for stage in &self.stages {
            let name = format!("  stage {} {}", stage.stage, stage.state);
            table.row(
                &name,
                &seconds(stage.host_s),
                &format!("guest clock {:.1} s", stage.guest_s),
            );
        }
        table.row("power-on to MNEMOS-READY", &seconds(self.ready_s), "");
        table.row(
            "memory used when ready",
            &megabytes(self.memory_used_bytes),
            "at most 450 MB",
        );
        table.row(
            "user processes",
            &self.processes.len().to_string(),
            "at most 14",
        );
        table.row(
            "listening ports",
            &self.listening.join(" "),
            "443/tcp 80/tcp",
        );
    }
}

impl Reference {
    fn rows(&self, table: &mut Table) {
        table.row("reference initramfs", &megabytes(self.initramfs_bytes), "");
        let runs: Vec<String> = self
            .first_http_s
            .iter()
            .map(|run| format!("{run:.1}"))
            .collect();
        table.row(
            "reference power-on to HTTP 200",
            &format!("{} s", runs.join(", ")),
            "",
        );
    }
}

impl Speed {
    fn rows(&self, table: &mut Table) {
        let (prompt, decode) = (&self.node["prompt_tokens"], &self.node["decode_tokens"]);
        for (what, key) in [
            ("prefill", "prefill_tokens_per_s"),
            ("decode", "decode_tokens_per_s"),
        ] {
            let rate = |side: &serde_json::Value| side[key].as_f64().unwrap_or(f64::NAN);
            let (node, other) = (rate(&self.node), rate(&self.llama_cpp));
            let note = format!(
                "llama.cpp {other:.1}, ratio {:.2}; {}",
                node / other,
                self.model
            );
            table.row(
                &format!("{what}, {prompt} + {decode} tokens"),
                &format!("{node:.1} tokens/s"),
                &note,
            );
        }
    }
}

struct Table(String);

impl Table {
    fn head(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "\n{line}");
    }

    fn row(&mut self, name: &str, value: &str, note: &str) {
        // As above.
        let _ = writeln!(
            self.0,
            "{}",
            format!("{name:<34} {value:>18}  {note}").trim_end()
        );
    }
}

fn megabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000;
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}

/// The middle of `values`, the upper one of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(megabytes(249_950_000), "249.9 MB");
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_table_compares() {
        let report = Report {
            host: Host {
                cpu: "x".into(),
                threads: 2,
                qemu: "q".into(),
                accelerator: "tcg".into(),
                guest_memory_mib: 2048,
                guest_cpus: 2,
            },
            sizes_bytes: Sizes {
                iso: 1,
                initramfs: 2,
                root_image: 3,
                kernel: 4,
            },
            node: Node {
                first_https_s: 20.0,
                ready_s: 30.0,
                stages: vec![Stage {
                    stage: "root".into(),
                    state: "ok".into(),
                    host_s: 4.0,
                    guest_s: 3.0,
                }],
                memory_used_bytes: 400_000_000,
                processes: vec!["init".into()],
                listening: vec!["443/tcp".into()],
                self_test_decode_tokens_per_s: None,
            },
            reference: Some(Reference {
                initramfs_bytes: 37_000_000,
                first_http_s: vec![24.0],
            }),
            speed: vec![Speed {
                model: "m".into(),
                node: serde_json::json!({ "prompt_tokens": 28, "decode_tokens": 64, "prefill_tokens_per_s": 50.0, "decode_tokens_per_s": 40.0 }),
                llama_cpp: serde_json::json!({ "prefill_tokens_per_s": 100.0, "decode_tokens_per_s": 80.0 }),
            }],
        };
        let table = report.table();
        for part in [
            "20.0 s  reference image: 24.0 s",
            "400.0 MB  at most 450 MB",
            "ratio 0.50; m",
            "stage root ok",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
    }
}
