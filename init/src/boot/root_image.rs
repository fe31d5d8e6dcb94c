//! The root image: is it whole, and attached to a block device.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::identity::hex;

/// Large enough that system calls do not count, small enough to stay in the CPU's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// The root image cannot be trusted to be what was built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Image or checksum cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// Which.
        file: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The image was damaged on its way.
    #[error(
        "the root image is damaged (SHA-256 is {found}, should be {expected}); \
         write the boot medium again, or test the memory"
    )]
    Damaged {
        /// What the file has.
        found: String,
        /// What the build wrote.
        expected: String,
    },
}

/// Where the initramfs holds the image.
pub(super) const IMAGE: &str = "/root.erofs";
/// Its SHA-256 as the first word of a text file.
pub(super) const CHECKSUM: &str = "/root.erofs.sha256";

/// Opens the image and compares it with its checksum.
///
/// # Errors
/// See [`ImageError`].
pub(super) fn open_checked() -> Result<File, ImageError> {
    let expected = fs::read_to_string(Path::new(CHECKSUM))
        .map_err(|source| ImageError::Read {
            file: CHECKSUM,
            source,
        })?
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let image = File::open(IMAGE).map_err(|source| ImageError::Read {
        file: IMAGE,
        source,
    })?;
    let found = sha256(&image).map_err(|source| ImageError::Read {
        file: IMAGE,
        source,
    })?;
    if found == expected {
        Ok(image)
    } else {
        Err(ImageError::Damaged { found, expected })
    }
}

fn sha256(mut file: &File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&chunk[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_like_everybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"abc").unwrap();
        // FIPS 180-4, the example for SHA-256.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&File::open(file.path()).unwrap()).unwrap(), expected);
    }
}
