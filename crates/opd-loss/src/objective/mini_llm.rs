use opd_kernels::{Divergence, linear_divergence};

use super::{
    Metric, Needs, Objective, ObjectiveInputs, ObjectiveOutput,
    metric::{host, of_policy},
    policy::checked_entropy_coef,
};
use crate::{
    Clip, Error, PolicyInputs, Result,
    policy::{PolicyTokens, surrogate},
};

/// MiniLLM: the reverse KL of whole responses, split into a step that is exact and the rest.
///
/// ```text
/// w_t     = sg(exp(old_logprob_t - sampler_logprob_t))
/// ratio_t = exp(student_logprob_t - sampler_logprob_t)
/// loss    = sum_t weight_t (coef w_t KL(student_t || teacher_t) + long_t - entropy_coef entropy_t)
/// long_t  = max(-ratio_t A_t, -clamp(ratio_t, 1 - below, 1 + above) A_t)
/// ```
///
/// The KL is over the whole vocabulary at token `t`, differentiated directly: of the signal at
/// `t` itself nothing is estimated from the sampled token. `A_t` is what follows the token, `coef`
/// included, as `FutureKl` of `opd-advantage` has it, with task rewards where there are any. Where
/// responses come from a mixture of student and teacher, `sampler_logprob` is the mixture's and
/// both parts carry its importance weight; on the student's own samples `w` is 1.
///
/// The source weighs token by token, `w_t` alone, where the exact weight of what depends on a
/// whole response is the product over it: a bias that the bounded variance is bought with.
///
/// Metrics, means over trained tokens: `divergence` (nats), `importance_weight`, `ratio`,
/// `clip_fraction`, `entropy`, `kl_teacher` (student less teacher log-prob of the target).
///
/// Source: Gu et al. 2023, MiniLLM, <https://arxiv.org/abs/2306.08543>, sections 2.2 and 2.3.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MiniLlm {
    coef: f64,
    clip: Clip,
    entropy_coef: f64,
}

impl MiniLlm {
    /// With the weight of the KL, 1 in the source, and bounds of the ratio, 0.2 on both sides.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a weight that is negative or not finite, and for bounds outside
    /// their ranges.
    pub fn new(coef: f64, clip: Clip) -> Result<Self> {
        clip.check()?;
        if !(coef >= 0.0 && coef.is_finite()) {
            let expected = "finite and at least 0";
            return Err(Error::Setting { what: "the weight of the KL", expected, got: coef });
        }
        Ok(Self { coef, clip, entropy_coef: 0.0 })
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

const NAME: &str = "mini_llm";

impl Objective for MiniLlm {
    fn name(&self) -> &str {
        NAME
    }

    fn needs(&self) -> Needs {
        Needs { teacher_distribution: true, ..Needs::default() }
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        let (rows, batch) = (inputs.trained()?, inputs.batch);
        let teacher = rows.teacher().ok_or(Error::MissingTeacher { objective: NAME })?;
        let output = linear_divergence(
            rows.student(),
            teacher,
            &rows.ids,
            Divergence::ReverseKl,
            inputs.temperature,
        )?;
        let output = rows.spread_divergence(output)?;
        let policy = PolicyInputs::new(&output.student_logprobs, batch)?;
        let sampler = policy.stream(batch.sampler_logprobs())?;
        let weights = (policy.old_logprobs() - &sampler)?.exp()?.detach();
        batch.check_trained("importance weight", host(&weights)?)?;
        let exact = (output.divergence.to_dtype(weights.dtype())? * (&weights * self.coef)?)?;
        let exact = policy.aggregate(NAME, &exact)?;
        let log_ratio = (policy.student_logprobs() - &sampler)?;
        let PolicyTokens { per_token, ratio, clipped, .. } =
            surrogate(&log_ratio, policy.advantages(), Some(self.clip), None)?;
        let mut loss = (exact + policy.aggregate(NAME, &per_token)?)?;
        if self.entropy_coef != 0.0 {
            let entropy = policy.aggregate("entropy", &output.student_entropy)?;
            loss = (loss - (entropy * self.entropy_coef)?)?;
        }
        let each = |values: Vec<f64>| values.into_iter().map(Some);
        let sampled =
            host(&output.student_logprobs)?.into_iter().zip(host(&output.teacher_logprobs)?);
        let sampled = sampled.map(|(student, teacher)| Some(student - teacher));
        let mut metrics = vec![
            Metric::over("divergence", batch, each(host(&output.divergence)?)),
            Metric::over("importance_weight", batch, each(host(&weights)?)),
            Metric::over("ratio", batch, each(host(&ratio)?)),
            Metric::over("clip_fraction", batch, each(host(&clipped)?)),
            Metric::over("kl_teacher", batch, sampled),
        ];
        let known = of_policy(batch, &output.student_logprobs, &output.student_entropy)?;
        metrics.extend(known.into_iter().filter(|metric| metric.name != "kl_teacher"));
        Ok(ObjectiveOutput {
            loss: loss.to_dtype(inputs.hidden.dtype())?,
            metrics,
            student_logprobs: output.student_logprobs.detach(),
            entropy: output.student_entropy.detach(),
        })
    }
}
