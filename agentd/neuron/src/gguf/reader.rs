//! Reads the primitive values of a GGUF header from a slice. Nothing is allocated by announced lengths.

use std::collections::BTreeMap;

use super::GgufError;

/// Real files have fewer than 100.
const MAX_KEYS: u64 = 4096;
/// Entries of all arrays together: the engine keeps about 56 bytes for each while it loads.
const MAX_ARRAY_ENTRIES: u64 = 4 * 1024 * 1024;

/// A metadata value, as far as the checks look at it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    /// Types 0, 2 and 4.
    U32(u32),
    /// Type 10.
    U64(u64),
    /// Type 8; may be invalid UTF-8 in real files.
    String(&'a [u8]),
    /// Type 9.
    Array(Array<'a>),
    /// Any other type.
    Other,
}

/// An array whose entries have been walked once and found complete.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array<'a> {
    /// Type code of every entry.
    pub(super) entry_type: u32,
    /// Number of entries.
    pub(super) count: u64,
    bytes: &'a [u8],
}

/// Type codes of GGUF values.
pub(super) mod code {
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
    pub(crate) const U64: u32 = 10;
}

impl<'a> Array<'a> {
    /// The entries, if they are strings; none otherwise.
    pub(super) fn strings(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut reader = Reader::new(self.bytes);
        let count = if self.entry_type == code::STRING {
            self.count
        } else {
            0
        };
        (0..count).map_while(move |_| reader.string().ok())
    }
}

/// A position in the header.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
    array_entries: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            array_entries: 0,
        }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], GgufError> {
        let rest = self.bytes.get(self.position..).unwrap_or_default();
        let taken = usize::try_from(count)
            .ok()
            .and_then(|count| rest.get(..count));
        let taken = taken.ok_or(GgufError::Truncated {
            at: self.position,
            needed: count,
            left: rest.len(),
        })?;
        self.position += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A `u64` that counts something of which there cannot be more than `limit`.
    pub(super) fn count(&mut self, what: &'static str, limit: u64) -> Result<u64, GgufError> {
        let value = self.u64()?;
        if value > limit {
            return Err(GgufError::Limit { what, value, limit });
        }
        Ok(value)
    }

    fn string(&mut self) -> Result<&'a [u8], GgufError> {
        let length = self.u64()?;
        self.take(length)
    }

    /// A key or tensor name: text that every reader takes for the same.
    pub(super) fn name(&mut self) -> Result<&'a str, GgufError> {
        let at = self.position;
        let name = std::str::from_utf8(self.string()?).map_err(|_| GgufError::Name { at })?;
        if name.is_empty() || name.contains('\0') {
            return Err(GgufError::Name { at });
        }
        Ok(name)
    }

    /// The key-value section, beginning at its count.
    pub(super) fn metadata(&mut self) -> Result<BTreeMap<&'a str, Value<'a>>, GgufError> {
        let count = self.count("number of metadata keys", MAX_KEYS)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..count {
            let key = self.name()?;
            let value_type = self.u32()?;
            let value = self.value(value_type)?;
            if metadata.insert(key, value).is_some() {
                return Err(GgufError::Duplicate {
                    name: key.to_owned(),
                });
            }
        }
        Ok(metadata)
    }

    fn value(&mut self, value_type: u32) -> Result<Value<'a>, GgufError> {
        Ok(match value_type {
            code::U32 => Value::U32(self.u32()?),
            code::U64 => Value::U64(self.u64()?),
            0 => Value::U32(u32::from(u8::from_le_bytes(self.array()?))),
            2 => Value::U32(u32::from(u16::from_le_bytes(self.array()?))),
            code::STRING => Value::String(self.string()?),
            code::ARRAY => Value::Array(self.array_value()?),
            scalar => {
                self.scalar(scalar)?;
                Value::Other
            }
        })
    }

    fn array_value(&mut self) -> Result<Array<'a>, GgufError> {
        let entry_type = self.u32()?;
        let count = self.count("array entries", MAX_ARRAY_ENTRIES)?;
        self.array_entries += count;
        if self.array_entries > MAX_ARRAY_ENTRIES {
            let (value, limit) = (self.array_entries, MAX_ARRAY_ENTRIES);
            return Err(GgufError::Limit {
                what: "array entries",
                value,
                limit,
            });
        }
        let start = self.position;
        for _ in 0..count {
            if entry_type == code::STRING {
                self.string()?;
            } else {
                self.scalar(entry_type)?;
            }
        }
        let bytes = self.bytes.get(start..self.position).unwrap_or_default();
        Ok(Array {
            entry_type,
            count,
            bytes,
        })
    }

    /// Skips a value of fixed size.
    fn scalar(&mut self, value_type: u32) -> Result<(), GgufError> {
        let at = self.position;
        let size = match value_type {
            0 | 1 | code::BOOL => 1,
            2 | 3 => 2,
            code::U32 | code::I32 | code::F32 => 4,
            code::U64 | 11 | 12 => 8,
            code => return Err(GgufError::ValueType { code, at }),
        };
        let bytes = self.take(size)?;
        if value_type == code::BOOL && bytes > [1].as_slice() {
            return Err(GgufError::Bool { at });
        }
        Ok(())
    }
}
