use super::{
    Metric, Needs, Objective, ObjectiveInputs, ObjectiveOutput,
    metric::{host, of_policy},
};
use crate::{Error, PolicyInputs, PolicyLoss, ReferenceKl, Result};

/// A policy loss over the sampled tokens, with an entropy bonus and a pull to the start policy.
///
/// ```text
/// loss = sum_t w_t (policy_t - entropy_coef entropy_t + kl_loss_coef kl_t)
/// ```
///
/// Metrics, means over trained tokens: `ratio`, `clip_fraction`, `kl_old` (old less student
/// log-prob), `entropy`; where known `kl_teacher`, `kl_reference` (student less the other's);
/// `correction_weight` of a [weighted](PolicyLoss::weighted) loss.
#[derive(Debug)]
pub struct PolicyObjective {
    loss: Box<dyn PolicyLoss>,
    entropy_coef: f64,
    reference_kl: Option<ReferenceKl>,
}

impl PolicyObjective {
    /// The policy loss alone.
    pub fn new(loss: impl PolicyLoss + 'static) -> Self {
        Self { loss: Box::new(loss), entropy_coef: 0.0, reference_kl: None }
    }

    /// Rewards entropy with this weight; negative punishes it.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if it is not finite.
    pub fn with_entropy(self, entropy_coef: f64) -> Result<Self> {
        Ok(Self { entropy_coef: checked_entropy_coef(entropy_coef)?, ..self })
    }

    /// Adds a pull to the reference policy.
    pub fn with_reference_kl(self, reference_kl: ReferenceKl) -> Self {
        Self { reference_kl: Some(reference_kl), ..self }
    }
}

/// The coefficient, if it is finite.
pub(super) fn checked_entropy_coef(got: f64) -> Result<f64> {
    if got.is_finite() {
        return Ok(got);
    }
    Err(Error::Setting { what: "entropy_coef", expected: "finite", got })
}

impl Objective for PolicyObjective {
    fn name(&self) -> &str {
        self.loss.name()
    }

    fn needs(&self) -> Needs {
        Needs { reference_logprobs: self.reference_kl.is_some(), ..Needs::default() }
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        let batch = inputs.batch;
        let student = inputs.token_logprobs()?;
        let policy = PolicyInputs::new(&student.logprobs, batch)?;
        let tokens = self.loss.per_token(&policy)?;
        let mut loss = policy.aggregate(self.loss.name(), &tokens.per_token)?;
        if self.entropy_coef != 0.0 {
            let entropy = policy.aggregate("entropy", &student.entropy)?;
            loss = (loss - (entropy * self.entropy_coef)?)?;
        }
        if let Some(term) = &self.reference_kl {
            let kl = policy.aggregate("reference KL", &term.per_token(&policy)?)?;
            loss = (loss + (kl * f64::from(term.coef()))?)?;
        }
        let log_ratio = host(&policy.log_ratio()?)?;
        let each = |values: Vec<f64>| values.into_iter().map(Some);
        let mut metrics = vec![
            Metric::over("ratio", batch, each(host(&tokens.ratio)?)),
            Metric::over("clip_fraction", batch, each(host(&tokens.clipped)?)),
            Metric::over("kl_old", batch, log_ratio.into_iter().map(|d| Some(-d))),
        ];
        if let Some(weights) = &tokens.weights {
            metrics.push(Metric::over("correction_weight", batch, each(host(weights)?)));
        }
        metrics.extend(of_policy(batch, &student.logprobs, &student.entropy)?);
        Ok(ObjectiveOutput {
            loss: loss.to_dtype(inputs.hidden.dtype())?,
            metrics,
            student_logprobs: student.logprobs.detach(),
            entropy: student.entropy.detach(),
        })
    }
}
