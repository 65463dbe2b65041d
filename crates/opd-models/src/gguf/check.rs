//! What a GGUF header claims, held against the file before anything is allocated for it.

use candle_core::quantized::GgmlDType;

/// Longest header; vocabularies of 256 thousand tokens make some 15 MB.
const LONGEST_HEADER: usize = 256 << 20;

/// Most values of all lists of the metadata together; each takes 32 bytes when it is read.
const MOST_VALUES: u64 = 4 << 20;

/// Most entries of the metadata, and most tensors.
const MOST_ENTRIES: u64 = 1 << 17;

const MOST_DIMENSIONS: u32 = 4;

/// Passes if the header of a file is whole and every tensor that it names lies inside the file;
/// says what is wrong otherwise.
pub(super) fn check(file: &[u8]) -> Result<(), String> {
    let mut header = Header { rest: &file[..file.len().min(LONGEST_HEADER)], n_values: 0 };
    if header.take(4)? != b"GGUF" {
        return Err("no GGUF file: it does not begin with `GGUF`".to_owned());
    }
    let version = header.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF version {version} is not supported; supported: 2 and 3"));
    }
    let (n_tensors, n_entries) = (header.u64()?, header.u64()?);
    if n_tensors > MOST_ENTRIES || n_entries > MOST_ENTRIES {
        return Err(format!(
            "a header of {n_tensors} tensors and {n_entries} entries; at most {MOST_ENTRIES} of each"
        ));
    }
    let mut alignment = 32;
    for _ in 0..n_entries {
        let key = header.string()?;
        let kind = header.u32()?;
        if key == b"general.alignment" {
            let mut ahead = Header { rest: header.rest, n_values: 0 };
            alignment = if kind == U32 { u64::from(ahead.u32()?) } else { 0 };
            if !(8..=1 << 20).contains(&alignment) || !alignment.is_power_of_two() {
                return Err("general.alignment must be a power of two, 8 or above".to_owned());
            }
        }
        header.value(kind, 0)?;
    }
    let mut ends = Vec::new();
    for _ in 0..n_tensors {
        let (name, offset, size) = header.tensor(alignment)?;
        ends.push((name, offset.checked_add(size)));
    }
    let header_size = file.len().min(LONGEST_HEADER) - header.rest.len();
    let data = (header_size as u64).next_multiple_of(alignment);
    for (name, end) in ends {
        if end.and_then(|end| end.checked_add(data)).is_none_or(|end| end > file.len() as u64) {
            return Err(format!(
                "truncated: tensor `{}` lies beyond the file's {} bytes",
                String::from_utf8_lossy(name),
                file.len()
            ));
        }
    }
    Ok(())
}

const U32: u32 = 4;
const STRING: u32 = 8;
const LIST: u32 = 9;

/// What of the header is left to be read.
struct Header<'a> {
    rest: &'a [u8],
    n_values: u64,
}

impl<'a> Header<'a> {
    fn take(&mut self, n: u64) -> Result<&'a [u8], String> {
        let taken = usize::try_from(n).ok().and_then(|n| self.rest.split_at_checked(n));
        let Some((taken, rest)) = taken else {
            return Err("truncated, or a damaged header: it goes on past its end".to_owned());
        };
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(self.take(4)?.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(self.take(8)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn string(&mut self) -> Result<&'a [u8], String> {
        let length = self.u64()?;
        self.take(length)
    }

    /// Passes over one value; a list may hold lists, but not deeper.
    fn value(&mut self, kind: u32, depth: usize) -> Result<(), String> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            U32 | 5 | 6 => 4,
            10..=12 => 8,
            STRING => return self.string().map(drop),
            LIST if depth < 2 => {
                let (kind, n) = (self.u32()?, self.u64()?);
                self.n_values = self.n_values.saturating_add(n);
                if self.n_values > MOST_VALUES {
                    return Err(format!("lists of more than {MOST_VALUES} values in the metadata"));
                }
                return (0..n).try_for_each(|_| self.value(kind, depth + 1));
            }
            LIST => return Err("lists of lists of lists in the metadata".to_owned()),
            other => return Err(format!("a damaged header: values of kind {other}")),
        };
        self.take(size).map(drop)
    }

    /// Name, offset and size in bytes of one tensor.
    fn tensor(&mut self, alignment: u64) -> Result<(&'a [u8], u64, u64), String> {
        let name = self.string()?;
        let shown = || String::from_utf8_lossy(name).into_owned();
        let n_dimensions = self.u32()?;
        if n_dimensions > MOST_DIMENSIONS {
            return Err(format!("tensor `{}` has {n_dimensions} dimensions", shown()));
        }
        let dimensions = (0..n_dimensions).map(|_| self.u64());
        let dimensions = dimensions.collect::<Result<Vec<u64>, String>>()?;
        let values = dimensions.iter().try_fold(1u64, |n, &size| n.checked_mul(size));
        let row = dimensions.first().copied().unwrap_or(1);
        let kind = self.u32()?;
        let offset = self.u64()?;
        let Some((per_block, bytes)) = block_of(kind) else {
            return Err(format!(
                "tensor `{}` has GGML type {kind}; supported: F32, F16, BF16, Q4_0, Q4_1, Q5_0, \
                 Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K",
                shown()
            ));
        };
        if !row.is_multiple_of(per_block) {
            return Err(format!(
                "tensor `{}` has rows of {row} values in blocks of {per_block}",
                shown()
            ));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(format!(
                "tensor `{}` begins at {offset}, no multiple of {alignment}",
                shown()
            ));
        }
        match values.and_then(|values| (values / per_block).checked_mul(bytes)) {
            Some(size) => Ok((name, offset, size)),
            None => Err(format!("tensor `{}` has dimensions {dimensions:?}", shown())),
        }
    }
}

/// Values and bytes of a block of one of GGML's types that are read.
fn block_of(kind: u32) -> Option<(u64, u64)> {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let kind = match kind {
        0 => F32,
        1 => F16,
        2 => Q4_0,
        3 => Q4_1,
        6 => Q5_0,
        7 => Q5_1,
        8 => Q8_0,
        10 => Q2K,
        11 => Q3K,
        12 => Q4K,
        13 => Q5K,
        14 => Q6K,
        30 => BF16,
        _ => return None,
    };
    Some((kind.block_size() as u64, kind.type_size() as u64))
}
