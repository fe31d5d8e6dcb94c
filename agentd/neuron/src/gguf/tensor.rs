//! The tensor list of a GGUF header: names, shapes, types and where the data lies.

use std::collections::BTreeMap;

use super::{GgufError, reader::Reader};

/// Real files have a few thousand at most.
pub(super) const MAX_TENSORS: u64 = 65_536;
/// GGUF's own limit.
const MAX_DIMENSIONS: u32 = 4;

/// One tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tensor {
    /// Fastest-varying dimension first, as in the file.
    pub(super) dimensions: Vec<u64>,
    /// Bytes of data.
    pub(super) bytes: u64,
    /// From the start of the data section.
    pub(super) offset: u64,
}

/// Weights per block and bytes per block of the types that the engine multiplies with on a CPU.
///
/// `Q8_1` (9) and `Q8_K` (15) are missing on purpose: they only hold intermediate results.
fn block(code: u32) -> Option<(u64, u64)> {
    Some(match code {
        0 => (1, 4),      // F32
        1 | 30 => (1, 2), // F16, BF16
        2 => (32, 18),    // Q4_0
        3 => (32, 20),    // Q4_1
        6 => (32, 22),    // Q5_0
        7 => (32, 24),    // Q5_1
        8 => (32, 34),    // Q8_0
        10 => (256, 84),  // Q2_K
        11 => (256, 110), // Q3_K
        12 => (256, 144), // Q4_K
        13 => (256, 176), // Q5_K
        14 => (256, 210), // Q6_K
        _ => return None,
    })
}

/// Reads `count` tensor descriptions.
pub(super) fn read<'a>(
    reader: &mut Reader<'a>,
    count: u64,
) -> Result<BTreeMap<&'a str, Tensor>, GgufError> {
    let mut tensors = BTreeMap::new();
    for _ in 0..count {
        let name = reader.name()?;
        let tensor = read_one(reader, name)?;
        if tensors.insert(name, tensor).is_some() {
            return Err(GgufError::Duplicate {
                name: name.to_owned(),
            });
        }
    }
    Ok(tensors)
}

fn read_one(reader: &mut Reader<'_>, name: &str) -> Result<Tensor, GgufError> {
    let rank = reader.u32()?;
    if !(1..=MAX_DIMENSIONS).contains(&rank) {
        return Err(GgufError::TensorShape {
            tensor: name.to_owned(),
        });
    }
    let dimensions = (0..rank)
        .map(|_| reader.u64())
        .collect::<Result<Vec<_>, _>>()?;
    let code = reader.u32()?;
    let offset = reader.u64()?;
    let Some((block_weights, block_bytes)) = block(code) else {
        return Err(GgufError::TensorType {
            tensor: name.to_owned(),
            code,
        });
    };
    let bytes =
        size(&dimensions, block_weights, block_bytes).ok_or_else(|| GgufError::TensorShape {
            tensor: name.to_owned(),
        })?;
    Ok(Tensor {
        dimensions,
        bytes,
        offset,
    })
}

/// Bytes of data. `None` for an empty tensor, an overflow, or rows that do not fill whole blocks.
fn size(dimensions: &[u64], block_weights: u64, block_bytes: u64) -> Option<u64> {
    let weights = dimensions
        .iter()
        .try_fold(1u64, |product, &d| product.checked_mul(d))?;
    let row = dimensions.first().copied()?;
    if weights == 0 || row % block_weights != 0 {
        return None;
    }
    (weights / block_weights).checked_mul(block_bytes)
}
