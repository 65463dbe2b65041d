use opd_batch::{Ragged, ScoredBatch};

use crate::{AdvantageEstimator, Result, discounted::discounted_spans, output::per_token, setting};

const NAME: &str = "ExtrapolatedKl";

/// The distillation signal beyond the teacher: its difference from a reference, scaled up.
///
/// ```text
/// x_t = coef * m_t * ((teacher_t - old_t) + (lambda - 1) * (teacher_t - reference_t))
/// A_t = x_t + discount * A_{t+1},   A = 0 after the last token
/// ```
///
/// Log-probs in nats. The student that this leads to is proportional to
/// `reference * (teacher / reference)^lambda`: the reference at 0, the teacher at 1, which is
/// [`ReverseKl`](crate::ReverseKl) and needs no reference, and beyond the teacher above 1. The
/// source's reference is the teacher's own start; the batch's is whatever scored it. Spans, masked and
/// unscored tokens are treated as by `ReverseKl`.
///
/// Source: Yang et al. 2026, Learning beyond Teacher (G-OPD, ExOPD),
/// <https://arxiv.org/abs/2602.12125>.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct ExtrapolatedKl {
    /// Weight of the signal, at least 0; default 1.
    pub coef: f32,
    /// How far from the reference towards the teacher, at least 0; default 1: to the teacher.
    pub lambda: f32,
    /// How much a token answers for the signal after it, from 0 to 1; default 0.
    pub discount: f32,
}

impl Default for ExtrapolatedKl {
    fn default() -> Self {
        Self { coef: 1.0, lambda: 1.0, discount: 0.0 }
    }
}

impl AdvantageEstimator for ExtrapolatedKl {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        self.validate()?;
        let teacher = batch.teacher_logprobs(NAME)?.values();
        let beyond = f64::from(self.lambda) - 1.0;
        let reference = match self.lambda == 1.0 {
            true => None,
            false => Some(batch.per_span(batch.reference_logprobs(NAME)?)?),
        };
        let (old, mask) = (batch.per_span(batch.old_logprobs())?, batch.mask().values());
        let coef = f64::from(self.coef);
        let signal = |token: usize| match teacher[token] {
            Some(teacher) if mask[token] => {
                let teacher = f64::from(teacher);
                let extra = reference.as_ref().map_or(0.0, |r| beyond * (teacher - r[token]));
                coef * (teacher - old[token] + extra)
            }
            _ => 0.0,
        };
        let mut signal: Vec<f64> = (0..mask.len()).map(signal).collect();
        discounted_spans(batch, &mut signal, f64::from(self.discount));
        per_token(batch, signal, "advantages of ExtrapolatedKl")
    }

    fn validate(&self) -> Result<()> {
        setting::coefficient(NAME, "coef", self.coef)?;
        setting::coefficient(NAME, "lambda", self.lambda)?;
        setting::fraction(NAME, "discount", self.discount)
    }
}
