use std::ops::Range;

use candle_core::Tensor;

use super::{
    Gpu, accumulator, empty,
    linear::{Read, chunk_rows},
    product,
};
use crate::{Result, form::Form, projection::Gradients};

/// Values of the logits' gradient that wait for the products that take them, at most: 2.5 GiB of bf16. A
/// gradient of the head that comes from one product has no other sum; one from several is read and written
/// in f32 by each, so these should be few.
#[cfg(feature = "cuda")]
const WAITING: usize = 1280 << 20;

/// The gradients of a projection, from those of its logits, which come chunk by chunk.
pub(crate) struct Gradient<'a> {
    student: &'a Read<'a>,
    /// Rows of one product.
    at_once: usize,
    hidden: Option<Tensor>,
    /// `[V, H]`; of the weight's dtype if one product gives it whole, else in f32.
    weight: Option<Sum>,
    /// `[V, 1]`, as the weight's.
    bias: Option<Sum>,
    /// `[at_once, V]`, and the rows that are there.
    waiting: Option<(Tensor, Range<usize>)>,
}

struct Sum {
    values: Tensor,
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

impl Sum {
    /// Takes in `dlogits^T of`.
    fn add(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        (dlogits, of): (&Tensor, &Tensor),
    ) -> Result<()> {
        let form = Form::ColumnsByColumns;
        product(gpu, op, form, (dlogits, of), &self.values, self.begun)?;
        self.begun = true;
        Ok(())
    }
}

impl<'a> Gradient<'a> {
    /// For those that are part of the graph.
    pub(crate) fn wanted(gpu: &Gpu, student: &'a Read<'a>) -> Result<Self> {
        let (hidden, head) = (student.of.hidden, student.of.head);
        let bias = head.bias.filter(|bias| bias.track_op());
        let (rows, vocab) = student.dims();
        let tracked = head.weight.track_op();
        let at_once = match tracked || bias.is_some() {
            true => rows_at_once(gpu, rows, vocab),
            false => chunk_rows(gpu, vocab),
        };
        let own = hidden.dtype();
        let dtype = if rows <= at_once { own } else { accumulator(own) };
        let like = |dims: &[usize], dtype| match rows {
            0 => Ok(Tensor::zeros(dims, dtype, hidden.device())?),
            _ => empty(dims, dtype, hidden.device()),
        };
        let sum = |dims: &[usize]| {
            Ok::<_, crate::Error>(Sum { values: like(dims, dtype)?, begun: false })
        };
        Ok(Self {
            student,
            at_once,
            hidden: hidden.track_op().then(|| like(hidden.dims(), own)).transpose()?,
            weight: tracked.then(|| sum(student.weight.dims())).transpose()?,
            bias: bias.map(|_| sum(&[vocab, 1])).transpose()?,
            waiting: None,
        })
    }

    /// Where the gradient of the `logits` of `rows`, the next, goes, in the dtype of what the products read:
    /// over the logits where that is theirs.
    pub(crate) fn room(&mut self, logits: &Tensor, rows: &Range<usize>) -> Result<Tensor> {
        let hidden = &self.student.hidden;
        if logits.dtype() == hidden.dtype() {
            return Ok(logits.clone());
        }
        let (buffer, there) = match self.waiting.take() {
            Some(waiting) => waiting,
            None => {
                let (all, vocab) = self.student.dims();
                let dims = (self.at_once.min(all), vocab);
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
        dlogits: &Tensor,
        rows: &Range<usize>,
    ) -> Result<()> {
        let Some((buffer, there)) = self.waiting.take() else {
            return self.products(gpu, op, dlogits, rows);
        };
        let mut there = there.start..rows.end;
        if there.len() >= self.at_once || there.end == self.student.dims().0 {
            let dlogits = buffer.narrow(0, 0, there.len())?;
            self.products(gpu, op, &dlogits, &there)?;
            there = there.end..there.end;
        }
        self.waiting = Some((buffer, there));
        Ok(())
    }

    fn products(
        &mut self,
        gpu: &Gpu,
        op: &'static str,
        dlogits: &Tensor,
        rows: &Range<usize>,
    ) -> Result<()> {
        let Read { hidden, weight, .. } = self.student;
        if let Some(all) = &self.hidden {
            let part = all.narrow(0, rows.start, rows.len())?;
            product(gpu, op, Form::RowsByColumns, (dlogits, weight), &part, false)?;
        }
        if let Some(sum) = &mut self.weight {
            let hidden = hidden.narrow(0, rows.start, rows.len())?;
            sum.add(gpu, op, (dlogits, &hidden))?;
        }
        if let Some(sum) = &mut self.bias {
            let ones = Tensor::ones((rows.len(), 1), hidden.dtype(), hidden.device())?;
            sum.add(gpu, op, (dlogits, &ones))?;
        }
        Ok(())
    }

    /// As tensors of the arguments' shapes and dtypes.
    pub(crate) fn finish(self) -> Result<Gradients> {
        let dtype = self.student.of.hidden.dtype();
        let weight = self.weight.map(|sum| sum.values.to_dtype(dtype));
        let bias = self.bias.map(|sum| sum.values.squeeze(1)?.to_dtype(dtype));
        Ok(Gradients { hidden: self.hidden, weight: weight.transpose()?, bias: bias.transpose()? })
    }
}
