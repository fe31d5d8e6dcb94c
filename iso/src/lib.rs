//! Makes one ISO that boots by BIOS and UEFI, as CD and as USB disk.
//!
//! ```text
//! sector 0      GRUB's hybrid MBR + GPT            <- BIOS, written to a stick
//! ISO 9660      /mnemos/{vmlinuz,initramfs.cpio}   one kernel and initramfs for both firmwares
//!               /boot/grub/{eltorito.img,grub.cfg} <- BIOS, as CD (El Torito)
//! partition 2   FAT, EFI/BOOT/BOOTX64.EFI          <- UEFI: stick by GPT, CD by El Torito
//! ```
//! The ESP exists once: El Torito's UEFI entry points into the appended partition.

use anyhow::{Context, Result};
use mnemos_image::{
    Artifacts, Bind, Builder, Cache, Scratch, checkout, cmd, progress, sha256_file, tree,
};
use std::fs;
use std::path::{Path, PathBuf};

/// Volume label; letters, digits and underscore, at most 32.
const LABEL: &str = "MNEMOS";
/// Modules that find the medium and read the configuration, then load Linux.
const MODULES: &[&str] = &[
    "all_video",
    "configfile",
    "echo",
    "fat",
    "halt",
    "iso9660",
    "linux",
    "normal",
    "part_gpt",
    "part_msdos",
    "search",
    "search_fs_file",
    "serial",
    "terminal",
    "test",
];
/// FAT with room for GRUB's EFI program (about 1 MB).
const ESP_KIB: u32 = 4096;

/// Builds the ISO from the image's artifacts, unless it is there already.
///
/// # Errors
/// When a tool in the builder root fails.
pub fn build(artifacts: &Artifacts) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let _held = cache.lock()?;
    let checkout = checkout()?;
    let output = cache.dir("image")?.join("mnemos.iso");
    let id = build_id(artifacts, &checkout)?;
    let key_file = output.with_extension("iso-key");
    if output.is_file() && fs::read_to_string(&key_file).is_ok_and(|old| old == id) {
        return Ok(output);
    }
    let _ = fs::remove_file(&key_file);
    let builder = Builder::prepare(&cache, &checkout, artifacts.epoch)?;
    let scratch = Scratch::new(&cache, "iso")?;
    let work = Work {
        builder,
        dir: scratch.0.clone(),
        epoch: artifacts.epoch,
    };
    progress::step("make the ISO", |step| {
        work.stage(artifacts, &checkout, &id)?;
        work.boot_images(&id)?;
        cmd::run(step, work.xorriso())
    })?;
    fs::rename(scratch.0.join("mnemos.iso"), &output)
        .with_context(|| format!("put {} in place", output.display()))?;
    fs::write(&key_file, id).with_context(|| format!("write {}", key_file.display()))?;
    Ok(output)
}

/// Identifies what is on the medium; GRUB looks for a file of this name, so that of two sticks in one
/// machine each boots its own.
fn build_id(artifacts: &Artifacts, checkout: &Path) -> Result<String> {
    let sources = [
        "iso/src/lib.rs",
        "iso/grub.cfg",
        "image/packages/builder.lock",
    ];
    let sources: Vec<PathBuf> = sources.iter().map(|file| checkout.join(file)).collect();
    let parts = [&artifacts.kernel, &artifacts.initramfs]
        .into_iter()
        .chain(&sources);
    let hashes = parts
        .map(|path| sha256_file(path))
        .collect::<Result<Vec<_>>>()?;
    Ok(mnemos_image::sha256(hashes.join(" ").as_bytes())[..16].to_owned())
}

struct Work {
    builder: Builder,
    dir: PathBuf,
    epoch: u64,
}

impl Work {
    fn stage(&self, artifacts: &Artifacts, checkout: &Path, id: &str) -> Result<()> {
        let tree_dir = self.dir.join("tree");
        tree::copy(&artifacts.kernel, &tree_dir.join("mnemos/vmlinuz"))?;
        tree::copy(
            &artifacts.initramfs,
            &tree_dir.join("mnemos/initramfs.cpio"),
        )?;
        fs::write(tree_dir.join("mnemos").join(id), format!("{id}\n"))
            .context("write the build id")?;
        let template = checkout.join("iso/grub.cfg");
        let config = fs::read_to_string(&template)
            .with_context(|| format!("read {}", template.display()))?;
        let config = config.replace("@CMDLINE@", &artifacts.cmdline);
        fs::create_dir_all(tree_dir.join("boot/grub")).context("create boot/grub")?;
        fs::write(tree_dir.join("boot/grub/grub.cfg"), config).context("write grub.cfg")
    }

    /// GRUB for BIOS (El Torito image) and for UEFI (a FAT partition), both finding the medium by id.
    fn boot_images(&self, id: &str) -> Result<()> {
        let early = format!(
            "search --no-floppy --file --set=root /mnemos/{id}\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
        );
        fs::write(self.dir.join("early.cfg"), early).context("write early.cfg")?;
        self.run(
            "grub-mkimage",
            &[
                "-O",
                "i386-pc-eltorito",
                "-p",
                "/boot/grub",
                "-c",
                "early.cfg",
                "-o",
                "tree/boot/grub/eltorito.img",
                "biosdisk",
            ],
            MODULES,
        )?;
        self.run(
            "grub-mkimage",
            &[
                "-O",
                "x86_64-efi",
                "-p",
                "/boot/grub",
                "-c",
                "early.cfg",
                "-o",
                "BOOTX64.EFI",
            ],
            MODULES,
        )?;
        let size = ESP_KIB.to_string();
        self.run(
            "mkfs.vfat",
            &[
                "--invariant",
                "-F",
                "12",
                "-n",
                "MNEMOS_ESP",
                "-C",
                "esp.img",
                &size,
            ],
            &[],
        )?;
        self.run("mmd", &["-i", "esp.img", "::/EFI", "::/EFI/BOOT"], &[])?;
        tree::normalize(&self.dir, self.epoch)?;
        self.run(
            "mcopy",
            &[
                "-m",
                "-i",
                "esp.img",
                "BOOTX64.EFI",
                "::/EFI/BOOT/BOOTX64.EFI",
            ],
            &[],
        )
    }

    fn xorriso(&self) -> std::process::Command {
        let mut xorriso = self.command("xorriso");
        let epoch = format!("={}", self.epoch);
        // The volume's own dates and its UUID come from SOURCE_DATE_EPOCH, which the builder root sets.
        xorriso.args(["-volume_date", "all_file_dates", &epoch]);
        xorriso.args([
            "-as",
            "mkisofs",
            "-quiet",
            "-iso-level",
            "3",
            "-rational-rock",
            "-volid",
            LABEL,
            "-preparer",
            "MNEMOS",
        ]);
        xorriso.args([
            "-b",
            "boot/grub/eltorito.img",
            "-no-emul-boot",
            "-boot-load-size",
            "4",
            "-boot-info-table",
            "--grub2-boot-info",
        ]);
        xorriso.args(["--grub2-mbr", "/usr/lib/grub/i386-pc/boot_hybrid.img"]);
        xorriso.args([
            "-partition_offset",
            "16",
            "-append_partition",
            "2",
            "0xef",
            "esp.img",
            "-appended_part_as_gpt",
        ]);
        xorriso.args([
            "-eltorito-alt-boot",
            "-e",
            "--interval:appended_partition_2:all::",
            "-no-emul-boot",
        ]);
        xorriso.args(["-o", "mnemos.iso", "tree"]);
        xorriso
    }

    fn run(&self, program: &str, arguments: &[&str], more: &[&str]) -> Result<()> {
        let mut command = self.command(program);
        command.args(arguments).args(more);
        cmd::output(command).map(drop)
    }

    fn command(&self, program: &str) -> std::process::Command {
        let bind = [Bind {
            host: &self.dir,
            inside: "/work",
            writable: true,
        }];
        self.builder.command("/work", &bind, program)
    }
}
