use candle_core::Tensor;
use opd_kernels::{DivergenceOutput, Head, Projection, TokenLogprobs};

use super::ObjectiveInputs;
use crate::Result;

/// The trained tokens of a batch: what kernels see, so that no product has a row that reaches nothing.
///
/// All tokens where all are trained, and where none is.
pub(crate) struct TrainedRows<'a> {
    /// Places of the tokens in the batch.
    pub(crate) places: Vec<usize>,
    /// The same, `[n]`; `None` for all.
    index: Option<Tensor>,
    n_tokens: usize,
    hidden: Tensor,
    head: Head<'a>,
    teacher: Option<(Tensor, Head<'a>)>,
    /// `[n]`, the targets.
    pub(crate) ids: Tensor,
}

impl<'a> TrainedRows<'a> {
    pub(crate) fn of(inputs: &ObjectiveInputs<'a>) -> Result<Self> {
        let mask = inputs.batch.mask().values();
        let n_tokens = mask.len();
        let places = (0..n_tokens).filter(|&token| mask[token]);
        let mut places: Vec<usize> = places.collect();
        if places.is_empty() {
            places = (0..n_tokens).collect();
        }
        let device = inputs.hidden.device();
        let index = match places.len() == n_tokens {
            true => None,
            false => {
                let places: Vec<u32> = places.iter().map(|&token| token as u32).collect();
                Some(Tensor::from_slice(&places, places.len(), device)?)
            }
        };
        let select = |of: &Tensor| match &index {
            None => Ok(of.clone()),
            Some(index) => of.index_select(index, 0),
        };
        let teacher = match inputs.teacher {
            Some(teacher) => Some((select(teacher.hidden)?, teacher.head)),
            None => None,
        };
        let targets = inputs.batch.targets().values();
        let ids: Vec<u32> = places.iter().map(|&token| targets[token]).collect();
        let ids = Tensor::from_vec(ids, places.len(), device)?;
        let hidden = select(inputs.hidden)?;
        Ok(Self { places, index, n_tokens, hidden, head: inputs.head, teacher, ids })
    }

    /// Hidden states and head, for kernels.
    pub(crate) fn student(&self) -> Projection<'_> {
        Projection::new(&self.hidden, self.head)
    }

    /// The teacher's.
    pub(crate) fn teacher(&self) -> Option<Projection<'_>> {
        self.teacher.as_ref().map(|(hidden, head)| Projection::new(hidden, *head))
    }

    /// Values `[n]` of these tokens in their places among all, `[T]`; the others' are 0.
    pub(crate) fn spread(&self, values: &Tensor) -> Result<Tensor> {
        let Some(index) = &self.index else { return Ok(values.clone()) };
        let zeros = Tensor::zeros(self.n_tokens, values.dtype(), values.device())?;
        Ok(zeros.index_add(index, &values.contiguous()?, 0)?)
    }

    /// As [`Self::spread`].
    pub(crate) fn spread_logprobs(&self, of: TokenLogprobs) -> Result<TokenLogprobs> {
        let TokenLogprobs { logprobs, lse, entropy } = of;
        let [logprobs, lse, entropy] = [logprobs, lse, entropy].map(|part| self.spread(&part));
        Ok(TokenLogprobs { logprobs: logprobs?, lse: lse?, entropy: entropy? })
    }

    /// As [`Self::spread`].
    pub(crate) fn spread_divergence(&self, of: DivergenceOutput) -> Result<DivergenceOutput> {
        Ok(DivergenceOutput {
            divergence: self.spread(&of.divergence)?,
            student_entropy: self.spread(&of.student_entropy)?,
            student_logprobs: self.spread(&of.student_logprobs)?,
            teacher_logprobs: self.spread(&of.teacher_logprobs)?,
        })
    }
}
