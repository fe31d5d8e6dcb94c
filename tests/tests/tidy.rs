//! Rules of this repository that neither the compiler nor clippy checks. Each is one test over all tracked files.

use std::fs;
use std::path::{Path, PathBuf};

use mnemos_image::{checkout, cmd};

/// A file longer than this is split.
const MAX_LINES: usize = 600;
/// A longer script is a program.
const MAX_SCRIPT_LINES: usize = 30;
/// What the top level holds, beside dot-files.
const TOP_LEVEL: [&str; 16] = [
    "ARCHITECTURE.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "agentd",
    "clippy.toml",
    "deny.toml",
    "docs",
    "image",
    "init",
    "iso",
    "overlays",
    "qemu",
    "tests",
    "units",
];

/// A tracked text file.
struct Text {
    path: String,
    content: String,
}

impl Text {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.content
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// Every file that is tracked or would be, relative to the checkout. Binary files are left out.
fn texts() -> Vec<Text> {
    let root = root();
    let mut git = cmd::new("git");
    git.arg("-C").arg(&root).args([
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = String::from_utf8(cmd::output(git).expect("list files")).expect("names are UTF-8");
    let paths = listed.split_terminator('\0').map(str::to_owned);
    let read = |path: String| {
        Some(Text {
            content: fs::read_to_string(root.join(&path)).ok()?,
            path,
        })
    };
    paths.filter_map(read).collect()
}

fn root() -> PathBuf {
    checkout().expect("tests run inside a checkout")
}

/// Fails with every finding at once.
fn expect_none(rule: &str, findings: Vec<String>) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}

fn rust_files() -> impl Iterator<Item = Text> {
    texts()
        .into_iter()
        .filter(|text| text.path.ends_with(".rs"))
}

#[test]
fn files_are_short() {
    let too_long = rust_files().filter_map(|text| {
        let lines = text
            .content
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]")
            .count();
        (lines > MAX_LINES).then(|| format!("{}: {lines} lines", text.path))
    });
    expect_none(
        "a file has at most 600 lines before its tests",
        too_long.collect(),
    );
}

#[test]
fn files_say_what_they_are() {
    let silent = rust_files().filter(|text| !text.content.starts_with("//! "));
    expect_none(
        "a Rust file starts with `//! ` and a sentence",
        silent.map(|text| text.path).collect(),
    );
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X:"),
        concat!("unimple", "mented!("),
    ];
    let mut found = Vec::new();
    for text in texts().iter().filter(|text| !is_lock(text)) {
        let hits = text
            .lines()
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)));
        found.extend(hits.map(|(number, line)| format!("{}:{number}: {}", text.path, line.trim())));
    }
    expect_none("what is not done is an issue, not a comment", found);
}

#[test]
fn scripts_are_small_and_straight() {
    let mut found = Vec::new();
    for text in texts() {
        let first = text.content.lines().next().unwrap_or_default();
        let script =
            text.path.ends_with(".sh") || (first.starts_with("#!") && first.contains("sh"));
        if !script || first.starts_with("#![") {
            continue;
        }
        let lines = text.content.lines().count();
        if lines > MAX_SCRIPT_LINES {
            found.push(format!("{}: {lines} lines", text.path));
        }
        let words = ["if ", "case ", "for ", "while ", "until "];
        let branches = text
            .lines()
            .filter(|(_, line)| words.iter().any(|word| line.trim_start().starts_with(word)));
        found.extend(
            branches.map(|(number, line)| format!("{}:{number}: {}", text.path, line.trim())),
        );
    }
    expect_none(
        "a shell script has at most 30 lines and no branches; else it is a Rust program",
        found,
    );
}

#[test]
fn links_resolve() {
    let root = root();
    let mut broken = Vec::new();
    for text in texts().iter().filter(|text| text.path.ends_with(".md")) {
        let folder = root
            .join(&text.path)
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default();
        for (number, line) in text.lines() {
            let targets = line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next());
            let local =
                targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
            let missing = local.filter(|target| {
                !folder
                    .join(target.split('#').next().unwrap_or_default())
                    .exists()
            });
            broken.extend(missing.map(|target| format!("{}:{number}: {target}", text.path)));
        }
    }
    expect_none("a relative link leads to a file of this repository", broken);
}

#[test]
fn dependencies_have_a_reason() {
    let mut silent = Vec::new();
    for text in texts()
        .iter()
        .filter(|text| text.path.ends_with("Cargo.toml"))
    {
        let mut inside = false;
        for (number, line) in text.lines() {
            if line.starts_with('[') {
                inside = line.trim_end().ends_with("dependencies]");
                continue;
            }
            // The workspace's table has the reason of an inherited dependency, and our own crates need none.
            let explained = line.contains('#')
                || line.contains("workspace = true")
                || line.contains("path = \"");
            if inside
                && line.contains('=')
                && !line.starts_with('#')
                && !line.starts_with(' ')
                && !explained
            {
                silent.push(format!("{}:{number}: {}", text.path, line.trim()));
            }
        }
    }
    expect_none(
        "a dependency says why it is there, behind # on its line",
        silent,
    );
}

#[test]
fn top_level_holds_what_the_design_lists() {
    let mut surplus: Vec<String> = texts()
        .iter()
        .map(|text| text.path.split('/').next().unwrap_or_default().to_owned())
        .filter(|name| !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()))
        .collect();
    surplus.dedup();
    expect_none("the top level holds only what the design lists", surplus);
}

#[test]
fn no_mirror_or_registry_is_named() {
    let hosts = [
        concat!("deb.deb", "ian.org"),
        concat!("snapshot.deb", "ian.org"),
        concat!("security.deb", "ian.org"),
        concat!("py", "pi.org"),
        concat!("pythonho", "sted.org"),
        concat!("index.cra", "tes.io"),
        concat!("static.cra", "tes.io"),
        concat!("artifact", "ory"),
    ];
    let mut found = Vec::new();
    for text in texts() {
        let hits = text
            .lines()
            .filter(|(_, line)| hosts.iter().any(|host| line.contains(host)));
        found.extend(hits.map(|(number, line)| format!("{}:{number}: {}", text.path, line.trim())));
    }
    expect_none(
        "where packages come from is the host's configuration",
        found,
    );
}

fn is_lock(text: &Text) -> bool {
    text.path.ends_with(".lock")
}
