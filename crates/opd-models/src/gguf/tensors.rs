use std::{borrow::Cow, ops::Range};

use candle_core::{
    Device, WithDType,
    quantized::{GgmlDType, QStorage, QTensor, gguf_file::TensorInfo},
};
use half::{bf16, f16};

use super::{
    Gguf,
    names::{ROPE_FACTORS, Rows, hugging_face, permuted},
};
use crate::{Result, weights::widen};

/// Values that are dequantized at a time.
const CHUNK: usize = 1 << 20;

impl Gguf {
    /// Hugging Face and GGUF names of the weights.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let names = self.content.tensor_infos.keys().filter(|name| *name != ROPE_FACTORS);
        names.map(|name| (hugging_face(name), name.clone())).collect()
    }

    pub(crate) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(self.content.tensor_infos.get(name)?.shape.dims().to_vec())
    }

    /// Appends the values of a tensor, by its name in the file, in the order that the Hugging
    /// Face layout has.
    pub(crate) fn append<T: WithDType>(&self, name: &str, out: &mut Vec<T>) -> Result<()> {
        let info = self.info(name)?;
        let Some(order) = self.order(name, info)? else {
            return self.append_in_order(name, info, out);
        };
        let mut values: Vec<T> = Vec::new();
        self.append_in_order(name, info, &mut values)?;
        let columns = values.len() / order.len().max(1);
        for row in order {
            out.extend_from_slice(&values[row * columns..][..columns]);
        }
        Ok(())
    }

    /// How the values of a tensor are encoded, where that takes less than f32.
    pub(crate) fn encoding(&self, name: &str) -> Option<GgmlDType> {
        let kind = self.content.tensor_infos.get(name)?.ggml_dtype;
        Some(kind).filter(|kind| *kind != GgmlDType::F32)
    }

    /// Appends the rows of a matrix as the file encodes them, in the order that the Hugging Face
    /// layout has; `false` if there is no room.
    pub(crate) fn append_encoded(&self, name: &str, out: &mut Vec<u8>) -> Result<bool> {
        let info = self.info(name)?;
        let order = self.order(name, info)?;
        let (range, bytes) = self.bytes_of(name, info)?;
        if out.try_reserve_exact(bytes.len()).is_err() {
            return Ok(false);
        }
        match order {
            None => out.extend_from_slice(bytes),
            Some(order) => {
                let row = bytes.len() / order.len().max(1);
                for i in order {
                    out.extend_from_slice(&bytes[i * row..][..row]);
                }
            }
        }
        self.bytes.release(range);
        Ok(true)
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        match self.content.tensor_infos.get(name) {
            Some(info) => Ok(info),
            None => self.bad(format!("tensor `{name}` is missing")),
        }
    }

    /// The rows of a tensor in the order of the Hugging Face layout, where the file has another.
    fn order(&self, name: &str, info: &TensorInfo) -> Result<Option<Vec<usize>>> {
        let Some(rows) = permuted(self.architecture()?, name) else { return Ok(None) };
        let [queries, keys] = self.heads()?;
        let heads = match rows {
            Rows::Queries => queries,
            Rows::Keys => keys,
        };
        let n_rows = info.shape.dims().first().copied().unwrap_or(0);
        if heads == 0 || !n_rows.is_multiple_of(2 * heads) {
            return self.bad(format!("tensor `{name}` has {n_rows} rows for {heads} heads"));
        }
        let half = n_rows / heads / 2;
        let row = |i: usize| {
            let (head, side, i) = (i / half / 2, i / half % 2, i % half);
            (head * half + i) * 2 + side
        };
        Ok(Some((0..n_rows).map(row).collect()))
    }

    /// Where the bytes of a tensor are, and they.
    fn bytes_of(&self, name: &str, info: &TensorInfo) -> Result<(Range<usize>, &[u8])> {
        let (kind, n) = (info.ggml_dtype, info.shape.elem_count());
        let size = n / kind.block_size() * kind.type_size();
        let start = self.content.tensor_data_offset.saturating_add(info.offset) as usize;
        let range = start..start.saturating_add(size);
        match self.bytes.get(range.clone()) {
            Some(bytes) => Ok((range, bytes)),
            None => self.bad(format!("tensor `{name}` lies outside the file")),
        }
    }

    fn append_in_order<T: WithDType>(
        &self,
        name: &str,
        info: &TensorInfo,
        out: &mut Vec<T>,
    ) -> Result<()> {
        let kind = info.ggml_dtype;
        let (range, bytes) = self.bytes_of(name, info)?;
        match kind {
            GgmlDType::F32 => widen(bytes, out, |b| f32::from_le_bytes(b).into()),
            GgmlDType::F16 => widen(bytes, out, |b| f16::from_le_bytes(b).into()),
            GgmlDType::BF16 => widen(bytes, out, |b| bf16::from_le_bytes(b).into()),
            _ => {
                let per_chunk = CHUNK / kind.block_size() * kind.type_size();
                for chunk in bytes.chunks(per_chunk) {
                    let n = chunk.len() / kind.type_size() * kind.block_size();
                    let stored = QStorage::from_data(Cow::Borrowed(chunk), &Device::Cpu, kind)?;
                    let values = QTensor::new(stored, n)?.dequantize(&Device::Cpu)?;
                    let values = values.to_vec1::<f32>()?;
                    out.extend(values.into_iter().map(|value| T::from_f64(value.into())));
                }
            }
        }
        self.bytes.release(range);
        Ok(())
    }

    /// The factors of `rope_freqs.weight`, if it is there.
    pub(super) fn rope_factors(&self) -> Result<Option<Vec<f64>>> {
        let Some(info) = self.content.tensor_infos.get(ROPE_FACTORS) else { return Ok(None) };
        let mut factors = Vec::new();
        self.append_in_order(ROPE_FACTORS, info, &mut factors)?;
        Ok(Some(factors))
    }

    /// Number of query heads and of key heads.
    pub(super) fn heads(&self) -> Result<[usize; 2]> {
        let prefix = self.string("general.architecture").unwrap_or("none");
        let count = |key: &str| self.whole(&format!("{prefix}.attention.{key}"));
        let Some(queries) = count("head_count") else {
            return self.bad(format!("{prefix}.attention.head_count must be a whole number"));
        };
        let keys = count("head_count_kv").unwrap_or(queries);
        match [usize::try_from(queries), usize::try_from(keys)] {
            [Ok(queries), Ok(keys)] => Ok([queries, keys]),
            _ => self.bad(format!("{prefix}.attention.head_count is {queries}")),
        }
    }
}
