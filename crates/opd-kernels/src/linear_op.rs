use candle_core::{CpuStorage, Shape, Tensor};

use crate::{
    Error, Head, HeadGradient, Projection, Result, Weight, WeightRef,
    cpu::{
        self, by_computed,
        gemm::Gemm,
        part::Part,
        projection::{Projected, chunks},
    },
    gpu::{self, Gpu, Recorded1, Recorded2, Recorded3},
    projection::{Gradients, Operands, ProjectionGradient, ProjectionView},
};

/// What is done with rows of logits that exist for a chunk of rows at a time.
pub(crate) trait LinearRows: Send + Sync {
    /// Name of the op.
    const OP: &'static str;

    /// The frozen model whose logits stand beside those that are differentiated.
    fn teacher(&self) -> Option<Projection<'_>> {
        None
    }

    /// The op's output from the logits of all rows.
    fn forward<T: Gemm>(&self, logits: &ChunkedLogits<'_, T>) -> (CpuStorage, Shape);

    /// Replaces `chunk.logits` by their gradient, from the op's output and its gradient.
    fn backward<T: Gemm>(&self, chunk: Chunk<'_, T>, saved: &[T], upstream: &[T]);

    /// The dimension of the op's output that counts rows.
    const ROW_DIM: usize = 1;

    /// Whether there are kernels for a GPU: the methods that follow.
    const ON_GPU: bool = true;

    /// The op's output for a chunk of rows on a GPU.
    fn gpu_forward(&self, _: &Gpu, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        Err(no_kernel(Self::OP, chunk))
    }

    /// Gradient of a chunk's logits into `out`, which may share their memory, from the chunk's part of
    /// the op's output and of its gradient.
    fn gpu_backward(
        &self,
        _: &Gpu,
        chunk: &gpu::linear::Chunk<'_>,
        _saved: &Tensor,
        _upstream: &Tensor,
        _out: &Tensor,
    ) -> Result<()> {
        Err(no_kernel(Self::OP, chunk))
    }
}

fn no_kernel(op: &'static str, chunk: &gpu::linear::Chunk<'_>) -> Error {
    Error::Device { op, device: format!("{:?}", chunk.logits.device()) }
}

/// Logits of some adjacent rows.
pub(crate) struct Chunk<'a, T> {
    /// Row of the first.
    pub(crate) first: usize,
    pub(crate) vocab: usize,
    /// `[n, V]`.
    pub(crate) logits: &'a mut [T],
    /// `[n, W]`, the teacher's; empty without one. `W` is its vocabulary, most often `V`.
    pub(crate) theirs: &'a [T],
}

/// Logits of all rows, to be had chunk by chunk.
pub(crate) struct ChunkedLogits<'a, T> {
    pub(crate) rows: usize,
    student: Projected<'a, T>,
    teacher: Option<Projected<'a, T>>,
}

impl<T: Gemm> ChunkedLogits<'_, T> {
    /// Calls `work` with each chunk, first to last.
    pub(crate) fn for_each(&self, mut work: impl FnMut(Chunk<'_, T>)) {
        let vocab = self.student.vocab;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for chunk in chunks(self.rows, vocab) {
            let logits = self.student.logits(&mut ours, chunk.clone());
            let theirs = match &self.teacher {
                Some(teacher) => &*teacher.logits(&mut theirs, chunk.clone()),
                None => &[],
            };
            work(Chunk { first: chunk.start, vocab, logits, theirs });
        }
    }
}

/// The op's output on the hidden states and head of `student`.
pub(crate) fn apply<R: LinearRows + 'static>(student: Projection<'_>, rows: R) -> Result<Tensor> {
    let operands = Operands::of(student)?;
    if let (Some(gpu), true) = (gpu::of(&operands.hidden), R::ON_GPU) {
        return gpu::linear::apply(gpu, operands, rows);
    }
    let sink = student.head.sink(&operands.hidden);
    let op = LinearOp { rows, sink: sink.clone() };
    let value = op.forward(operands.projection())?;
    let backward = move |student: Projection<'_>, saved: &Tensor, upstream: &Tensor| {
        op.backward(student, saved, upstream)
    };
    record(R::OP, operands.gathered_by(&sink), value, backward)
}

/// A frozen model's hidden states and head, contiguous and without a graph.
pub(crate) struct Frozen(Operands);

impl Frozen {
    pub(crate) fn of(teacher: Projection<'_>) -> Result<Self> {
        Ok(Self(Operands::of(teacher)?.detach()))
    }

    pub(crate) fn projection(&self) -> Projection<'_> {
        self.0.projection()
    }
}

/// A [`LinearRows`] as an op on hidden states and head; the backward computes the logits again.
struct LinearOp<R> {
    rows: R,
    sink: Option<HeadGradient>,
}

impl<R: LinearRows> LinearOp<R> {
    /// Calls `work` with the logits of `student` and of the teacher.
    fn with_logits<T: Gemm, A>(
        &self,
        student: Projection<'_>,
        work: impl FnOnce(&ChunkedLogits<'_, T>) -> A,
    ) -> Result<A> {
        let rows = student.hidden.dims()[0];
        let student = ProjectionView::<T>::of(R::OP, student)?;
        let teacher = self.rows.teacher();
        let teacher = teacher.map(|of| ProjectionView::<T>::of(R::OP, of)).transpose()?;
        let teacher = teacher.as_ref().map(ProjectionView::projected);
        Ok(work(&ChunkedLogits { rows, student: student.projected(), teacher }))
    }

    fn forward(&self, student: Projection<'_>) -> Result<Tensor> {
        let hidden = student.hidden;
        by_computed!(R::OP, hidden, T => {
            let (storage, shape) =
                self.with_logits::<T, _>(student, |logits| self.rows.forward(logits))?;
            Ok(cpu::of_storage(storage, shape))
        })
    }

    fn backward(
        &self,
        student: Projection<'_>,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> Result<Gradients> {
        let (hidden, upstream) = (student.hidden, upstream.contiguous()?);
        by_computed!(R::OP, hidden, T => {
            let mut gradient = ProjectionGradient::<T>::wanted(student);
            if self.sink.is_some() {
                gradient.weight = Some(Vec::new());
            }
            let (saved, upstream) =
                (cpu::view::<T>(R::OP, saved)?, cpu::view::<T>(R::OP, &upstream)?);
            self.with_logits::<T, _>(student, |all| {
                all.for_each(|Chunk { first, vocab, logits, theirs }| {
                    let chunk = Chunk { first, vocab, logits: &mut *logits, theirs };
                    self.rows.backward(chunk, &saved, &upstream);
                    let rows = first..first + logits.len() / vocab.max(1);
                    gradient.add(&all.student, logits, &Part::of_rows(rows, vocab));
                });
            })?;
            gather(&self.sink, gradient.finish(student)?)
        })
    }
}

/// Leaves the weight's gradient where it is wanted instead of candle's store.
pub(crate) fn gather(sink: &Option<HeadGradient>, mut gradients: Gradients) -> Result<Gradients> {
    if let (Some(sink), Some(of_weight)) = (sink, gradients.weight.take_if(|_| sink.is_some())) {
        sink.add(of_weight)?;
    }
    Ok(gradients)
}

/// Puts `value` into the graph of those of the operands that are tensors. `backward` gets the
/// operands, the value and its gradient.
pub(crate) fn record<F>(
    name: &'static str,
    operands: Operands,
    value: Tensor,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(Projection<'_>, &Tensor, &Tensor) -> Result<Gradients> + Send + Sync + 'static,
{
    let Operands { hidden, weight, bias, products } = operands;
    let of = move |hidden: &Tensor,
                   weight: WeightRef<'_>,
                   bias: Option<&Tensor>,
                   saved: &Tensor,
                   upstream: &Tensor| {
        let head = Head { bias, ..Head::new(weight, products) };
        backward(Projection { hidden, head }, saved, upstream)
    };
    Ok(match (weight, bias) {
        (Weight::Tensor(weight), None) => {
            let backward = move |hidden: &Tensor, weight: &Tensor, saved: &Tensor, g: &Tensor| {
                let gradients = of(hidden, weight.into(), None, saved, g)?;
                Ok((gradients.hidden, gradients.weight))
            };
            hidden.apply_op2(&weight, Recorded2 { name, value, backward })?
        }
        (Weight::Tensor(weight), Some(bias)) => {
            let backward = move |hidden: &Tensor,
                                 weight: &Tensor,
                                 bias: &Tensor,
                                 saved: &Tensor,
                                 g: &Tensor| {
                let gradients = of(hidden, weight.into(), Some(bias), saved, g)?;
                Ok((gradients.hidden, gradients.weight, gradients.bias))
            };
            hidden.apply_op3(&weight, &bias, Recorded3 { name, value, backward })?
        }
        (Weight::Encoded(weight), None) => {
            let backward = move |hidden: &Tensor, saved: &Tensor, g: &Tensor| {
                let gradients = of(hidden, (&weight).into(), None, saved, g)?;
                gradients.hidden.map_or_else(|| Ok(hidden.zeros_like()?), Ok)
            };
            hidden.apply_op1(Recorded1 { name, value, backward })?
        }
        (Weight::Encoded(weight), Some(bias)) => {
            let backward = move |hidden: &Tensor, bias: &Tensor, saved: &Tensor, g: &Tensor| {
                let gradients = of(hidden, (&weight).into(), Some(bias), saved, g)?;
                Ok((gradients.hidden, gradients.bias))
            };
            hidden.apply_op2(&bias, Recorded2 { name, value, backward })?
        }
    })
}
