//! Frozen matrices as their file has them, or as products read them.

mod blocks;

use std::{fmt, ops::Range, sync::Arc};

use candle_core::{Device, Tensor, quantized::GgmlDType};

use self::blocks::is_read;
use crate::{
    Error, Products, Result,
    cpu::{
        self, dispatch,
        gemm::{Matrix, Packed, PackedPairs},
    },
    matmul::check_encoded,
};

const OP: &str = "EncodedMatrix::new";

/// A frozen matrix `[N, K]` in the encoding of its file: bf16, f16, or blocks of GGML's quantized
/// types; or in the order in which products read it. Rows of several encodings may lie below each
/// other.
///
/// Products decode a tile of it at a time, and have the bits of products with all of it in f32.
/// Cloning shares it.
#[derive(Clone)]
pub struct EncodedMatrix {
    shape: [usize; 2],
    held: Held,
}

#[derive(Clone)]
enum Held {
    Parts(Arc<[Part]>),
    Packed(PackedValues),
}

/// The transpose of a matrix, as one kind of products reads it.
#[derive(Clone)]
pub(crate) enum PackedValues {
    F32(Arc<Packed<f32>>),
    /// Rounded to bf16.
    Bf16(Arc<PackedPairs>),
}

/// Rows of one encoding.
struct Part {
    kind: GgmlDType,
    rows: Range<usize>,
    bytes: Vec<u8>,
}

impl PackedValues {
    /// The value of a row and a column of the transpose.
    fn at(&self, row: usize, column: usize) -> f32 {
        match self {
            Self::F32(packed) => packed.at(row, column),
            Self::Bf16(packed) => packed.at(row, column),
        }
    }
}

impl fmt::Debug for EncodedMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = match &self.held {
            Held::Parts(parts) => {
                let kinds: Vec<GgmlDType> = parts.iter().map(|part| part.kind).collect();
                format!("{kinds:?}")
            }
            Held::Packed(PackedValues::F32(_)) => "F32, packed".to_owned(),
            Held::Packed(PackedValues::Bf16(_)) => "BF16, packed".to_owned(),
        };
        write!(f, "EncodedMatrix({:?}, {held})", self.shape)
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
        Ok(Self { shape: [n_rows, columns], held: Held::Parts(held.into()) })
    }

    /// `weight` `[N, K]`, f32 on the CPU, in the order in which these products read it, as it is now.
    ///
    /// It takes as much memory as the weight, half of that for [`Products::Bf16`], which keeps the
    /// values that its products would round, rounded. Those products have the bits of products with
    /// the weight and need nothing beside it: what takes the place of a frozen weight is read as
    /// fast as a [`PackedWeight`](crate::PackedWeight).
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if `weight` is no matrix or has no value, [`Error::DType`],
    /// [`Error::Device`].
    pub fn packed(products: Products, weight: &Tensor) -> Result<Self> {
        const OP: &str = "EncodedMatrix::packed";
        check_encoded(OP, ("weight", weight))?;
        let &[rows, columns] = weight.dims() else {
            let expected = "a matrix".to_owned();
            let got = weight.dims().to_vec();
            return Err(Error::Shape { op: OP, what: "weight", expected, got });
        };
        if rows * columns == 0 {
            let (expected, got) = ("at least one value".to_owned(), vec![rows, columns]);
            return Err(Error::Shape { op: OP, what: "weight", expected, got });
        }
        let weight = weight.contiguous()?;
        let values = cpu::view::<f32>(OP, &weight)?;
        let transposed = Matrix::row_major(&values, rows, columns).t();
        let values = match products {
            Products::Full => PackedValues::F32(Arc::new(Packed::held(transposed))),
            Products::Bf16 => PackedValues::Bf16(Arc::new(PackedPairs::held(transposed))),
        };
        Ok(Self { shape: [rows, columns], held: Held::Packed(values) })
    }

    /// What these products read without decoding anything, if it is held so.
    pub(crate) fn as_read(&self, products: Products) -> Option<PackedValues> {
        let Held::Packed(values) = &self.held else { return None };
        let read = matches!(
            (products, values),
            (Products::Full, PackedValues::F32(_)) | (Products::Bf16, PackedValues::Bf16(_))
        );
        read.then(|| values.clone())
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
        match &self.held {
            Held::Parts(parts) => parts.iter().map(|part| part.bytes.len()).sum(),
            Held::Packed(PackedValues::F32(packed)) => packed.n_bytes(),
            Held::Packed(PackedValues::Bf16(packed)) => packed.n_bytes(),
        }
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
        match &self.held {
            Held::Parts(parts) => self.decode_parts(parts, rows, columns, out),
            Held::Packed(values) => {
                let places = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
                for (value, (row, column)) in out.iter_mut().zip(places) {
                    *value = values.at(column, row);
                }
            }
        }
    }

    fn decode_parts(
        &self,
        parts: &[Part],
        rows: Range<usize>,
        columns: Range<usize>,
        out: &mut [f32],
    ) {
        for part in parts {
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
