use std::ops::Range;

use candle_core::Tensor;

use super::{
    Gpu, accumulator,
    divergence_rows::{self, Kind},
    empty,
    gradient::Gradient,
    product,
};
use crate::{
    Products, Projection, Result,
    form::Form,
    linear_op::{LinearRows, record},
    matmul::rounded,
    projection::Operands,
};

/// Logits that exist at one time, at most, beyond [`LEAST_ROWS`] rows: 1.25 GiB of f32.
#[cfg(feature = "cuda")]
const LOGITS_AT_ONCE: usize = 320 << 20;

/// Fewer rows than this would reread the head too often.
const LEAST_ROWS: usize = 64;

/// Contiguous hidden states and head, with what the products read of them.
pub(crate) struct Read<'a> {
    pub(super) of: Projection<'a>,
    pub(super) hidden: Tensor,
    pub(super) weight: Tensor,
}

impl<'a> Read<'a> {
    /// The tensors themselves, or copies in bf16 for [`Products::Bf16`].
    pub(crate) fn of(op: &'static str, of: Projection<'a>) -> Result<Self> {
        let weight = of.head.on_gpu(op)?;
        let [hidden, weight] = match of.head.products {
            Products::Full => [of.hidden.clone(), weight.clone()],
            Products::Bf16 => [rounded(of.hidden)?, rounded(weight)?],
        };
        Ok(Self { of, hidden, weight })
    }

    /// Rows and vocabulary.
    pub(super) fn dims(&self) -> (usize, usize) {
        (self.hidden.dims()[0], self.weight.dims()[0])
    }
}

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

/// Rows of a chunk of logits.
pub(super) fn chunk_rows(gpu: &Gpu, vocab: usize) -> usize {
    let at_once: usize = match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda(_) => LOGITS_AT_ONCE,
        // As small as they get, so that tests see several.
        #[cfg(any(test, feature = "cuda-host"))]
        Gpu::Host(_) => 1,
        #[cfg(not(any(test, feature = "cuda", feature = "cuda-host")))]
        _ => match *gpu {},
    };
    (at_once / vocab.max(1) / LEAST_ROWS).clamp(1, 64) * LEAST_ROWS
}

fn chunks(gpu: &Gpu, rows: usize, vocab: usize) -> Vec<Range<usize>> {
    let size = chunk_rows(gpu, vocab);
    (0..rows).step_by(size).map(|first| first..(first + size).min(rows)).collect()
}

/// `hidden weight^T + bias` of some rows.
fn logits_of(
    gpu: &Gpu,
    op: &'static str,
    Read { of, hidden, weight }: &Read<'_>,
    rows: &Range<usize>,
) -> Result<Tensor> {
    let hidden = hidden.narrow(0, rows.start, rows.len())?;
    let (dims, dtype) = ((rows.len(), weight.dims()[0]), accumulator(hidden.dtype()));
    let logits = match of.head.bias {
        None => empty(dims, dtype, hidden.device())?,
        // The product is added to it.
        Some(bias) => bias.detach().to_dtype(dtype)?.broadcast_as(dims)?.force_contiguous()?,
    };
    let adds = of.head.bias.is_some();
    product(gpu, op, Form::RowsByRows, (&hidden, weight), &logits, adds)?;
    Ok(logits)
}

/// Calls `work` with the logits of each chunk of rows, first to last.
pub(crate) fn for_each(
    gpu: &Gpu,
    op: &'static str,
    student: &Read<'_>,
    teacher: Option<&Read<'_>>,
    mut work: impl FnMut(Chunk<'_>) -> Result<()>,
) -> Result<()> {
    let (rows, vocab) = student.dims();
    for rows in chunks(gpu, rows, vocab) {
        let logits = logits_of(gpu, op, student, &rows)?;
        let theirs = teacher.map(|teacher| logits_of(gpu, op, teacher, &rows)).transpose()?;
        work(Chunk { rows, logits: &logits, theirs: theirs.as_ref() })?;
    }
    Ok(())
}

/// The output of `rows` on contiguous hidden states and head; the backward computes the logits again.
pub(crate) fn apply<R: LinearRows + 'static>(
    gpu: Gpu,
    operands: Operands,
    rows: R,
) -> Result<Tensor> {
    let mut parts = Vec::new();
    let student = Read::of(R::OP, operands.projection())?;
    let teacher = rows.teacher().map(|of| Read::of(R::OP, of)).transpose()?;
    for_each(&gpu, R::OP, &student, teacher.as_ref(), |chunk| {
        parts.push(rows.gpu_forward(&gpu, &chunk)?);
        Ok(())
    })?;
    if parts.is_empty() {
        let (hidden, (_, vocab)) = (&student.hidden, student.dims());
        let none = Tensor::zeros((0, vocab), accumulator(hidden.dtype()), hidden.device())?;
        let chunk = Chunk { rows: 0..0, logits: &none, theirs: teacher.as_ref().map(|_| &none) };
        parts.push(rows.gpu_forward(&gpu, &chunk)?);
    }
    drop((student, teacher));
    let value = Tensor::cat(&parts, R::ROW_DIM)?;
    let backward = move |student: Projection<'_>, saved: &Tensor, upstream: &Tensor| {
        let student = Read::of(R::OP, student)?;
        let teacher = rows.teacher().map(|of| Read::of(R::OP, of)).transpose()?;
        let mut gradient = Gradient::wanted(&gpu, &student)?;
        for_each(&gpu, R::OP, &student, teacher.as_ref(), |chunk| {
            let of_rows = |all: &Tensor| {
                all.narrow(R::ROW_DIM, chunk.rows.start, chunk.rows.len())?.contiguous()
            };
            let out = gradient.room(chunk.logits, &chunk.rows)?;
            rows.gpu_backward(&gpu, &chunk, &of_rows(saved)?, &of_rows(upstream)?, &out)?;
            gradient.add(&gpu, R::OP, &out, &chunk.rows)
        })?;
        gradient.finish()
    };
    record(R::OP, operands, value, backward)
}
