use std::ops::Range;

use candle_core::Tensor;

use super::{Gpu, Gradients2, Product, accumulator, empty, linear::chunk_rows, product};
use crate::{Projection, Result};

/// Values of the logits' gradient that wait for the products that take them, at most: 2.5 GiB of bf16. A
/// gradient of the head that comes from one product has no other sum; one from several is read and written
/// in f32 by each, so these should be few.
#[cfg(feature = "cuda")]
const WAITING: usize = 1280 << 20;

/// The gradients of a projection, from those of its logits, which come chunk by chunk.
pub(crate) struct Gradient {
    rows: usize,
    /// Rows of one product.
    at_once: usize,
    hidden: Option<Tensor>,
    head: Option<Head>,
    /// `[at_once, V]`, and the rows that are there.
    waiting: Option<(Tensor, Range<usize>)>,
}

struct Head {
    /// `[V, H]`; of the head's dtype if one product gives it whole, else in f32.
    sum: Tensor,
    /// Whether anything is in it.
    begun: bool,
}

/// Rows of one product of all `rows`, whole chunks.
fn rows_at_once(gpu: &Gpu, rows: usize, vocab: usize) -> usize {
    let chunk = chunk_rows(gpu, vocab);
    let most: usize = match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda(_) => WAITING / vocab.max(1),
        // So few that tests see one product of several chunks, and several products.
        #[cfg(any(test, feature = "cuda-host"))]
        Gpu::Host(_) => 4 * chunk,
        #[cfg(not(any(test, feature = "cuda", feature = "cuda-host")))]
        _ => match *gpu {},
    };
    // The sum in f32 takes memory as well.
    let most = if rows <= most { rows } else { most / 2 };
    most.next_multiple_of(chunk)
}

impl Gradient {
    /// For those of the two that are part of the graph; both contiguous.
    pub(crate) fn wanted(gpu: &Gpu, hidden: &Tensor, head: &Tensor) -> Result<Self> {
        let (rows, vocab) = (hidden.dims()[0], head.dims()[0]);
        let at_once = match head.track_op() {
            true => rows_at_once(gpu, rows, vocab),
            false => chunk_rows(gpu, vocab),
        };
        let dtype = if rows <= at_once { head.dtype() } else { accumulator(head.dtype()) };
        let like = |of: &Tensor, dtype| match rows {
            0 => Ok(Tensor::zeros(of.shape(), dtype, of.device())?),
            _ => empty(of.shape(), dtype, of.device()),
        };
        let sum = || Ok::<_, crate::Error>(Head { sum: like(head, dtype)?, begun: false });
        Ok(Self {
            rows,
            at_once,
            hidden: hidden.track_op().then(|| like(hidden, hidden.dtype())).transpose()?,
            head: head.track_op().then(sum).transpose()?,
            waiting: None,
        })
    }

    /// Where the gradient of the `logits` of `rows`, the next, goes, in the hidden states' dtype: over the
    /// logits where that is theirs.
    pub(crate) fn room(
        &mut self,
        logits: &Tensor,
        hidden: &Tensor,
        rows: &Range<usize>,
    ) -> Result<Tensor> {
        if logits.dtype() == hidden.dtype() {
            return Ok(logits.clone());
        }
        let (buffer, there) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let dims = (self.at_once.min(self.rows), logits.dims()[1]);
                (empty(dims, hidden.dtype(), hidden.device())?, rows.start..rows.start)
            }
        };
        let room = buffer.narrow(0, rows.start - there.start, rows.len())?;
        self.waiting = Some((buffer, there));
        Ok(room)
    }

    /// Takes in what was written to the room of `rows`.
    pub(crate) fn add(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        student: Projection<'_>,
        dlogits: &Tensor,
        rows: &Range<usize>,
    ) -> Result<()> {
        let Some((buffer, there)) = self.waiting.take() else {
            return self.products(gpu, op, student, dlogits, rows);
        };
        let mut there = there.start..rows.end;
        if there.len() >= self.at_once || there.end == self.rows {
            let dlogits = buffer.narrow(0, 0, there.len())?;
            self.products(gpu, op, student, &dlogits, &there)?;
            there = there.end..there.end;
        }
        self.waiting = Some((buffer, there));
        Ok(())
    }

    fn products(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        Projection { hidden, head }: Projection<'_>,
        dlogits: &Tensor,
        rows: &Range<usize>,
    ) -> Result<()> {
        let head = head.on_gpu(op)?;
        if let Some(all) = &self.hidden {
            let part = all.narrow(0, rows.start, rows.len())?;
            product(gpu, op, Product::RowsByColumns, (dlogits, head), &part, false)?;
        }
        if let Some(Head { sum, begun }) = &mut self.head {
            let hidden = hidden.narrow(0, rows.start, rows.len())?;
            product(gpu, op, Product::ColumnsByColumns, (dlogits, &hidden), sum, *begun)?;
            *begun = true;
        }
        Ok(())
    }

    /// As tensors of the arguments' shapes and dtypes.
    pub(crate) fn finish(self, head: &Tensor) -> Result<Gradients2> {
        let of_head = self.head.map(|of| of.sum.to_dtype(head.dtype())).transpose()?;
        Ok((self.hidden, of_head))
    }
}
