use candle_core::Tensor;

use crate::{
    Error, Result,
    cpu::{self, by_dtype},
    gpu,
    logprob::{check_device, matrix},
};

/// Logits that are never written: hidden states and the head that would turn them into logits.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// `[T, H]`; row `t` predicts token `t`.
    pub hidden: &'a Tensor,
    /// `[V, H]`: `logits = hidden head^T`.
    pub head: &'a Tensor,
}

impl Projection<'_> {
    /// Rows and vocabulary.
    pub(crate) fn check(&self, op: &'static str) -> Result<(usize, usize)> {
        check_device(op, self.hidden)?;
        check_device(op, self.head)?;
        let (rows, width) = matrix(op, "hidden", self.hidden)?;
        let (vocab, head_width) = matrix(op, "head", self.head)?;
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
        if self.head.dtype() != hidden.dtype() {
            let remedy = "give head and hidden one dtype";
            return Err(Error::DType { op, what: "head", got: self.head.dtype(), remedy });
        }
        Ok((rows, vocab))
    }
}

/// Which gradients of a projection are wanted, and the buffers they are gathered in.
pub(crate) struct ProjectionGradient<T> {
    pub(crate) hidden: Option<Vec<T>>,
    pub(crate) head: Option<Vec<T>>,
}

impl<T: cpu::gemm::Gemm> ProjectionGradient<T> {
    /// Buffers for those of the two that are part of the graph.
    pub(crate) fn wanted(hidden: &Tensor, head: &Tensor) -> Self {
        let zeros = |tensor: &Tensor| tensor.track_op().then(|| vec![T::ZERO; tensor.elem_count()]);
        Self { hidden: zeros(hidden), head: zeros(head) }
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
        head: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let tensor = |values: Option<Vec<T>>, like: &Tensor| {
            values.map(|values| cpu::tensor(values, like.shape())).transpose()
        };
        Ok((tensor(self.hidden, hidden)?, tensor(self.head, head)?))
    }
}
