use std::ops::Range;

use candle_core::{DType, Tensor};

use super::{
    Gpu, Product, accumulator,
    divergence_rows::{self, Kind},
    empty, product,
};
use crate::{
    Projection, Result,
    linear_op::{LinearRows, record},
    projection::{Gradients, Operands},
};

/// Logits that exist at one time, at most, beyond [`LEAST_ROWS`] rows: 1.25 GiB of f32.
#[cfg(feature = "cuda")]
const LOGITS_AT_ONCE: usize = 320 << 20;

/// Fewer rows than this would reread the head too often.
const LEAST_ROWS: usize = 64;

/// Logits of some adjacent rows, in f32 (f64 for f64).
pub(crate) struct Chunk<'a> {
    pub(crate) rows: Range<usize>,
    /// `[n, V]`.
    pub(crate) logits: &'a Tensor,
    /// `[n, V]`, the teacher's, if there is one.
    pub(crate) theirs: Option<&'a Tensor>,
}

impl Chunk<'_> {
    /// These rows beside the teacher's.
    pub(crate) fn pair<'a>(
        &'a self,
        ids: &'a Tensor,
        kind: Kind,
        temperature: f64,
    ) -> Result<divergence_rows::Rows<'a>> {
        let teacher = self.theirs.ok_or_else(|| {
            candle_core::Error::Msg("a divergence without a teacher's logits".into())
        })?;
        Ok(divergence_rows::Rows { student: self.logits, teacher, ids, kind, temperature })
    }
}

fn chunks(gpu: &Gpu, rows: usize, vocab: usize) -> Vec<Range<usize>> {
    let at_once: usize = match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda(_) => LOGITS_AT_ONCE,
        // As small as they get, so that tests see several.
        #[cfg(any(test, feature = "cuda-host"))]
        Gpu::Host(_) => 1,
        #[cfg(not(any(test, feature = "cuda", feature = "cuda-host")))]
        _ => match *gpu {},
    };
    let size = (at_once / vocab.max(1) / LEAST_ROWS).clamp(1, 64) * LEAST_ROWS;
    (0..rows).step_by(size).map(|first| first..(first + size).min(rows)).collect()
}

/// `hidden weight^T + bias` of some rows.
fn logits_of(
    gpu: &Gpu,
    op: &'static str,
    Projection { hidden, head }: Projection<'_>,
    rows: &Range<usize>,
) -> Result<Tensor> {
    let weight = head.on_gpu(op)?;
    let hidden = hidden.narrow(0, rows.start, rows.len())?;
    let (dims, dtype) = ((rows.len(), weight.dims()[0]), accumulator(hidden.dtype()));
    let logits = match head.bias {
        None => empty(dims, dtype, hidden.device())?,
        // The product is added to it.
        Some(bias) => bias.detach().to_dtype(dtype)?.broadcast_as(dims)?.force_contiguous()?,
    };
    product(gpu, op, Product::RowsByRows, (&hidden, weight), &logits, head.bias.is_some())?;
    Ok(logits)
}

/// Calls `work` with the logits of each chunk of rows, first to last.
pub(crate) fn for_each(
    gpu: &Gpu,
    op: &'static str,
    student: Projection<'_>,
    teacher: Option<Projection<'_>>,
    mut work: impl FnMut(Chunk<'_>) -> Result<()>,
) -> Result<()> {
    let (rows, vocab) = (student.hidden.dims()[0], student.head.weight.dims()[0]);
    for rows in chunks(gpu, rows, vocab) {
        let logits = logits_of(gpu, op, student, &rows)?;
        let theirs = teacher.map(|teacher| logits_of(gpu, op, teacher, &rows)).transpose()?;
        work(Chunk { rows, logits: &logits, theirs: theirs.as_ref() })?;
    }
    Ok(())
}

/// The gradients of a projection, as sums over chunks of rows.
pub(crate) struct Gradient {
    hidden: Option<Vec<Tensor>>,
    /// `[V, H]` in f32.
    weight: Option<Tensor>,
    /// `[V, 1]` in f32.
    bias: Option<Tensor>,
}

impl Gradient {
    /// For those that are part of the graph.
    pub(crate) fn wanted(
        op: &'static str,
        Projection { hidden, head }: Projection<'_>,
    ) -> Result<Self> {
        let weight = head.on_gpu(op)?;
        let zeros =
            |dims: &[usize]| Tensor::zeros(dims, accumulator(hidden.dtype()), hidden.device());
        let bias = head.bias.filter(|bias| bias.track_op());
        Ok(Self {
            hidden: hidden.track_op().then(Vec::new),
            weight: weight.track_op().then(|| zeros(weight.dims())).transpose()?,
            bias: bias.map(|bias| zeros(&[bias.elem_count(), 1])).transpose()?,
        })
    }

    /// Takes in the gradient of the logits of `rows`, of the hidden states' dtype.
    pub(crate) fn add(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        Projection { hidden, head }: Projection<'_>,
        dlogits: &Tensor,
        rows: &Range<usize>,
    ) -> Result<()> {
        let weight = head.on_gpu(op)?;
        if let Some(parts) = &mut self.hidden {
            let dims = (rows.len(), hidden.dims()[1]);
            let part = empty(dims, hidden.dtype(), hidden.device())?;
            product(gpu, op, Product::RowsByColumns, (dlogits, weight), &part, false)?;
            parts.push(part);
        }
        if let Some(sum) = &self.weight {
            let hidden = hidden.narrow(0, rows.start, rows.len())?;
            product(gpu, op, Product::ColumnsByColumns, (dlogits, &hidden), sum, true)?;
        }
        if let Some(sum) = &self.bias {
            let ones = Tensor::ones((rows.len(), 1), hidden.dtype(), hidden.device())?;
            product(gpu, op, Product::ColumnsByColumns, (dlogits, &ones), sum, true)?;
        }
        Ok(())
    }

    /// As tensors of the arguments' shapes and dtypes.
    pub(crate) fn finish(self, hidden: &Tensor) -> Result<Gradients> {
        let of_hidden = match self.hidden {
            None => None,
            Some(parts) if parts.is_empty() => Some(hidden.zeros_like()?),
            Some(parts) => Some(Tensor::cat(&parts, 0)?),
        };
        let bias = self.bias.map(|sum| sum.squeeze(1)?.to_dtype(hidden.dtype()));
        let weight = self.weight.map(|sum| sum.to_dtype(hidden.dtype()));
        Ok(Gradients { hidden: of_hidden, weight: weight.transpose()?, bias: bias.transpose()? })
    }
}

/// The gradient of a chunk's logits, in the dtype of the products that follow: over the logits where
/// that is theirs.
pub(crate) fn room(logits: &Tensor, dtype: DType) -> Result<Tensor> {
    if logits.dtype() == dtype {
        return Ok(logits.clone());
    }
    empty(logits.shape(), dtype, logits.device())
}

/// The output of `rows` on contiguous hidden states and head; the backward computes the logits again.
pub(crate) fn apply<R: LinearRows + 'static>(
    gpu: Gpu,
    operands: Operands,
    rows: R,
) -> Result<Tensor> {
    let mut parts = Vec::new();
    let student = operands.projection();
    for_each(&gpu, R::OP, student, rows.teacher(), |chunk| {
        parts.push(rows.gpu_forward(&gpu, &chunk)?);
        Ok(())
    })?;
    if parts.is_empty() {
        let hidden = student.hidden;
        let dims = (0, student.head.weight.dims()[0]);
        let none = Tensor::zeros(dims, accumulator(hidden.dtype()), hidden.device())?;
        let chunk = Chunk { rows: 0..0, logits: &none, theirs: rows.teacher().map(|_| &none) };
        parts.push(rows.gpu_forward(&gpu, &chunk)?);
    }
    let value = Tensor::cat(&parts, R::ROW_DIM)?;
    let backward = move |student: Projection<'_>, saved: &Tensor, upstream: &Tensor| {
        let hidden = student.hidden;
        let mut gradient = Gradient::wanted(R::OP, student)?;
        for_each(&gpu, R::OP, student, rows.teacher(), |chunk| {
            let of_rows = |all: &Tensor| {
                all.narrow(R::ROW_DIM, chunk.rows.start, chunk.rows.len())?.contiguous()
            };
            let out = room(chunk.logits, hidden.dtype())?;
            rows.gpu_backward(&gpu, &chunk, &of_rows(saved)?, &of_rows(upstream)?, &out)?;
            gradient.add(&gpu, R::OP, student, &out, &chunk.rows)
        })?;
        gradient.finish(hidden)
    };
    record(R::OP, operands, value, backward)
}
