//! Frozen matrices as their file has them.

mod blocks;

use std::{fmt, ops::Range, sync::Arc};

use candle_core::{Device, Tensor, quantized::GgmlDType};

use self::blocks::is_read;
use crate::{Error, Result, cpu::dispatch};

const OP: &str = "EncodedMatrix::new";

/// A frozen matrix `[N, K]` in the encoding of its file: bf16, f16, or blocks of GGML's quantized
/// types. Rows of several encodings may lie below each other.
///
/// Products decode a tile of it at a time, and have the bits of products with all of it in f32.
/// Cloning shares it.
#[derive(Clone)]
pub struct EncodedMatrix {
    shape: [usize; 2],
    parts: Arc<[Part]>,
}

/// Rows of one encoding.
struct Part {
    kind: GgmlDType,
    rows: Range<usize>,
    bytes: Vec<u8>,
}

impl fmt::Debug for EncodedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<GgmlDType> = self.parts.iter().map(|part| part.kind).collect();
        write!(f, "EncodedMatrix({:?}, {kinds:?})", self.shape)
    }
}

impl EncodedMatrix {
    /// Rows of `columns` values each, back to back; the parts lie below each other.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if there is no value or a part is not made of whole rows of whole blocks;
    /// [`Error::Candle`] for an encoding that is not read.
    pub fn new(parts: Vec<(GgmlDType, Vec<u8>)>, columns: usize) -> Result<Self> {
        let mut n_rows = 0;
        let mut held = Vec::with_capacity(parts.len());
        for (kind, bytes) in parts {
            if !is_read(kind) {
                let what = format!("{OP}: {kind:?} is not read; convert it to f32");
                return Err(candle_core::Error::Msg(what).into());
            }
            let whole = columns > 0 && columns.is_multiple_of(kind.block_size());
            if !whole || bytes.is_empty() || !bytes.len().is_multiple_of(row_bytes(kind, columns)) {
                let expected = format!("whole rows of {columns} values in blocks of {kind:?}");
                let got = vec![bytes.len()];
                return Err(Error::Shape { op: OP, what: "bytes", expected, got });
            }
            let rows = n_rows..n_rows + bytes.len() / row_bytes(kind, columns);
            n_rows = rows.end;
            held.push(Part { kind, rows, bytes });
        }
        if n_rows == 0 {
            let (expected, got) = ("at least one".to_owned(), vec![0]);
            return Err(Error::Shape { op: OP, what: "parts", expected, got });
        }
        Ok(Self { shape: [n_rows, columns], parts: held.into() })
    }

    /// `[N, K]`.
    pub fn dims(&self) -> &[usize; 2] {
        &self.shape
    }

    /// Number of values.
    pub fn elem_count(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Bytes that it takes of memory.
    pub fn n_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// All values, in f32 on the CPU.
    ///
    /// # Errors
    ///
    /// If candle fails.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let mut values = vec![0.0; self.elem_count()];
        self.decode(0..self.shape[0], 0..self.shape[1], &mut values);
        Ok(Tensor::from_vec(values, &self.shape, &Device::Cpu)?)
    }

    /// Values of some rows and columns, rows back to back.
    ///
    /// # Panics
    ///
    /// If they are not inside, the columns do not cover whole blocks, or `out` has another length.
    pub(crate) fn decode(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        assert!(rows.end <= self.shape[0] && columns.end <= self.shape[1], "a part outside");
        assert_eq!(out.len(), rows.len() * columns.len(), "values of a part");
        if out.is_empty() {
            return;
        }
        for part in self.parts.iter() {
            let (first, end) = (rows.start.max(part.rows.start), rows.end.min(part.rows.end));
            if first >= end {
                continue;
            }
            let (row, per_block) = (row_bytes(part.kind, self.shape[1]), part.kind.block_size());
            assert!(
                columns.start.is_multiple_of(per_block) && columns.end.is_multiple_of(per_block),
                "a part of a block"
            );
            let start = row_bytes(part.kind, columns.start);
            let bytes = &part.bytes[(first - part.rows.start) * row..];
            let out = &mut out[(first - rows.start) * columns.len()..];
            let rows = bytes.chunks_exact(row).zip(out.chunks_exact_mut(columns.len()));
            let length = row_bytes(part.kind, columns.len());
            dispatch(
                #[inline(always)]
                || {
                    for (bytes, out) in rows.take(end - first) {
                        blocks::decode(part.kind, &bytes[start..start + length], out);
                    }
                },
            );
        }
    }
}

/// Bytes of so many values, whole blocks of them.
fn row_bytes(kind: GgmlDType, values: usize) -> usize {
    values / kind.block_size() * kind.type_size()
}
