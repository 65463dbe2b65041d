use std::borrow::Cow;

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
        let Some(info) = self.content.tensor_infos.get(name) else {
            return self.bad(format!("tensor `{name}` is missing"));
        };
        let Some(rows) = permuted(self.architecture()?, name) else {
            return self.append_in_order(name, info, out);
        };
        let [queries, keys] = self.heads()?;
        let heads = match rows {
            Rows::Queries => queries,
            Rows::Keys => keys,
        };
        let n_rows = info.shape.dims().first().copied().unwrap_or(0);
        if heads == 0 || !n_rows.is_multiple_of(2 * heads) {
            return self.bad(format!("tensor `{name}` has {n_rows} rows for {heads} heads"));
        }
        let mut values: Vec<T> = Vec::new();
        self.append_in_order(name, info, &mut values)?;
        let (half, columns) = (n_rows / heads / 2, values.len() / n_rows);
        for head in 0..heads {
            for side in 0..2 {
                for i in 0..half {
                    let row = (head * half + i) * 2 + side;
                    out.extend_from_slice(&values[row * columns..][..columns]);
                }
            }
        }
        Ok(())
    }

    fn append_in_order<T: WithDType>(
        &self,
        name: &str,
        info: &TensorInfo,
        out: &mut Vec<T>,
    ) -> Result<()> {
        let (kind, n) = (info.ggml_dtype, info.shape.elem_count());
        let size = n / kind.block_size() * kind.type_size();
        let start = self.content.tensor_data_offset.saturating_add(info.offset) as usize;
        let Some(bytes) = self.bytes.get(start..start.saturating_add(size)) else {
            return self.bad(format!("tensor `{name}` lies outside the file"));
        };
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
