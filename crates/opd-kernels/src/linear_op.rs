use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Layout, Shape, Tensor, backend::BackendStorage,
};
use half::{bf16, f16};

use crate::{
    EncodedMatrix, Error, Head, HeadGradient, Products, Projection, Result, Weight, WeightRef,
    cpu::{
        self, by_computed,
        columns::argument,
        gemm::{Gemm, Matrix, Tiles},
        projection::{HeadRows, HiddenRows, Projected, chunks},
    },
    gpu::{self, Gpu},
    projection::{HeadValues, HiddenValues, ProjectionGradient},
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
    let Head { weight, products, .. } = student.head;
    let hidden = student.hidden.contiguous()?;
    let head = match weight {
        WeightRef::Tensor(weight) => weight.contiguous()?,
        WeightRef::Encoded(head) => {
            let op = LinearOp { rows, products, sink: None };
            return Ok(hidden.apply_op1(WithEncoded { op, head: head.clone() })?);
        }
    };
    if let (Some(gpu), true) = (gpu::of(&hidden), R::ON_GPU) {
        return gpu::linear::apply(gpu, &hidden, &head, rows);
    }
    let sink = student.head.sink(&hidden);
    let head = if sink.is_some() { head.detach() } else { head };
    Ok(hidden.apply_op2(&head, LinearOp { rows, products, sink })?)
}

/// A frozen model's hidden states and head, contiguous and without a graph.
pub(crate) struct Frozen {
    hidden: Tensor,
    head: Weight,
    products: Products,
}

impl Frozen {
    pub(crate) fn of(teacher: Projection<'_>) -> Result<Self> {
        let Head { weight, products, .. } = teacher.head;
        let hidden = teacher.hidden.detach().contiguous()?;
        Ok(Self { hidden, head: weight.detach().as_ref().contiguous()?, products })
    }

    pub(crate) fn projection(&self) -> Projection<'_> {
        let head = Head::new(&self.head, self.products);
        Projection { hidden: &self.hidden, head }
    }
}

/// A [`LinearRows`] as an op on hidden states and head; the backward computes the logits again.
struct LinearOp<R> {
    rows: R,
    /// Those of the student's head.
    products: Products,
    sink: Option<HeadGradient>,
}

impl<R: LinearRows> LinearOp<R> {
    /// Calls `work` with the logits of `hidden` and of the teacher.
    fn with_logits<T: Gemm, A>(
        &self,
        (hidden, head): (HiddenRows<'_, T>, HeadRows<'_, T>),
        (rows, width): (usize, usize),
        vocab: usize,
        work: impl FnOnce(&ChunkedLogits<'_, T>) -> A,
    ) -> Result<A> {
        let student = Projected::new(hidden, (head, self.products), width, vocab);
        let Some(Projection { hidden, head }) = self.rows.teacher() else {
            return Ok(work(&ChunkedLogits { rows, student, teacher: None }));
        };
        let (vocab, width) = (head.weight.dims()[0], head.weight.dims()[1]);
        let (hidden, values) =
            (HiddenValues::<T>::of(R::OP, hidden)?, HeadValues::<T>::of(R::OP, head.weight)?);
        let teacher = Projected::new(hidden.rows(), (values.rows(), head.products), width, vocab);
        Ok(work(&ChunkedLogits { rows, student, teacher: Some(teacher) }))
    }

    fn forward(
        &self,
        hidden: (&CpuStorage, &Layout),
        head: HeadArgument<'_>,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = hidden.1.shape().dims2()?;
        let storage = hidden.0;
        let stored = tiles(R::OP, hidden.0, hidden.1)?;
        let stored_head = match head {
            HeadArgument::Tensor(storage, layout) => tiles(R::OP, storage, layout)?,
            HeadArgument::Encoded(_) => None,
        };
        by_computed!(R::OP, storage, T => {
            let hidden = match &stored {
                Some(hidden) => HiddenRows::Tiles(&**hidden),
                None => HiddenRows::Values(argument::<T>(R::OP, hidden.0, hidden.1)?),
            };
            let (head, vocab) = match (head, &stored_head) {
                (HeadArgument::Tensor(_, layout), Some(head)) => {
                    (HeadRows::Tiles(&**head), layout.shape().dims2()?.0)
                }
                (HeadArgument::Tensor(storage, layout), None) => {
                    let (vocab, _) = layout.shape().dims2()?;
                    (HeadRows::Values(argument::<T>(R::OP, storage, layout)?), vocab)
                }
                (HeadArgument::Encoded(head), _) => (HeadRows::Tiles(head), head.dims()[0]),
            };
            self.with_logits((hidden, head), shape, vocab, |logits| self.rows.forward(logits))
        })
    }

    fn backward(
        &self,
        hidden: &Tensor,
        head: WeightRef<'_>,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (shape, vocab) = (hidden.dims2()?, head.dims()[0]);
        let upstream = upstream.contiguous()?;
        by_computed!(R::OP, hidden, T => {
            let mut gradient = ProjectionGradient::<T>::wanted(hidden, head);
            if self.sink.is_some() {
                gradient.head = Some(Vec::new());
            }
            let (values, head_values) =
                (HiddenValues::<T>::of(R::OP, hidden)?, HeadValues::<T>::of(R::OP, head)?);
            let (saved, upstream) =
                (cpu::view::<T>(R::OP, saved)?, cpu::view::<T>(R::OP, &upstream)?);
            self.with_logits((values.rows(), head_values.rows()), shape, vocab, |all| {
                all.for_each(|Chunk { first, vocab, logits, theirs }| {
                    let chunk = Chunk { first, vocab, logits: &mut *logits, theirs };
                    self.rows.backward(chunk, &saved, &upstream);
                    let rows = first..first + logits.len() / vocab.max(1);
                    gradient.add(&all.student, logits, rows);
                });
            })?;
            let (dhidden, dhead) = gradient.finish(hidden, head)?;
            match (&self.sink, dhead) {
                (Some(sink), Some(dhead)) => {
                    sink.add(dhead)?;
                    Ok((dhidden, None))
                }
                (_, dhead) => Ok((dhidden, dhead)),
            }
        })
    }
}

/// A contiguous argument that is widened where it is read, if its dtype is not computed in.
fn tiles<'a>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<Option<Box<dyn Tiles + 'a>>> {
    let (rows, cols) = layout.shape().dims2()?;
    Ok(match storage.dtype() {
        DType::BF16 => {
            let values = argument::<bf16>(op, storage, layout)?;
            Some(Box::new(Matrix::row_major(values, rows, cols)))
        }
        DType::F16 => {
            let values = argument::<f16>(op, storage, layout)?;
            Some(Box::new(Matrix::row_major(values, rows, cols)))
        }
        _ => None,
    })
}

/// A head as an argument of an operation.
#[derive(Clone, Copy)]
enum HeadArgument<'a> {
    Tensor(&'a CpuStorage, &'a Layout),
    Encoded(&'a EncodedMatrix),
}

/// A [`LinearOp`] on hidden states alone, for a head that is frozen as its file has it.
struct WithEncoded<R> {
    op: LinearOp<R>,
    head: EncodedMatrix,
}

impl<R: LinearRows> CustomOp1 for WithEncoded<R> {
    fn name(&self) -> &'static str {
        R::OP
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.op.forward((hidden, layout), HeadArgument::Encoded(&self.head))?)
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        Ok(self.op.backward(hidden, (&self.head).into(), saved, upstream)?.0)
    }
}

impl<R: LinearRows> CustomOp2 for LinearOp<R> {
    fn name(&self) -> &'static str {
        R::OP
    }

    fn cpu_fwd(
        &self,
        hidden: &CpuStorage,
        hidden_layout: &Layout,
        head: &CpuStorage,
        head_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.forward((hidden, hidden_layout), HeadArgument::Tensor(head, head_layout))?)
    }

    fn bwd(
        &self,
        hidden: &Tensor,
        head: &Tensor,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok(self.backward(hidden, head.into(), saved, upstream)?)
    }
}
