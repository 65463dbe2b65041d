use candle_core::Tensor;
use opd_kernels::{
    Divergence, DivergenceOutput, Projection, linear_divergence, linear_total_variation,
};

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
/// `D` is a [`Divergence`], `forward * ForwardKl + (1 - forward) * ReverseKl`, or the total
/// variation distance. Both sides at the temperature of the inputs; nothing is multiplied by its
/// square. Metrics, means
/// over trained tokens: `divergence`, `entropy`; `kl_teacher` (student less teacher log-prob of
/// the target) from the teacher's states.
///
/// Source: Agarwal et al. 2023 (GKD), <https://arxiv.org/abs/2306.13649>; total variation Wen et
/// al. 2023, <https://arxiv.org/abs/2307.15190>.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DivergenceObjective {
    compared: Compared,
    entropy_coef: f64,
}

/// What is computed of two distributions.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Compared {
    One(Divergence),
    Mixed { forward: f64 },
    TotalVariation,
}

impl Compared {
    fn of(
        self,
        student: Projection<'_>,
        teacher: Projection<'_>,
        ids: &Tensor,
        temperature: f64,
    ) -> Result<DivergenceOutput> {
        let of = |kind| linear_divergence(student, teacher, ids, kind, temperature);
        Ok(match self {
            Self::One(kind) => of(kind)?,
            Self::TotalVariation => linear_total_variation(student, teacher, ids, temperature)?,
            Self::Mixed { forward: 0.0 } => of(Divergence::ReverseKl)?,
            Self::Mixed { forward: 1.0 } => of(Divergence::ForwardKl)?,
            Self::Mixed { forward } => {
                let (one, other) = (of(Divergence::ForwardKl)?, of(Divergence::ReverseKl)?);
                let divergence =
                    ((one.divergence * forward)? + (&other.divergence * (1.0 - forward))?)?;
                DivergenceOutput { divergence, ..other }
            }
        })
    }
}

impl DivergenceObjective {
    /// The divergence alone.
    ///
    /// # Errors
    ///
    /// [`opd_kernels::Error::Setting`] for a parameter outside its range.
    pub fn new(divergence: Divergence) -> Result<Self> {
        divergence.check()?;
        Ok(Self { compared: Compared::One(divergence), entropy_coef: 0.0 })
    }

    /// `forward * KL(teacher || student) + (1 - forward) * KL(student || teacher)`, two passes
    /// over the logits.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if `forward` is not from 0 to 1.
    pub fn mixed(forward: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&forward) {
            let (what, expected) = ("the weight of the forward KL", "from 0 to 1");
            return Err(Error::Setting { what, expected, got: forward });
        }
        Ok(Self { compared: Compared::Mixed { forward }, entropy_coef: 0.0 })
    }

    /// Half the sum of absolute differences: bounded, so that no token outweighs the others.
    pub fn total_variation() -> Self {
        Self { compared: Compared::TotalVariation, entropy_coef: 0.0 }
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
        match self.compared {
            Compared::One(Divergence::ForwardKl) => "forward_kl",
            Compared::One(Divergence::ReverseKl) => "reverse_kl",
            Compared::One(Divergence::Jsd { .. }) => "jsd",
            Compared::One(Divergence::SkewForwardKl { .. }) => "skew_forward_kl",
            Compared::One(Divergence::SkewReverseKl { .. }) => "skew_reverse_kl",
            Compared::One(_) => "divergence",
            Compared::Mixed { .. } => "mixed_kl",
            Compared::TotalVariation => "total_variation",
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
        let (rows, batch) = (inputs.trained()?, inputs.batch);
        let missing = Error::MissingTeacher { objective: self.label() };
        let teacher = rows.teacher().ok_or(missing)?;
        let output = self.compared.of(rows.student(), teacher, &rows.ids, inputs.temperature)?;
        let output = rows.spread_divergence(output)?;

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
