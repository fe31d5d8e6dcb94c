//! `cargo node bench`: measures the node and what it is compared with, in one run on one host.

mod boot;
mod python;
mod reference;
mod report;
mod speed;

use std::fs;

use anyhow::{Context, Result, bail};
use mnemos_image::{Cache, progress};
use mnemos_qemu::arguments::QEMU;
use mnemos_qemu::{Accelerator, Media};

use crate::options::Options;
use crate::prepare;
use report::{Host, Report, Sizes};

pub(crate) fn bench(options: &Options) -> Result<()> {
    if options.media != Media::Cd {
        bail!(
            "--media: bench boots the kernel directly, so that it compares images and not boot loaders; leave it out"
        );
    }
    let cache = Cache::open()?;
    prepare::host_packages(options)?;
    let artifacts = mnemos_image::build()?;
    let iso = mnemos_iso::build(&artifacts)?;
    let accelerator = Accelerator::choose(&cache, &artifacts.kernel)?;
    let node = progress::step("boot the node", |_| {
        boot::node(options, &artifacts, accelerator)
    })?;
    let (reference, speed) = if options.peers {
        let reference = reference::measure(options, &cache, accelerator)?;
        (Some(reference), speed::measure(&cache, options.cpus)?)
    } else {
        (None, Vec::new())
    };
    let size = |path: &std::path::Path| {
        fs::metadata(path)
            .map(|meta| meta.len())
            .context("measure a file")
    };
    let report = Report {
        host: host(options, accelerator)?,
        sizes_bytes: Sizes {
            iso: size(&iso)?,
            initramfs: size(&artifacts.initramfs)?,
            root_image: size(&artifacts.root_image)?,
            kernel: size(&artifacts.kernel)?,
        },
        node,
        reference,
        speed,
    };
    print!("{}", report.table());
    let out = options
        .out
        .clone()
        .map_or_else(|| cache.dir("node").map(|dir| dir.join("bench.json")), Ok)?;
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(&out, json + "\n")
        .with_context(|| format!("--out: cannot write {}", out.display()))?;
    println!("\nwritten to {}", out.display());
    Ok(())
}

fn host(options: &Options, accelerator: Accelerator) -> Result<Host> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let mut version = mnemos_image::cmd::new(QEMU);
    version.arg("--version");
    let version = String::from_utf8_lossy(&mnemos_image::cmd::output(version)?).into_owned();
    Ok(Host {
        cpu: model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned()),
        threads: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        qemu: version.lines().next().unwrap_or_default().to_owned(),
        accelerator: format!("{accelerator:?}").to_lowercase(),
        guest_memory_mib: options.memory_mib,
        guest_cpus: options.cpus,
    })
}
