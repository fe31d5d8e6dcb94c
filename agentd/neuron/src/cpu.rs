//! What the processor can do: instruction sets and physical cores.

use std::{
    collections::BTreeSet,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

/// Instruction sets that a machine has to have and has not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this CPU lacks {}; the engine needs an x86-64-v3 processor (Intel since Haswell 2013, AMD since Zen 2017)", .0.join(", "))]
pub struct MissingFeatures(pub Vec<&'static str>);

/// Checks for x86-64-v3, which this program and its kernels are compiled for.
///
/// # Errors
/// [`MissingFeatures`]: going on would end in SIGILL.
pub fn check() -> Result<(), MissingFeatures> {
    use std::is_x86_feature_detected as has;
    let features = [
        ("AVX", has!("avx")),
        ("AVX2", has!("avx2")),
        ("BMI1", has!("bmi1")),
        ("BMI2", has!("bmi2")),
        ("F16C", has!("f16c")),
        ("FMA", has!("fma")),
        ("LZCNT", has!("lzcnt")),
        ("MOVBE", has!("movbe")),
    ];
    let missing: Vec<_> = features
        .into_iter()
        .filter(|(_, has)| !has)
        .map(|(name, _)| name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(MissingFeatures(missing))
    }
}

/// Threads that help with matrix products: physical cores, within what the process may use.
///
/// Two threads of one core share its vector units and only get in each other's way.
pub fn threads() -> NonZeroUsize {
    let usable = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    physical_cores(Path::new("/sys/devices/system/cpu")).map_or(usable, |cores| cores.min(usable))
}

/// Distinct (package, core) pairs. `None` where the kernel does not say.
fn physical_cores(cpus: &Path) -> Option<NonZeroUsize> {
    let topology = |path: PathBuf| {
        let read = |name| fs::read_to_string(path.join("topology").join(name)).ok();
        Some((read("physical_package_id")?, read("core_id")?))
    };
    let entries = fs::read_dir(cpus).ok()?;
    let cores: BTreeSet<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| topology(entry.path()))
        .collect();
    NonZeroUsize::new(cores.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_what_is_missing() {
        let sentence = MissingFeatures(vec!["AVX2", "FMA"]).to_string();
        assert!(sentence.starts_with("this CPU lacks AVX2, FMA; the engine needs"));
    }

    #[test]
    fn hyper_threads_count_once() {
        let root = std::env::temp_dir().join(format!("neuron-cpu-{}", std::process::id()));
        for (cpu, core) in [("cpu0", "0"), ("cpu1", "0"), ("cpu2", "1"), ("cpu3", "1")] {
            let topology = root.join(cpu).join("topology");
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("physical_package_id"), "0\n").unwrap();
            fs::write(topology.join("core_id"), core).unwrap();
        }
        fs::create_dir_all(root.join("cpufreq")).unwrap();
        assert_eq!(physical_cores(&root), NonZeroUsize::new(2));
        assert_eq!(physical_cores(&root.join("none")), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
