//! Picks kernel modules with everything they depend on, and the firmware they ask for.

use crate::builder::{Bind, Builder};
use crate::cmd;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What `/init` loads before it can mount the root image. erofs needs a `crc32c` implementation that
/// no module dependency names (a softdep of libcrc32c; without it mounting fails with ENOENT).
const INITRAMFS_MODULES: [&str; 3] = ["crc32c_generic", "loop", "erofs"];

/// The modules of the locked kernel.
pub(crate) struct Modules {
    /// `6.12.117+deb13-amd64`.
    pub(crate) version: String,
    /// Module path below `usr/lib/modules/<version>` -> the paths it depends on, nearest first.
    depends: BTreeMap<String, Vec<String>>,
}

impl Modules {
    /// Reads the dependencies of all modules in the package root, with depmod.
    ///
    /// # Errors
    /// When the root holds not exactly one kernel, or depmod fails.
    pub(crate) fn read(builder: &Builder, packages: &Path, scratch: &Path) -> Result<Modules> {
        let dir = packages.join("usr/lib/modules");
        let mut versions = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let name = entry
                .with_context(|| format!("list {}", dir.display()))?
                .file_name();
            versions.push(name.to_string_lossy().into_owned());
        }
        let [version] = &versions[..] else {
            bail!(
                "the node's packages hold {} kernels {versions:?}: exactly one is needed",
                versions.len()
            );
        };
        let binds = [
            Bind {
                host: packages,
                inside: "/work",
                writable: false,
            },
            Bind {
                host: scratch,
                inside: "/tmp",
                writable: true,
            },
        ];
        let mut depmod = builder.command("/", &binds, "depmod");
        depmod.args(["-b", "/work", "-o", "/tmp", version]);
        cmd::output(depmod)?;
        let path = scratch
            .join("lib/modules")
            .join(version)
            .join("modules.dep");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Modules {
            version: version.clone(),
            depends: parse_dep(&text)?,
        })
    }

    /// Modules that the list selects, and what they depend on.
    ///
    /// # Errors
    /// When a line of the list selects nothing.
    pub(crate) fn select(&self, list: &str) -> Result<BTreeSet<String>> {
        let mut selected = BTreeSet::new();
        for line in list
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (excluded, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern),
                None => (false, line),
            };
            let matches: Vec<&String> = self
                .depends
                .keys()
                .filter(|path| matches(path, pattern))
                .collect();
            if matches.is_empty() {
                bail!(
                    "image/modules.list: {line:?} selects no module of kernel {}",
                    self.version
                );
            }
            for path in matches {
                if excluded {
                    selected.remove(path)
                } else {
                    selected.insert(path.clone())
                };
            }
        }
        let needed: Vec<String> = selected
            .iter()
            .flat_map(|path| self.depends[path].clone())
            .collect();
        selected.extend(needed);
        Ok(selected)
    }

    /// What the initramfs loads, in load order.
    ///
    /// # Errors
    /// When the kernel has no such module.
    pub(crate) fn initramfs(&self) -> Result<Vec<String>> {
        let mut order: Vec<String> = Vec::new();
        for name in INITRAMFS_MODULES {
            let file = format!("/{name}.ko.xz");
            let path = self.depends.keys().find(|path| path.ends_with(&file));
            let path =
                path.with_context(|| format!("kernel {} has no module {name}", self.version))?;
            for needed in self.depends[path].iter().rev().chain([path]) {
                if !order.contains(needed) {
                    order.push(needed.clone());
                }
            }
        }
        Ok(order)
    }

    /// Copies the selected modules to `staging`, unpacked: EROFS compresses them again, and the node
    /// does not spend its boot on xz. Then depmod writes the indexes udev reads.
    ///
    /// # Errors
    /// When a file cannot be copied, or xz or depmod fails.
    pub(crate) fn install(
        &self,
        builder: &Builder,
        packages: &Path,
        staging: &Path,
        selected: &BTreeSet<String>,
    ) -> Result<()> {
        let base = Path::new("usr/lib/modules").join(&self.version);
        for name in selected.iter().map(String::as_str).chain([
            "modules.builtin",
            "modules.builtin.modinfo",
            "modules.order",
        ]) {
            let path = base.join(name);
            crate::tree::copy(&packages.join(&path), &staging.join(&path))?;
        }
        let bind = [Bind {
            host: staging,
            inside: "/work",
            writable: true,
        }];
        let mut unpack = builder.command(&format!("/work/{}", base.display()), &bind, "xargs");
        unpack.args(["-0", "xz", "--decompress", "-T1"]);
        let names: Vec<&str> = selected.iter().map(String::as_str).collect();
        cmd::output_with_input(unpack, names.join("\0").as_bytes())?;
        let mut depmod = builder.command("/", &bind, "depmod");
        depmod.args(["-b", "/work", &self.version]);
        cmd::output(depmod)?;
        Ok(())
    }

    /// Firmware files, below `usr/lib/firmware`, that the selected modules name and the packages have.
    ///
    /// # Errors
    /// When modinfo fails.
    pub(crate) fn firmware(
        &self,
        builder: &Builder,
        packages: &Path,
        selected: &BTreeSet<String>,
    ) -> Result<BTreeSet<PathBuf>> {
        let bind = [Bind {
            host: packages,
            inside: "/work",
            writable: false,
        }];
        let mut modinfo = builder.command(
            &format!("/work/usr/lib/modules/{}", self.version),
            &bind,
            "xargs",
        );
        modinfo.args(["-0", "modinfo", "-F", "firmware"]);
        let names: Vec<String> = selected.iter().map(|name| format!("./{name}")).collect();
        let printed = cmd::output_with_input(modinfo, names.join("\0").as_bytes())?;
        let printed = String::from_utf8_lossy(&printed);
        let named = printed
            .lines()
            .map(|name| Path::new("usr/lib/firmware").join(name));
        Ok(named.filter(|path| packages.join(path).is_file()).collect())
    }
}

/// A pattern ending in `/` selects a folder, another one a module by its path without `.ko.xz`.
fn matches(path: &str, pattern: &str) -> bool {
    if pattern.ends_with('/') {
        return path.starts_with(pattern);
    }
    path.strip_suffix(".ko.xz") == Some(pattern)
}

/// `path: dependency dependency …`, one module a line; the dependency to load first comes last.
fn parse_dep(text: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut depends = BTreeMap::new();
    for line in text.lines() {
        let (path, rest) = line
            .split_once(':')
            .with_context(|| format!("depmod wrote {line:?}"))?;
        depends.insert(
            path.to_owned(),
            rest.split_whitespace().map(str::to_owned).collect(),
        );
    }
    Ok(depends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules() -> Modules {
        let text = "kernel/fs/erofs/erofs.ko.xz: kernel/fs/netfs.ko.xz kernel/lib/libcrc32c.ko.xz\n\
                    kernel/fs/netfs.ko.xz:\nkernel/lib/libcrc32c.ko.xz:\nkernel/crypto/crc32c_generic.ko.xz:\n\
                    kernel/drivers/block/loop.ko.xz:\nkernel/drivers/net/a.ko.xz: kernel/lib/libcrc32c.ko.xz\n";
        Modules {
            version: "6".into(),
            depends: parse_dep(text).unwrap(),
        }
    }

    #[test]
    fn dependencies_load_first() {
        let order = modules().initramfs().unwrap();
        let position = |name: &str| order.iter().position(|path| path.contains(name)).unwrap();
        assert!(position("crc32c_generic") < position("erofs.ko"));
        assert!(
            position("libcrc32c") < position("netfs") && position("netfs") < position("erofs.ko")
        );
    }

    #[test]
    fn selection_takes_dependencies_and_honours_exclusion() {
        let selected = modules()
            .select("kernel/drivers/net/\nkernel/fs/\n!kernel/fs/erofs/\n")
            .unwrap();
        let expected = [
            "kernel/drivers/net/a.ko.xz",
            "kernel/fs/netfs.ko.xz",
            "kernel/lib/libcrc32c.ko.xz",
        ];
        assert_eq!(
            selected.iter().map(String::as_str).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn a_line_that_selects_nothing_is_an_error() {
        assert!(modules().select("kernel/drivers/typo/\n").is_err());
    }
}
