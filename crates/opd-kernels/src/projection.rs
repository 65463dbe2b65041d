use candle_core::Tensor;

use crate::{
    EncodedMatrix, Error, Head, Result, WeightRef,
    cpu::{self, by_dtype, projection::HeadRows},
    gpu,
    logprob::{check_device, matrix},
    matmul::check_encoded,
};

/// Logits that are never written: hidden states and the head that would turn them into logits.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// `[T, H]`; row `t` predicts token `t`.
    pub hidden: &'a Tensor,
    /// `[V, H]`: `logits = hidden head^T`.
    pub head: Head<'a>,
}

impl<'a> Projection<'a> {
    /// Of these hidden states; a tensor as head has [`Products::Full`](crate::Products::Full).
    pub fn new(hidden: &'a Tensor, head: impl Into<Head<'a>>) -> Self {
        Self { hidden, head: head.into() }
    }

    /// Rows and vocabulary.
    pub(crate) fn check(&self, op: &'static str) -> Result<(usize, usize)> {
        check_device(op, self.hidden)?;
        let (rows, width) = matrix(op, "hidden", self.hidden)?;
        let (vocab, head_width) = match self.head.weight {
            WeightRef::Tensor(head) => {
                check_device(op, head)?;
                self.head.products.check(op, ("head", head))?;
                matrix(op, "head", head)?
            }
            WeightRef::Encoded(head) => {
                check_encoded(op, ("hidden", self.hidden))?;
                (head.dims()[0], head.dims()[1])
            }
        };
        if width != head_width {
            return Err(Error::Shape {
                op,
                what: "head",
                expected: format!("[V, {width}], as wide as hidden"),
                got: vec![vocab, head_width],
            });
        }
        let hidden = self.hidden;
        match gpu::of(hidden) {
            Some(_) => drop(gpu::suffix(op, "hidden", hidden.dtype())?),
            None => by_dtype!(op, hidden, _T => Ok(()))?,
        }
        if let Some(head) = self.head.weight.tensor()
            && head.dtype() != hidden.dtype()
        {
            let remedy = "give head and hidden one dtype";
            return Err(Error::DType { op, what: "head", got: head.dtype(), remedy });
        }
        Ok((rows, vocab))
    }
}

/// The values of a head, borrowed from where they are.
pub(crate) enum HeadValues<'a, T> {
    Tensor(cpu::View<'a, T>),
    Encoded(&'a EncodedMatrix),
}

impl<'a, T: cpu::gemm::Gemm> HeadValues<'a, T> {
    /// Of a head that is contiguous.
    pub(crate) fn of(op: &'static str, head: WeightRef<'a>) -> Result<Self> {
        Ok(match head {
            WeightRef::Tensor(head) => Self::Tensor(cpu::view(op, head)?),
            WeightRef::Encoded(head) => Self::Encoded(head),
        })
    }

    pub(crate) fn rows(&self) -> HeadRows<'_, T> {
        match self {
            Self::Tensor(values) => HeadRows::Values(values),
            Self::Encoded(head) => HeadRows::Encoded(head),
        }
    }
}

/// Which gradients of a projection are wanted, and the buffers they are gathered in.
pub(crate) struct ProjectionGradient<T> {
    pub(crate) hidden: Option<Vec<T>>,
    /// Empty until some rows have given a part of it.
    pub(crate) head: Option<Vec<T>>,
}

impl<T: cpu::gemm::Gemm> ProjectionGradient<T> {
    /// Buffers for those of the two that are part of the graph.
    pub(crate) fn wanted(hidden: &Tensor, head: WeightRef<'_>) -> Self {
        let zeros = |tensor: &Tensor| tensor.track_op().then(|| vec![T::ZERO; tensor.elem_count()]);
        Self { hidden: zeros(hidden), head: head.track_op().then(Vec::new) }
    }

    /// Takes in the gradient of the logits of `rows`.
    pub(crate) fn add(
        &mut self,
        projected: &cpu::projection::Projected<'_, T>,
        dlogits: &[T],
        rows: std::ops::Range<usize>,
    ) {
        if let Some(hidden) = &mut self.hidden {
            let at = rows.start * projected.width..rows.end * projected.width;
            projected.hidden_gradient(&mut hidden[at], dlogits);
        }
        if let Some(head) = &mut self.head {
            projected.add_head_gradient(head, dlogits, rows);
        }
    }

    /// As tensors of the arguments' shapes.
    pub(crate) fn finish(
        self,
        hidden: &Tensor,
        head: WeightRef<'_>,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let tensor = |values: Option<Vec<T>>, dims: &[usize]| {
            let whole = |mut values: Vec<T>| {
                values.resize(dims.iter().product(), T::ZERO);
                cpu::tensor(values, dims)
            };
            values.map(whole).transpose()
        };
        Ok((tensor(self.hidden, hidden.dims())?, tensor(self.head, head.dims())?))
    }
}
