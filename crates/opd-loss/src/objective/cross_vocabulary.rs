use opd_kernels::{CrossVocabulary, linear_cross_vocabulary};

use super::{
    Metric, Needs, Objective, ObjectiveInputs, ObjectiveOutput,
    metric::{host, of_policy},
    policy::checked_entropy_coef,
};
use crate::{Error, PolicyInputs, Result};

/// The difference from a teacher with a vocabulary of its own, at every token before which both
/// have read the same text.
///
/// ```text
/// loss = sum_t w_t (D(student_t, teacher_t) - entropy_coef entropy_t)
/// ```
///
/// `D` is that of [`linear_cross_vocabulary`]: sorted probabilities alone
/// ([`CrossVocabulary::unmatched`]: ULD), or ids of the same text compared directly and only the
/// others sorted (GOLD). Both are of the distribution of the first token of a span: what follows
/// one text. GOLD multiplies it by the probabilities of the span's later tokens; that is left
/// out, so that a long span weighs no less than a short one.
///
/// Metrics, means over trained tokens: `divergence`, `entropy`. The batch's mask must be false
/// where texts differ.
///
/// Source: Boizard et al. 2024, <https://arxiv.org/abs/2402.12030>; Patiño et al. 2025,
/// <https://huggingface.co/spaces/HuggingFaceH4/on-policy-distillation>.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossVocabularyObjective {
    how: CrossVocabulary,
    entropy_coef: f64,
}

impl CrossVocabularyObjective {
    /// The difference alone.
    pub fn new(how: CrossVocabulary) -> Self {
        Self { how, entropy_coef: 0.0 }
    }

    /// Rewards entropy with this weight; negative punishes it.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if it is not finite.
    pub fn with_entropy(self, entropy_coef: f64) -> Result<Self> {
        Ok(Self { entropy_coef: checked_entropy_coef(entropy_coef)?, ..self })
    }
}

impl Objective for CrossVocabularyObjective {
    fn name(&self) -> &str {
        match self.how.counterparts.iter().any(Option::is_some) {
            true => "gold",
            false => "uld",
        }
    }

    fn needs(&self) -> Needs {
        Needs { teacher_distribution: true, ..Needs::default() }
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        let (rows, batch) = (inputs.trained()?, inputs.batch);
        let name = "cross-vocabulary divergence";
        let teacher = rows.teacher().ok_or(Error::MissingTeacher { objective: name })?;
        let (student, ids, temperature) = (rows.student(), &rows.ids, inputs.temperature);
        let output = linear_cross_vocabulary(student, teacher, ids, &self.how, temperature)?;
        let output = rows.spread_divergence(output)?;
        let policy = PolicyInputs::new(&output.student_logprobs, batch)?;
        let mut loss = policy.aggregate(name, &output.divergence)?;
        if self.entropy_coef != 0.0 {
            let entropy = policy.aggregate("entropy", &output.student_entropy)?;
            loss = (loss - (entropy * self.entropy_coef)?)?;
        }
        let divergence = host(&output.divergence)?.into_iter().map(Some);
        let mut metrics = vec![Metric::over("divergence", batch, divergence)];
        metrics.extend(of_policy(batch, &output.student_logprobs, &output.student_entropy)?);
        Ok(ObjectiveOutput {
            loss: loss.to_dtype(inputs.hidden.dtype())?,
            metrics,
            student_logprobs: output.student_logprobs.detach(),
            entropy: output.student_entropy.detach(),
        })
    }
}
