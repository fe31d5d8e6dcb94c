//! Conditions of units, decided over facts that the caller read.

use crate::unit::{Condition, ConditionTest};

/// systemd's names (systemd.unit(5), `ConditionCPUFeature=`) that a unit may test, with the flag of
/// /proc/cpuinfo that says the same.
const CPU_FEATURES: [(&str, &str); 17] = [
    ("sse", "sse"),
    ("sse2", "sse2"),
    ("ssse3", "ssse3"),
    ("sse4_1", "sse4_1"),
    ("sse4_2", "sse4_2"),
    ("cx16", "cx16"),
    ("popcnt", "popcnt"),
    ("lahf_lm", "lahf_lm"),
    ("movbe", "movbe"),
    ("f16c", "f16c"),
    ("fma3", "fma"),
    ("abm", "abm"),
    ("bmi1", "bmi1"),
    ("bmi2", "bmi2"),
    ("avx", "avx"),
    ("avx2", "avx2"),
    ("osxsave", "xsave"),
];

/// Whether a unit may test for `name`.
pub fn is_known_cpu_feature(name: &str) -> bool {
    CPU_FEATURES.iter().any(|(known, _)| *known == name)
}

/// What conditions are decided on.
pub struct Facts<'a> {
    /// Text of /proc/cpuinfo.
    pub cpuinfo: &'a str,
    /// Text of /proc/cmdline.
    pub command_line: &'a str,
    /// Whether a path exists.
    pub path_exists: &'a dyn Fn(&std::path::Path) -> bool,
}

/// The first condition that does not hold, as a sentence; `None` when all hold.
pub fn unmet(conditions: &[Condition], facts: &Facts<'_>) -> Option<String> {
    conditions
        .iter()
        .find(|condition| holds(condition, facts) == condition.negated)
        .map(sentence)
}

fn holds(condition: &Condition, facts: &Facts<'_>) -> bool {
    match &condition.test {
        ConditionTest::PathExists(path) => (facts.path_exists)(path),
        ConditionTest::CpuFeature(name) => has_cpu_feature(name, facts.cpuinfo),
        ConditionTest::KernelCommandLine(word) => {
            facts.command_line.split_whitespace().any(|given| {
                given == word || (!word.contains('=') && given.split('=').next() == Some(word))
            })
        }
    }
}

fn has_cpu_feature(name: &str, cpuinfo: &str) -> bool {
    let flag = CPU_FEATURES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, flag)| *flag);
    let flags = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .and_then(|line| line.split_once(':'));
    match (flag, flags) {
        (Some(flag), Some((_, flags))) => flags.split_whitespace().any(|given| given == flag),
        _ => false,
    }
}

fn sentence(condition: &Condition) -> String {
    let not = |wanted: &str, unwanted: &str| {
        if condition.negated {
            unwanted.to_owned()
        } else {
            wanted.to_owned()
        }
    };
    match &condition.test {
        ConditionTest::PathExists(path) => {
            format!("{} {}", path.display(), not("does not exist", "exists"))
        }
        ConditionTest::CpuFeature(name) => {
            format!("this CPU {} {name}", not("lacks", "has"))
        }
        ConditionTest::KernelCommandLine(word) => {
            format!("the kernel command line {} {word}", not("lacks", "has"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(negated: bool, test: ConditionTest) -> Condition {
        Condition { negated, test }
    }

    #[test]
    fn first_unmet_condition_is_named() {
        let facts = Facts {
            cpuinfo: "processor : 0\nflags\t\t: fpu avx fma\n",
            command_line: "quiet mnemos.debug=1",
            path_exists: &|path| path == std::path::Path::new("/there"),
        };
        let cpu = |name: &str| ConditionTest::CpuFeature(name.to_owned());
        let word = |text: &str| ConditionTest::KernelCommandLine(text.to_owned());
        let path = |text: &str| ConditionTest::PathExists(text.into());
        let met = [
            condition(false, cpu("fma3")),
            condition(true, cpu("avx2")),
            condition(false, word("quiet")),
            condition(false, word("mnemos.debug")),
            condition(true, word("mnemos.debug=0")),
            condition(false, path("/there")),
        ];
        assert_eq!(unmet(&met, &facts), None);
        let lacking = [condition(false, cpu("avx")), condition(false, cpu("avx2"))];
        assert_eq!(
            unmet(&lacking, &facts).as_deref(),
            Some("this CPU lacks avx2")
        );
        assert_eq!(
            unmet(&[condition(true, path("/there"))], &facts).as_deref(),
            Some("/there exists")
        );
    }
}
