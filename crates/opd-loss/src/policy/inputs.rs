use candle_core::{DType, Tensor};
use opd_batch::Ragged;

use crate::{Error, LossBatch, Result};

/// What a policy loss computes from: tensors of `[T]`, in f64.
///
/// Tokens that are not trained on hold 0 in every stream, so that whatever stood there can
/// reach neither the loss nor a gradient.
#[derive(Clone, Debug)]
pub struct PolicyInputs<'a> {
    batch: &'a LossBatch,
    student_logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    mask: Tensor,
}

impl<'a> PolicyInputs<'a> {
    /// Checks `student_logprobs` (`[T]`, nats, with graph, in the batch's order) and moves the
    /// batch's streams to its device.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`]; [`Error::NoGradient`]; [`Error::NotFinite`] naming the row and token of
    /// a log-prob that is trained on.
    pub fn new(student_logprobs: &Tensor, batch: &'a LossBatch) -> Result<Self> {
        Self::named("student_logprobs", student_logprobs, batch)
    }

    /// As [`Self::new`], of what `what` names in errors.
    pub(crate) fn named(
        what: &'static str,
        student_logprobs: &Tensor,
        batch: &'a LossBatch,
    ) -> Result<Self> {
        let tokens = batch.n_tokens();
        if student_logprobs.dims() != [tokens] {
            return Err(Error::Shape {
                what,
                expected: format!("[{tokens}], one per token of the batch"),
                got: student_logprobs.dims().to_vec(),
            });
        }
        if !student_logprobs.track_op() {
            return Err(Error::NoGradient { what });
        }
        let device = student_logprobs.device();
        let student = student_logprobs.to_dtype(DType::F64)?;
        batch.check_trained(what, student.detach().to_vec1::<f64>()?)?;
        let mask: Vec<u8> = batch.mask().values().iter().map(|&trained| trained.into()).collect();
        let mask = Tensor::from_vec(mask, tokens, device)?;
        let inputs = Self {
            batch,
            student_logprobs: mask.where_cond(&student, &student.zeros_like()?)?,
            old_logprobs: Tensor::zeros(tokens, DType::F64, device)?,
            advantages: Tensor::zeros(tokens, DType::F64, device)?,
            mask,
        };
        Ok(Self {
            old_logprobs: inputs.stream(batch.old_logprobs())?,
            advantages: inputs.stream(batch.advantages())?,
            ..inputs
        })
    }

    /// The batch.
    pub fn batch(&self) -> &'a LossBatch {
        self.batch
    }

    /// Log-probs of the current policy, `[T]`, with graph.
    pub fn student_logprobs(&self) -> &Tensor {
        &self.student_logprobs
    }

    /// Log-probs of the policy before this batch's updates, `[T]`.
    pub fn old_logprobs(&self) -> &Tensor {
        &self.old_logprobs
    }

    /// Advantages, `[T]`.
    pub fn advantages(&self) -> &Tensor {
        &self.advantages
    }

    /// 1 for tokens that are trained on, `[T]` (u8).
    pub fn mask(&self) -> &Tensor {
        &self.mask
    }

    /// `student_logprobs - old_logprobs`, `[T]`, with graph.
    ///
    /// # Errors
    ///
    /// If candle fails.
    pub fn log_ratio(&self) -> Result<Tensor> {
        Ok((&self.student_logprobs - &self.old_logprobs)?)
    }

    /// A stream of the batch as `[T]`, 0 where the mask is.
    ///
    /// # Errors
    ///
    /// [`opd_batch::Error::Rows`] if the stream is not of this batch.
    pub fn stream(&self, stream: &Ragged<f32>) -> Result<Tensor> {
        let trained = self.batch.mask().zip_with(stream, "stream", |&trained, &value| {
            if trained { f64::from(value) } else { 0.0 }
        })?;
        let device = self.student_logprobs.device();
        Ok(Tensor::from_vec(trained.into_values(), self.batch.n_tokens(), device)?)
    }

    /// `sum_t w_t l_t` of per-token values, with the batch's weights.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`] naming `what`, row and token.
    pub fn aggregate(&self, what: &'static str, per_token: &Tensor) -> Result<Tensor> {
        let per_token = per_token.to_dtype(DType::F64)?;
        self.batch.check_trained(what, per_token.detach().to_vec1::<f64>()?)?;
        let per_token = self.mask.where_cond(&per_token, &per_token.zeros_like()?)?;
        Ok((per_token * self.stream(self.batch.weights())?)?.sum_all()?)
    }
}
