use candle_core::{Device, Tensor};
use opd_kernels::{Head, Projection, RowQuery, linear_row_logprobs, linear_support_logprobs};

use super::{
    Direction, Metric, Needs, Objective, ObjectiveInputs, ObjectiveOutput, Tail,
    metric::{host, of_policy},
    policy::checked_entropy_coef,
    support::{check, support_kl},
    trained::TrainedRows,
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
/// The teacher's side comes from its hidden states, or, on the teacher's own support, from the
/// log-probs that it was asked for when the batch was scored
/// ([`LossBatch::teacher_top`](crate::LossBatch::teacher_top)), as a server can give them. No
/// gradient passes the choice of ids. Metrics as of
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

    /// Ids `[n, k + 1]` of the trained tokens, the target last, and the teacher's log-probs of them,
    /// `[n, k + 1]` or without the target's `[n, k]`.
    fn support(
        &self,
        inputs: &ObjectiveInputs<'_>,
        rows: &TrainedRows<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let Some(teacher) = rows.teacher() else { return self.scored(inputs, rows) };
        let (ours, theirs) = (inputs.head.weight.dims(), teacher.head.weight.dims());
        if ours.first() != theirs.first() {
            let expected = format!(
                "over the student's vocabulary of {:?}; cut padding rows off the larger head, or \
                 distil through sampled tokens",
                ours.first()
            );
            let (what, got) = ("the teacher's head", theirs.to_vec());
            return Err(Error::Shape { what, expected, got });
        }
        let ids = match self.support {
            Support::Teacher => self.ids(teacher, inputs, rows)?,
            Support::Student => self.ids(rows.student(), inputs, rows)?,
        };
        let (hidden, weight) = (teacher.hidden.detach(), teacher.head.weight.detach());
        let bias = teacher.head.bias.map(Tensor::detach);
        let head = Head { weight: (&weight).into(), bias: bias.as_ref(), ..teacher.head };
        let scores = linear_support_logprobs(&hidden, head, &ids, inputs.temperature)?;
        Ok((ids, scores.logprobs))
    }

    /// As [`Self::support`], from what the teacher said when the batch was scored.
    fn scored(
        &self,
        inputs: &ObjectiveInputs<'_>,
        rows: &TrainedRows<'_>,
    ) -> Result<(Tensor, Tensor)> {
        let missing = || Error::MissingTeacher { objective: self.label() };
        let top = inputs.batch.teacher_top().filter(|_| self.support == Support::Teacher);
        let (k, entries) = top.filter(|(k, _)| *k == self.k).ok_or_else(missing)?;
        let (targets, mask) = (inputs.batch.targets().values(), inputs.batch.mask().values());
        let (mut ids, mut logprobs) = (Vec::new(), Vec::new());
        for &token in &rows.places {
            let entries = &entries[token * k..][..k];
            // What stands in a token without a score must reach no gradient.
            let score = |logprob: f32| if mask[token] { logprob } else { -1.0 };
            ids.extend(entries.iter().map(|(id, _)| *id).chain([targets[token]]));
            logprobs.extend(entries.iter().map(|(_, logprob)| score(*logprob)));
        }
        let (n, device) = (rows.places.len(), inputs.hidden.device());
        let ids = Tensor::from_vec(ids, (n, k + 1), device)?;
        Ok((ids, Tensor::from_vec(logprobs, (n, k), device)?))
    }

    /// `[n, k + 1]`: the ids of the support, then the target.
    fn ids(
        &self,
        of: Projection<'_>,
        inputs: &ObjectiveInputs<'_>,
        rows: &TrainedRows<'_>,
    ) -> Result<Tensor> {
        let (targets, n) = (inputs.batch.targets().values(), rows.places.len());
        let top = self.k.min(of.head.weight.dims()[0]);
        let query = RowQuery { temperature: inputs.temperature, ids: &[], top, rank: false };
        let (hidden, weight) = (of.hidden.detach(), of.head.weight.detach());
        let head = Head { weight: (&weight).into(), ..of.head };
        let answers = linear_row_logprobs(&hidden, head, &vec![query; n])?;
        let ids = answers.into_iter().zip(&rows.places).flat_map(|(answer, &token)| {
            answer.top.into_iter().map(|(id, _)| id).chain(std::iter::once(targets[token]))
        });
        let ids: Vec<u32> = ids.collect();
        Ok(Tensor::from_vec(ids, (n, top + 1), &Device::Cpu)?)
    }
}

impl Objective for TopKObjective {
    fn name(&self) -> &str {
        self.label()
    }

    fn needs(&self) -> Needs {
        Needs {
            teacher_distribution: self.support == Support::Student,
            teacher_top: (self.support == Support::Teacher).then_some(self.k),
            ..Needs::default()
        }
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> Result<ObjectiveOutput> {
        let (rows, batch) = (inputs.trained()?, inputs.batch);
        let (ids, teacher) = self.support(inputs, &rows)?;
        let Projection { hidden, head } = rows.student();
        let student = linear_support_logprobs(hidden, head, &ids, inputs.temperature)?;
        let k = ids.dims()[1] - 1;
        let ours = student.logprobs.narrow(1, 0, k)?;
        let target = rows.spread(&student.logprobs.narrow(1, k, 1)?.squeeze(1)?)?;
        let entropy = rows.spread(&student.entropy)?;
        let theirs = teacher.narrow(1, 0, k)?;
        let divergence = rows.spread(&support_kl(&ours, &theirs, self.tail, self.direction)?)?;

        let policy = PolicyInputs::new(&target, batch)?;
        let mut loss = policy.aggregate(self.label(), &divergence)?;
        if self.entropy_coef != 0.0 {
            let entropy = policy.aggregate("entropy", &entropy)?;
            loss = (loss - (entropy * self.entropy_coef)?)?;
        }
        let each = host(&divergence)?.into_iter().map(Some);
        let mut metrics = vec![Metric::over("divergence", batch, each)];
        let known = of_policy(batch, &target, &entropy)?;
        if teacher.dims()[1] > k {
            let teacher = host(&rows.spread(&teacher.narrow(1, k, 1)?.squeeze(1)?)?)?;
            let sampled = host(&target)?.into_iter().zip(teacher);
            let sampled = sampled.map(|(student, teacher)| Some(student - teacher));
            metrics.push(Metric::over("kl_teacher", batch, sampled));
            metrics.extend(known.into_iter().filter(|metric| metric.name != "kl_teacher"));
        } else {
            metrics.extend(known);
        }
        Ok(ObjectiveOutput {
            loss: loss.to_dtype(inputs.hidden.dtype())?,
            metrics,
            student_logprobs: target.detach(),
            entropy: entropy.detach(),
        })
    }
}
