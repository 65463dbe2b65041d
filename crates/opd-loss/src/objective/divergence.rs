use opd_kernels::{Divergence, Projection, linear_divergence};

use super::{
    Metric, Needs, Objective, ObjectiveInputs, ObjectiveOutput,
    metric::{host, of_policy},
    policy::checked_entropy_coef,
};
use crate::{Error, PolicyInputs, Result};

/// A divergence between the whole distributions of student and teacher at every response token.
///
/// ```text
/// loss = sum_t w_t (D(student_t, teacher_t) - entropy_coef entropy_t)
/// ```
///
/// Both at the temperature of the inputs; nothing is multiplied by its square. Metrics, means
/// over trained tokens: `divergence`, `entropy`; `kl_teacher` (student less teacher log-prob of
/// the target) from the teacher's states.
///
/// Source: Agarwal et al. 2023 (GKD), <https://arxiv.org/abs/2306.13649>.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DivergenceObjective {
    divergence: Divergence,
    entropy_coef: f64,
}

impl DivergenceObjective {
    /// The divergence alone.
    ///
    /// # Errors
    ///
    /// [`opd_kernels::Error::Setting`] for a parameter outside its range.
    pub fn new(divergence: Divergence) -> Result<Self> {
        divergence.check()?;
        Ok(Self { divergence, entropy_coef: 0.0 })
    }

    /// Rewards entropy with this weight; negative punishes it.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if it is not finite.
    pub fn with_entropy(self, entropy_coef: f64) -> Result<Self> {
        Ok(Self { entropy_coef: checked_entropy_coef(entropy_coef)?, ..self })
    }

    fn label(&self) -> &'static str {
        match self.divergence {
            Divergence::ForwardKl => "forward_kl",
            Divergence::ReverseKl => "reverse_kl",
            Divergence::Jsd { .. } => "jsd",
            Divergence::SkewForwardKl { .. } => "skew_forward_kl",
            Divergence::SkewReverseKl { .. } => "skew_reverse_kl",
            _ => "divergence",
        }
    }
}

impl Objective for DivergenceObjective {
    fn name(&self) -> &str {
        self.label()
    }

    fn needs(&self) -> Needs {
        Needs { teacher_distribution: true, ..Needs::default() }
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        inputs.check()?;
        let batch = inputs.batch;
        let missing = Error::MissingTeacher { objective: self.label() };
        let teacher = inputs.teacher.ok_or(missing)?;
        let teacher = Projection { hidden: teacher.hidden, head: teacher.head };
        let ids = inputs.ids()?;
        let (kind, temperature) = (self.divergence, inputs.temperature);
        let output = linear_divergence(inputs.student(), teacher, &ids, kind, temperature)?;

        let policy = PolicyInputs::new(&output.student_logprobs, batch)?;
        let mut loss = policy.aggregate(self.label(), &output.divergence)?;
        if self.entropy_coef != 0.0 {
            let entropy = policy.aggregate("entropy", &output.student_entropy)?;
            loss = (loss - (entropy * self.entropy_coef)?)?;
        }
        let student = host(&output.student_logprobs)?;
        let sampled = student.iter().zip(host(&output.teacher_logprobs)?);
        let sampled = sampled.map(|(student, teacher)| Some(student - teacher));
        let divergence = host(&output.divergence)?.into_iter().map(Some);
        let mut metrics = vec![
            Metric::over("divergence", batch, divergence),
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
