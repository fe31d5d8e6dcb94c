//! `cargo node bench`: measures and compares.

use anyhow::Result;

use crate::options::Options;

pub(crate) fn bench(_options: &Options) -> Result<()> {
    Ok(())
}
