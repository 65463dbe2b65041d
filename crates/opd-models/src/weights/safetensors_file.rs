use std::path::{Path, PathBuf};

use candle_core::{WithDType, quantized::GgmlDType};
use half::{bf16, f16};
use opd_kernels::MappedFile;
use rayon::prelude::*;
use safetensors::{Dtype, tensor::Metadata};

use crate::{Error, Result};

/// Longest header that is read; the largest published checkpoints have a few MB.
const LONGEST_HEADER: u64 = 100 << 20;

/// Bytes that are in memory beside the values they become; a multiple of every number's size.
const READ_AT_ONCE: usize = 8 << 20;

/// One safetensors file, mapped.
pub(super) struct SafetensorsFile {
    path: PathBuf,
    metadata: Metadata,
    bytes: MappedFile,
    data_start: usize,
}

impl SafetensorsFile {
    pub(super) fn open(path: PathBuf) -> Result<Self> {
        let bytes = MappedFile::open(&path).map_err(Error::io(&path, "read"))?;
        let bad = |what: String| Error::Weights { path: path.clone(), what };
        let size = bytes.len();
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Err(bad(format!("truncated: {size} bytes")));
        };
        let length = u64::from_le_bytes(*length);
        if length > LONGEST_HEADER || length > rest.len() as u64 {
            return Err(bad(format!(
                "truncated or no safetensors file: a header of {length} bytes in a file of {size}"
            )));
        }
        let data_start = 8 + length as usize;
        let metadata: Metadata = serde_json::from_slice(&bytes[8..data_start])
            .map_err(|error| bad(format!("damaged header: {error}")))?;
        let expected = data_start.saturating_add(metadata.data_len());
        if size != expected {
            return Err(bad(format!("truncated: expected {expected} bytes, got {size}")));
        }
        Ok(Self { path, metadata, bytes, data_start })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.metadata.info(name).map(|info| info.shape.clone())
    }

    /// Appends the values of a tensor, which must be there.
    pub(super) fn append<T: WithDType>(&self, name: &str, out: &mut Vec<T>) -> Result<()> {
        self.read(name, |dtype, bytes| {
            match dtype {
                Dtype::F32 => widen(bytes, out, |b| f32::from_le_bytes(b).into()),
                Dtype::F64 => widen(bytes, out, f64::from_le_bytes),
                Dtype::F16 => widen(bytes, out, |b| f16::from_le_bytes(b).into()),
                Dtype::BF16 => widen(bytes, out, |b| bf16::from_le_bytes(b).into()),
                other => {
                    return Err(self.bad(format!(
                        "tensor `{name}` has dtype {other:?}; supported: F64, F32, F16, BF16"
                    )));
                }
            }
            Ok(())
        })
    }

    /// How the values of a tensor are encoded, where that takes less than f32.
    pub(super) fn encoding(&self, name: &str) -> Option<GgmlDType> {
        match self.metadata.info(name)?.dtype {
            Dtype::F16 => Some(GgmlDType::F16),
            Dtype::BF16 => Some(GgmlDType::BF16),
            _ => None,
        }
    }

    /// Appends the bytes of a tensor, which must be there; `false` if there is no room.
    pub(super) fn append_encoded(&self, name: &str, out: &mut Vec<u8>) -> Result<bool> {
        let size =
            self.metadata.info(name).map_or(0, |info| info.data_offsets.1 - info.data_offsets.0);
        if out.try_reserve_exact(size).is_err() {
            return Ok(false);
        }
        self.read(name, |_, bytes| {
            out.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(true)
    }

    /// Calls `take` with the bytes of a tensor, some at a time: what was taken leaves memory.
    fn read(&self, name: &str, mut take: impl FnMut(Dtype, &[u8]) -> Result<()>) -> Result<()> {
        let Some(info) = self.metadata.info(name) else {
            return Err(self.bad(format!("tensor `{name}` is missing")));
        };
        let (start, end) = info.data_offsets;
        let range = self.data_start + start..self.data_start + end;
        let Some(bytes) = self.bytes.get(range) else {
            return Err(self.bad(format!("tensor `{name}` lies outside the file")));
        };
        let first = self.data_start + start;
        for (i, bytes) in bytes.chunks(READ_AT_ONCE).enumerate() {
            take(info.dtype, bytes)?;
            let from = first + i * READ_AT_ONCE;
            self.bytes.release(from..from + bytes.len());
        }
        Ok(())
    }

    fn bad(&self, what: String) -> Error {
        Error::Weights { path: self.path.clone(), what }
    }
}

/// Appends numbers of `N` bytes each.
pub(crate) fn widen<const N: usize, T: WithDType>(
    bytes: &[u8],
    out: &mut Vec<T>,
    number: impl Fn([u8; N]) -> f64 + Sync,
) {
    let (numbers, _) = bytes.as_chunks::<N>();
    out.par_extend(numbers.par_iter().with_min_len(1 << 14).map(|b| T::from_f64(number(*b))));
}
