use candle_core::{Device, Tensor};
use opd_kernels::{Projection, RowQuery, linear_row_logprobs, linear_support_logprobs};

use super::{
    Direction, Metric, Needs, Objective, ObjectiveInputs, ObjectiveOutput, Tail,
    metric::{host, of_policy},
    policy::checked_entropy_coef,
    support::{check, support_kl},
};
use crate::{Error, PolicyInputs, Result};

/// Whose likeliest ids a divergence looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Support {
    /// The teacher's.
    #[default]
    Teacher,
    /// The student's: where its own mass is.
    Student,
}

/// A KL between student and teacher over `k` ids per token and a bucket for the rest.
///
/// ```text
/// loss = sum_t w_t (KL_k(student_t, teacher_t) - entropy_coef entropy_t)
/// ```
///
/// `KL_k` is [`support_kl`](crate::support_kl), at the temperature of the inputs on both sides.
/// No gradient passes the choice of ids. Metrics as of
/// [`DivergenceObjective`](crate::DivergenceObjective).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopKObjective {
    k: usize,
    support: Support,
    tail: Tail,
    direction: Direction,
    entropy_coef: f64,
}

impl TopKObjective {
    /// The divergence over `k` ids.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for `k = 0`; [`Error::Refused`] for a renormalised support of one id
    /// and for [`Tail::Truncated`], see [`Self::biased`].
    pub fn new(k: usize, support: Support, tail: Tail, direction: Direction) -> Result<Self> {
        if tail == Tail::Truncated {
            return Err(Error::Refused {
                what: "a truncated top-k KL as a loss",
                reason: "it is not smallest where student and teacher agree: the reverse one \
                         pushes mass off the support, the forward one onto it",
                remedy: "use the tail bucket, or `TopKObjective::biased` if that is the point",
            });
        }
        Self::biased(k, support, tail, direction)
    }

    /// As [`Self::new`], truncation included.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for `k = 0`; [`Error::Refused`] for a renormalised support of one id.
    pub fn biased(k: usize, support: Support, tail: Tail, direction: Direction) -> Result<Self> {
        check(k, tail)?;
        Ok(Self { k, support, tail, direction, entropy_coef: 0.0 })
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
        match self.direction {
            Direction::Forward => "top_k_forward_kl",
            Direction::Reverse => "top_k_reverse_kl",
        }
    }

    /// `[T, k + 1]`: the ids of the support, then the target.
    fn ids(&self, of: Projection<'_>, inputs: &ObjectiveInputs<'_>) -> Result<Tensor> {
        let targets = inputs.batch.targets().values();
        let top = self.k.min(of.head.dims()[0]);
        let query = RowQuery { temperature: inputs.temperature, ids: &[], top, rank: false };
        let (hidden, head) = (of.hidden.detach(), of.head.detach());
        let answers = linear_row_logprobs(&hidden, &head, &vec![query; targets.len()])?;
        let rows = answers.into_iter().zip(targets);
        let ids = rows.flat_map(|(answer, &target)| {
            answer.top.into_iter().map(|(id, _)| id).chain(std::iter::once(target))
        });
        let ids: Vec<u32> = ids.collect();
        Ok(Tensor::from_vec(ids, (targets.len(), top + 1), &Device::Cpu)?)
    }
}

impl Objective for TopKObjective {
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
        let (ours, theirs) = (inputs.head.dims(), teacher.head.dims());
        if ours.first() != theirs.first() {
            let expected = format!(
                "over the student's vocabulary of {:?}; cut padding rows off the larger head, or \
                 distil through sampled tokens",
                ours.first()
            );
            let (what, got) = ("the teacher's head", theirs.to_vec());
            return Err(Error::Shape { what, expected, got });
        }
        let theirs = Projection { hidden: teacher.hidden, head: teacher.head };
        let ids = match self.support {
            Support::Teacher => self.ids(theirs, inputs)?,
            Support::Student => self.ids(inputs.student(), inputs)?,
        };
        let temperature = inputs.temperature;
        let student = linear_support_logprobs(inputs.hidden, inputs.head, &ids, temperature)?;
        let (hidden, head) = (teacher.hidden.detach(), teacher.head.detach());
        let teacher = linear_support_logprobs(&hidden, &head, &ids, temperature)?;
        let k = ids.dims()[1] - 1;
        let split = |logprobs: &Tensor| -> Result<(Tensor, Tensor)> {
            Ok((logprobs.narrow(1, 0, k)?, logprobs.narrow(1, k, 1)?.squeeze(1)?))
        };
        let (ours, target) = split(&student.logprobs)?;
        let (theirs, teacher_target) = split(&teacher.logprobs)?;
        let divergence = support_kl(&ours, &theirs, self.tail, self.direction)?;

        let policy = PolicyInputs::new(&target, batch)?;
        let mut loss = policy.aggregate(self.label(), &divergence)?;
        if self.entropy_coef != 0.0 {
            let entropy = policy.aggregate("entropy", &student.entropy)?;
            loss = (loss - (entropy * self.entropy_coef)?)?;
        }
        let sampled = host(&target)?.into_iter().zip(host(&teacher_target)?);
        let sampled = sampled.map(|(student, teacher)| Some(student - teacher));
        let each = host(&divergence)?.into_iter().map(Some);
        let mut metrics = vec![
            Metric::over("divergence", batch, each),
            Metric::over("kl_teacher", batch, sampled),
        ];
        let known = of_policy(batch, &target, &student.entropy)?;
        metrics.extend(known.into_iter().filter(|metric| metric.name != "kl_teacher"));
        Ok(ObjectiveOutput {
            loss: loss.to_dtype(inputs.hidden.dtype())?,
            metrics,
            student_logprobs: target.detach(),
            entropy: student.entropy.detach(),
        })
    }
}
