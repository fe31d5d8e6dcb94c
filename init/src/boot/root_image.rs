//! The root image: is it whole? Its checksums are one SHA-256 for each few MiB, so that all CPUs work on it: under
//! emulation one CPU needs 4 s for 80 MB, which is a fifth of the whole start.
//!
//! ```text
//! sha256-chunks 4194304 81129472
//! <64 hexadecimal digits of the first 4194304 bytes>
//! …
//! ```
//! One line with the SHA-256 of the whole file is understood too.

use std::fs::{self, File};
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use crate::identity::hex;

/// Small enough that many CPUs share the work evenly, large enough that the list stays short.
const CHUNK_BYTES: u64 = 4 << 20;

/// Large enough that system calls do not count, small enough to stay in the CPU's cache.
const READ_BYTES: usize = 256 * 1024;

/// First word of the list's first line.
const MAGIC: &str = "sha256-chunks";

/// The root image cannot be trusted to be what was built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Image or checksums cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// Which.
        file: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The checksums are not in the form above.
    #[error("{CHECKSUMS} is damaged; write the boot medium again, or test the memory")]
    List,
    /// The image was damaged on its way.
    #[error(
        "the root image is damaged between byte {first} and {end}; write the boot medium again, or test the memory"
    )]
    Damaged {
        /// Where the first chunk that differs begins.
        first: u64,
        /// Where it ends.
        end: u64,
    },
}

/// Where the initramfs holds the image.
pub(super) const IMAGE: &str = "/root.erofs";
/// Where it holds the checksums.
const CHECKSUMS: &str = "/root.erofs.sha256";

/// What the image must be like.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    chunk_bytes: u64,
    size_bytes: Option<u64>,
    chunks: Vec<String>,
}

/// The list for `image`, as the image build writes it beside the image.
///
/// # Errors
/// What reading said.
pub fn checksums(image: &File) -> io::Result<String> {
    let size = image.metadata()?.len();
    let mut list = format!("{MAGIC} {CHUNK_BYTES} {size}\n");
    for chunk in 0..size.div_ceil(CHUNK_BYTES) {
        list.push_str(&digest(image, chunk * CHUNK_BYTES, CHUNK_BYTES)?);
        list.push('\n');
    }
    Ok(list)
}

/// Opens the image and compares it with its checksums.
///
/// # Errors
/// See [`ImageError`].
pub(super) fn open_checked() -> Result<File, ImageError> {
    let list = fs::read_to_string(CHECKSUMS).map_err(|source| ImageError::Read {
        file: CHECKSUMS,
        source,
    })?;
    let image = File::open(IMAGE).map_err(|source| ImageError::Read {
        file: IMAGE,
        source,
    })?;
    check(&image, &list)?;
    Ok(image)
}

fn check(image: &File, list: &str) -> Result<(), ImageError> {
    let failed = |source| ImageError::Read {
        file: IMAGE,
        source,
    };
    let size = image.metadata().map_err(failed)?.len();
    let expected = parse(list).ok_or(ImageError::List)?;
    if let Some(right) = expected.size_bytes
        && right != size
    {
        return Err(ImageError::Damaged {
            first: size.min(right),
            end: size.max(right),
        });
    }
    match first_difference(image, &expected).map_err(failed)? {
        None => Ok(()),
        Some(chunk) => {
            let first = (chunk as u64).saturating_mul(expected.chunk_bytes);
            Err(ImageError::Damaged {
                first,
                end: first.saturating_add(expected.chunk_bytes).min(size),
            })
        }
    }
}

fn parse(list: &str) -> Option<Expected> {
    let is_digest =
        |text: &&str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut lines = list.lines();
    let first = lines.next()?;
    if is_digest(&first) {
        return Some(Expected {
            chunk_bytes: u64::MAX,
            size_bytes: None,
            chunks: vec![first.to_ascii_lowercase()],
        });
    }
    let mut words = first
        .strip_prefix(MAGIC)?
        .split_whitespace()
        .map(str::parse::<u64>);
    let (chunk_bytes, size) = (words.next()?.ok()?, words.next()?.ok()?);
    let chunks: Vec<String> = lines.map(str::to_owned).collect();
    let whole = chunk_bytes > 0
        && chunks.len() as u64 == size.div_ceil(chunk_bytes)
        && chunks.iter().all(|chunk| is_digest(&chunk.as_str()));
    whole.then_some(Expected {
        chunk_bytes,
        size_bytes: Some(size),
        chunks,
    })
}

/// The first chunk that is not as expected. All CPUs take chunks in turn.
fn first_difference(image: &File, expected: &Expected) -> io::Result<Option<usize>> {
    let cpus = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let work = || -> io::Result<Option<usize>> {
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            let Some(right) = expected.chunks.get(chunk) else {
                return Ok(None);
            };
            let from = (chunk as u64).saturating_mul(expected.chunk_bytes);
            if digest(image, from, expected.chunk_bytes)? != *right {
                return Ok(Some(chunk));
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..cpus.min(expected.chunks.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut found = vec![work()];
        // A thread that panicked has checked nothing: the panic goes on in PID 1, whose hook stops the node.
        found.extend(others.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        }));
        let found: Vec<Option<usize>> = found.into_iter().collect::<io::Result<_>>()?;
        Ok(found.into_iter().flatten().min())
    })
}

/// SHA-256 of at most `length` bytes from `from`.
fn digest(image: &File, from: u64, length: u64) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut source = At { image, at: from }.take(length);
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            read => hash.update(&buffer[..read]),
        }
    }
}

/// Reads from a place of its own, so that threads can share the file.
struct At<'a> {
    image: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.image.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: &[u8]) -> File {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        File::open(file.path()).unwrap()
    }

    #[test]
    fn a_single_digest_is_that_of_the_whole_file() {
        // FIPS 180-4, the example for SHA-256.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
        check(&image(b"abc"), abc).unwrap();
        assert!(matches!(
            check(&image(b"abd"), abc),
            Err(ImageError::Damaged { first: 0, end: 3 })
        ));
    }

    #[test]
    fn damage_is_found_in_every_chunk() {
        let size = 2 * usize::try_from(CHUNK_BYTES).unwrap() + 5;
        let mut bytes = vec![7; size];
        let list = checksums(&image(&bytes)).unwrap();
        assert_eq!(list.lines().count(), 4);
        check(&image(&bytes), &list).unwrap();
        for (at, first) in [(0, 0), (size / 2, CHUNK_BYTES), (size - 1, 2 * CHUNK_BYTES)] {
            bytes[at] ^= 1;
            let error = check(&image(&bytes), &list).unwrap_err();
            assert!(
                matches!(error, ImageError::Damaged { first: found, .. } if found == first),
                "{error}"
            );
            bytes[at] ^= 1;
        }
        assert!(matches!(
            check(&image(&bytes[1..]), &list),
            Err(ImageError::Damaged { .. })
        ));
    }

    #[test]
    fn damaged_lists_are_refused() {
        let list = checksums(&image(&[1; 100])).unwrap();
        let cut = &list[..list.len() - 3];
        for bad in [
            "",
            "abc",
            cut,
            "sha256-chunks 0 0",
            "sha256-chunks 4194304 1\n",
            &format!("{list}x\n"),
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
