//! Loads the kernel modules the root image needs, in the order the image build wrote down.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// One path a line, in load order; the image build resolves dependencies, softdeps included.
const LIST: &str = "/etc/initramfs-modules";

/// linux/module.h: the kernel decompresses what the name's ending says.
const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// A module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The list is missing.
    #[error("cannot read {LIST}")]
    List(#[source] io::Error),
    /// The module's file is missing.
    #[error("cannot open module {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused it.
    #[error("cannot load module {}", path.display())]
    Load {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Loads every module of the list; one that is already in is no error.
///
/// # Errors
/// The first module that fails.
pub(super) fn load_listed() -> Result<(), ModuleError> {
    let list = fs::read_to_string(LIST).map_err(ModuleError::List)?;
    for line in list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        load(Path::new(line))?;
    }
    Ok(())
}

fn load(path: &Path) -> Result<(), ModuleError> {
    let file = File::open(path).map_err(|source| ModuleError::Open {
        path: path.to_owned(),
        source,
    })?;
    let compressed = path.extension().is_some_and(|ending| ending != "ko");
    let flags = if compressed {
        MODULE_INIT_COMPRESSED_FILE
    } else {
        0
    };
    match rustix::system::finit_module(&file, c"", flags) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(ModuleError::Load {
            path: path.to_owned(),
            source: error.into(),
        }),
    }
}
