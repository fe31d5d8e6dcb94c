//! `cargo image`: build the image, refresh the package locks, check what the image holds.

use anyhow::{Result, bail};
use mnemos_image::{Cache, build, check, checkout, host, refresh};

const HELP: &str = "\
cargo image build                 build the root image and the initramfs
cargo image check [--update]      compare the root's content with image/root.expected
cargo image lock [builder|node]   resolve the Debian packages anew and rewrite the lock
  MNEMOS_CACHE   folder for build output (default ~/.cache/mnemos)
  MNEMOS_MIRROR  another Debian mirror, as in sources.list";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["build"] => println!("{}", build()?.initramfs.display()),
        ["check"] => check::run(&build()?)?,
        ["check", "--update"] => check::update(&build()?)?,
        ["lock"] => lock(&["builder", "node"])?,
        ["lock", set @ ("builder" | "node")] => lock(&[set])?,
        [] | ["--help" | "-h" | "help"] => println!("{HELP}"),
        _ => bail!(
            "`cargo image {}` is not a command; there are:\n{HELP}",
            arguments.join(" ")
        ),
    }
    Ok(())
}

fn lock(sets: &[&str]) -> Result<()> {
    host::require_root()?;
    host::ensure(host::FOR_IMAGE)?;
    let cache = Cache::open()?;
    let _held = cache.lock()?;
    for set in sets {
        refresh(&cache, &checkout()?.join("image/packages"), set)?;
    }
    Ok(())
}
