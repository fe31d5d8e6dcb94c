//! Puts the root image and the initramfs together.

use crate::builder::{Bind, Builder};
use crate::cache::{Cache, checkout, source_date_epoch};
use crate::compile::{self, Programs};
use crate::modules::Modules;
use crate::packages::{self, Scratch, hex, sha256_file};
use crate::{cmd, elf, host, progress, tree};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Arguments of the kernel. Both consoles get its messages; `/dev/console` is the last one.
const CMDLINE: &str = "console=tty0 console=ttyS0,115200 quiet loglevel=4 panic=10";
/// EROFS needs a UUID; a constant one keeps the image a function of its inputs.
const ROOT_UUID: &str = "6d6e656d-6f73-4f53-8000-726f6f740001";
/// Empty folders that things are mounted on.
const MOUNT_POINTS: [&str; 7] = ["dev", "etc", "proc", "run", "sys", "tmp", "var"];
/// Links of the root that no package brings.
const LINKS: [(&str, &str); 3] = [
    ("usr/sbin/poweroff", "../lib/mnemos/mnemos-init"),
    ("usr/sbin/reboot", "../lib/mnemos/mnemos-init"),
    ("usr/sbin/halt", "../lib/mnemos/mnemos-init"),
];

/// What a boot medium is made of.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// Linux, as Debian built it.
    pub kernel: PathBuf,
    /// `/init`, its modules and the root image; an uncompressed cpio.
    pub initramfs: PathBuf,
    /// The EROFS root image, also inside the initramfs.
    pub root_image: PathBuf,
    /// Arguments for the kernel.
    pub cmdline: String,
    /// `SOURCE_DATE_EPOCH` of the build.
    pub epoch: u64,
}

/// What one build works with.
struct Build {
    builder: Builder,
    checkout: PathBuf,
    packages: PathBuf,
    programs: Programs,
    epoch: u64,
}

/// Builds what is not built yet.
///
/// # Errors
/// When the host lacks something, or a step fails; the error names the step and the remedy.
pub fn build() -> Result<Artifacts> {
    host::require_root()?;
    host::ensure(host::FOR_IMAGE)?;
    let cache = Cache::open()?;
    let _held = cache.lock()?;
    let checkout = checkout()?;
    let epoch = source_date_epoch(&checkout)?;
    let builder = Builder::prepare(&cache, &checkout, epoch)?;
    let packages = packages::unpacked(&cache, &checkout.join("image/packages"), "node")?;
    let programs = compile::programs(&builder, &checkout)?;
    let build = Build {
        builder,
        checkout,
        packages,
        programs,
        epoch,
    };
    let output = cache.dir("image")?;
    let artifacts = Artifacts {
        kernel: output.join("vmlinuz"),
        initramfs: output.join("initramfs.cpio"),
        root_image: output.join("root.erofs"),
        cmdline: CMDLINE.to_owned(),
        epoch,
    };
    let key = build.key()?;
    let key_file = output.join("key");
    if fs::read_to_string(&key_file).is_ok_and(|old| old == key) {
        return Ok(artifacts);
    }
    // Without a key a half-written image is never taken for a finished one.
    let _ = fs::remove_file(&key_file);
    build.assemble(&cache, &artifacts)?;
    fs::write(&key_file, key).with_context(|| format!("write {}", key_file.display()))?;
    Ok(artifacts)
}

impl Build {
    /// Identifies everything the image depends on.
    fn key(&self) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(self.epoch.to_be_bytes());
        let programs = self
            .programs
            .dynamic
            .iter()
            .chain([&self.programs.init, &self.programs.neuron]);
        for program in programs {
            hash.update(sha256_file(program)?);
        }
        for dir in ["image", "overlays", "units", "agentd/neuron/selftest/model"] {
            let dir = self.checkout.join(dir);
            for path in tree::walk(&dir)? {
                let file = dir.join(&path);
                hash.update(path.to_string_lossy().as_bytes());
                if file.is_file() {
                    hash.update(sha256_file(&file)?);
                }
            }
        }
        Ok(hex(&hash.finalize()))
    }

    fn assemble(&self, cache: &Cache, artifacts: &Artifacts) -> Result<()> {
        let scratch = Scratch::new(cache, "assemble")?;
        let root = scratch.0.join("root");
        let modules = Modules::read(&self.builder, &self.packages, &scratch.0)?;
        progress::step("collect the root's files", |_| {
            self.stage_root(&modules, &root)
        })?;
        progress::step("pack the root image", |step| {
            tree::normalize(&root, self.epoch)?;
            let bind = [Bind {
                host: &scratch.0,
                inside: "/work",
                writable: true,
            }];
            let mut mkfs = self.builder.command("/work", &bind, "mkfs.erofs");
            mkfs.args([
                "-zlz4hc,6",
                "-C65536",
                "--workers=2",
                "--all-root",
                "-U",
                ROOT_UUID,
            ]);
            mkfs.arg(format!("-T{}", self.epoch))
                .args(["root.erofs", "root"]);
            cmd::run(step, mkfs)
        })?;
        progress::step("pack the initramfs", |_| {
            self.pack_initramfs(&modules, &scratch.0)
        })?;
        let kernel = self
            .packages
            .join("boot")
            .join(format!("vmlinuz-{}", modules.version));
        tree::copy(&kernel, &artifacts.kernel)?;
        for (from, to) in [
            ("root.erofs", &artifacts.root_image),
            ("initramfs.cpio", &artifacts.initramfs),
        ] {
            let from = scratch.0.join(from);
            fs::rename(&from, to).with_context(|| format!("put {} in place", to.display()))?;
        }
        Ok(())
    }

    fn stage_root(&self, modules: &Modules, root: &Path) -> Result<()> {
        for dir in MOUNT_POINTS {
            let path = root.join(dir);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let mut programs = self.stage_packages(root)?;
        programs.extend(self.stage_own(root)?);
        for library in elf::libraries(&self.builder, root, &self.packages, &programs)? {
            copy_through_links(&self.packages, root, &library)?;
        }
        let list = self.read("image/modules.list")?;
        let selected = modules.select(&list)?;
        modules.install(&self.builder, &self.packages, root, &selected)?;
        for firmware in modules.firmware(&self.builder, &self.packages, &selected)? {
            copy_through_links(&self.packages, root, &firmware)?;
        }
        for (link, target) in LINKS {
            let path = root.join(link);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("create {}", parent.display()))?;
            }
            symlink(target, &path).with_context(|| format!("link {}", path.display()))?;
        }
        Ok(())
    }

    /// Files of Debian's packages that `root.files` names; returns those that may need libraries.
    fn stage_packages(&self, root: &Path) -> Result<Vec<PathBuf>> {
        let list = self.read("image/root.files")?;
        let mut copied = Vec::new();
        for line in list
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let from = self.packages.join(line);
            if line.ends_with('/') {
                tree::overlay(&from, &root.join(line))
                    .with_context(|| format!("image/root.files: {line}"))?;
                continue;
            }
            copy_through_links(&self.packages, root, Path::new(line))
                .with_context(|| format!("image/root.files: {line}"))?;
            if from.is_file() {
                copied.push(PathBuf::from(line));
            }
        }
        Ok(copied)
    }

    /// Our programs, units, overlays, and the self-test model.
    fn stage_own(&self, root: &Path) -> Result<Vec<PathBuf>> {
        let units = self.checkout.join("units");
        mnemos_init::load_dir(&units).with_context(|| format!("check {}", units.display()))?;
        tree::overlay(&self.checkout.join("overlays/base"), root)?;
        tree::overlay(&units, &root.join("usr/lib/mnemos/units"))?;
        let model = self.checkout.join("agentd/neuron/selftest/model");
        for file in ["model.gguf", "model.json"] {
            tree::copy(
                &model.join(file),
                &root.join("usr/share/mnemos/models/selftest").join(file),
            )?;
        }
        let mut own = Vec::new();
        let Programs {
            init,
            dynamic,
            neuron,
        } = &self.programs;
        for program in [init, neuron].into_iter().chain(dynamic) {
            let name = program.file_name().context("a program without a name")?;
            let place = Path::new("usr/lib/mnemos").join(name);
            tree::copy(program, &root.join(&place))?;
            own.push(place);
        }
        let build_epoch = root.join("usr/lib/mnemos/build-epoch");
        fs::write(&build_epoch, format!("{}\n", self.epoch))
            .with_context(|| format!("write {}", build_epoch.display()))?;
        // PID 1 binds the real one over it.
        fs::write(root.join("etc/machine-id"), "").context("write etc/machine-id")?;
        Ok(own)
    }

    fn pack_initramfs(&self, modules: &Modules, scratch: &Path) -> Result<()> {
        let dir = scratch.join("initramfs");
        for mount_point in ["dev", "proc", "sys", "run", "newroot", "etc"] {
            let path = dir.join(mount_point);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        tree::copy(&self.programs.init, &dir.join("init"))?;
        let root_image = scratch.join("root.erofs");
        tree::copy(&root_image, &dir.join("root.erofs"))?;
        let checksums = fs::File::open(&root_image)
            .and_then(|image| mnemos_init::boot::checksums(&image))
            .with_context(|| format!("hash {}", root_image.display()))?;
        fs::write(dir.join("root.erofs.sha256"), checksums).context("write root.erofs.sha256")?;
        let mut list = String::new();
        for module in modules.initramfs()? {
            let place = format!("usr/lib/modules/{}/{module}", modules.version);
            tree::copy(&self.packages.join(&place), &dir.join(&place))?;
            list.push_str(&format!("/{place}\n"));
        }
        fs::write(dir.join("etc/initramfs-modules"), list)
            .context("write etc/initramfs-modules")?;
        tree::normalize(&dir, self.epoch)?;
        let paths: Vec<String> = tree::walk(&dir)?
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        let bind = [Bind {
            host: scratch,
            inside: "/work",
            writable: true,
        }];
        let mut cpio = self.builder.command("/work/initramfs", &bind, "cpio");
        cpio.args([
            "--null",
            "--create",
            "--format=newc",
            "--reproducible",
            "--quiet",
        ]);
        cpio.args(["--owner=+0:+0", "--file=/work/initramfs.cpio"]);
        cmd::output_with_input(cpio, paths.join("\0").as_bytes())?;
        Ok(())
    }

    fn read(&self, path: &str) -> Result<String> {
        let path = self.checkout.join(path);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }
}

/// Copies a path, and where it is a symbolic link also what it points to, all the way.
fn copy_through_links(from: &Path, to: &Path, path: &Path) -> Result<()> {
    let mut path = path.to_path_buf();
    for _ in 0..8 {
        let source = from.join(&path);
        let meta = source
            .symlink_metadata()
            .with_context(|| format!("no package has {}", path.display()))?;
        tree::copy(&source, &to.join(&path))?;
        if !meta.file_type().is_symlink() || source.is_dir() {
            return Ok(());
        }
        let target =
            fs::read_link(&source).with_context(|| format!("read link {}", source.display()))?;
        path = resolve(path.parent().unwrap_or(Path::new("")), &target);
    }
    bail!("{} is a chain of more than 8 links", path.display())
}

/// `target` as seen from folder `base` of a root, without `..`.
fn resolve(base: &Path, target: &Path) -> PathBuf {
    let mut path = if target.is_absolute() {
        PathBuf::new()
    } else {
        base.to_path_buf()
    };
    for part in target.components() {
        match part {
            std::path::Component::ParentDir => drop(path.pop()),
            std::path::Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_resolve_inside_the_root() {
        let base = Path::new("usr/lib64");
        let linked = resolve(base, Path::new("../lib/x86_64-linux-gnu/ld.so"));
        assert_eq!(linked, Path::new("usr/lib/x86_64-linux-gnu/ld.so"));
        assert_eq!(
            resolve(base, Path::new("/usr/bin/udevadm")),
            Path::new("usr/bin/udevadm")
        );
    }
}
