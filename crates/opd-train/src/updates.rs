//! The optimizer's steps on a batch.

use std::borrow::Cow;

use candle_core::{DType, Tensor};
use opd_batch::{Author, RolloutBatch};
use opd_loss::{LossBatch, Metric, ObjectiveInputs, ObjectiveOutput, TeacherStates};
use opd_models::Gradients;
use rayon::prelude::*;

use crate::{
    Critic, LearningRate, Result, Trainer, ValueTargets,
    checkpointing::checkpointing,
    critic::CriticGradients,
    micro_batches,
    scoring::{sequences, teacher_sequences},
    supervised::SupervisedBatch,
};

/// What the updates of a step gather.
#[derive(Default)]
pub(crate) struct Updates {
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    pub(crate) lr: f64,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) ratio: Ratio,
    /// Norm of the critic's gradient and its learning rate.
    pub(crate) critic: Option<(f64, f64)>,
}

/// Gradients in the making.
struct Sums {
    student: Gradients,
    critic: Option<CriticGradients>,
}

impl Sums {
    fn add(&mut self, other: Self) -> Result<()> {
        if let (Some(critic), Some(more)) = (&mut self.critic, other.critic) {
            critic.add(more)?;
        }
        Ok(self.student.add(other.student)?)
    }
}

/// A micro-batch that went through the model and back.
struct Differentiated {
    micro: LossBatch,
    output: ObjectiveOutput,
    gradients: Sums,
}

/// Importance ratio of the step's first update.
#[derive(Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) sum: f64,
    pub(crate) n: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Sum, and greatest, of how far the ratio to the sampler's own log-probs is from 1.
    pub(crate) sampler_sum: f64,
    pub(crate) sampler_max: f64,
}

impl Default for Ratio {
    fn default() -> Self {
        let (sampler_sum, sampler_max) = (0.0, 0.0);
        Self { sum: 0.0, n: 0.0, min: f64::INFINITY, max: 0.0, sampler_sum, sampler_max }
    }
}

impl Trainer {
    /// The optimizer steps on a batch, each on an equal part of it.
    pub(crate) fn update(
        &mut self,
        batch: &RolloutBatch,
        whole: &LossBatch,
        targets: Option<&ValueTargets>,
        labels: Option<&SupervisedBatch>,
    ) -> Result<Updates> {
        let n = batch.n_rows();
        let parts = self.config.optimizer.updates_per_batch.min(n);
        let planned = self.config.steps * self.config.optimizer.updates_per_batch as u64;
        let rate = LearningRate::new(&self.config.optimizer, planned);
        let mut updates = Updates::default();
        for part in 0..parts {
            let rows: Vec<usize> = (n * part / parts..n * (part + 1) / parts).collect();
            let weighted = match parts {
                1 => Cow::Borrowed(whole),
                _ => Cow::Owned(whole.part(&rows, &self.parts.aggregation)?),
            };
            let mut gradients = self.nothing_gathered();
            let mut take = |output: &ObjectiveOutput, micro: &LossBatch| -> Result<()> {
                let loss = output.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
                updates.loss += loss / parts as f64;
                Metric::merge(&mut updates.metrics, &output.metrics);
                if part == 0 {
                    updates.ratio.take(output, micro, batch.authors())?;
                }
                Ok(())
            };
            let micro = |run: &[usize]| {
                let within: Vec<usize> = run.iter().map(|row| row - rows[0]).collect();
                weighted.select(&within)
            };
            let runs = micro_batches(batch, &rows, self.config.optimizer.token_budget);
            match self.config.optimizer.micro_batches_at_once {
                1 => {
                    for run in &runs {
                        let micro = micro(run)?;
                        let output =
                            self.differentiate(batch, run, &micro, targets, &mut gradients)?;
                        take(&output, &micro)?;
                    }
                }
                n => {
                    for runs in runs.chunks(n) {
                        for part in self.differentiate_side_by_side(batch, runs, targets, &micro)? {
                            take(&part.output, &part.micro)?;
                            gradients.add(part.gradients)?;
                        }
                    }
                }
            }
            if let Some(labels) = labels {
                let added = self.add_supervised(labels, part, parts, &mut gradients.student)?;
                updates.loss += added.loss / parts as f64;
                Metric::merge(&mut updates.metrics, &added.metrics);
            }
            if let (Some(critic), Some(gradients)) = (&self.critic, &gradients.critic) {
                critic.check(gradients)?;
            }
            updates.lr = rate.at(self.optimizer.updates());
            let parameters = self.student.parameters();
            let optimizer = &self.config.optimizer;
            updates.grad_norm =
                self.optimizer.update(parameters, &gradients.student, updates.lr, optimizer)?;
            if let (Some(critic), Some(gradients)) = (&mut self.critic, gradients.critic) {
                updates.critic = Some(critic.update(gradients, planned)?);
            }
        }
        Ok(updates)
    }

    /// Micro-batches at once, each into gradients of its own.
    fn differentiate_side_by_side(
        &self,
        batch: &RolloutBatch,
        runs: &[Vec<usize>],
        targets: Option<&ValueTargets>,
        micro: &(impl Fn(&[usize]) -> opd_loss::Result<LossBatch> + Sync),
    ) -> Result<Vec<Differentiated>> {
        let one = |run: &Vec<usize>| {
            let mut gradients = self.nothing_gathered();
            let micro = micro(run)?;
            let output = self.differentiate(batch, run, &micro, targets, &mut gradients)?;
            Ok(Differentiated { micro, output, gradients })
        };
        runs.par_iter().with_max_len(1).map(one).collect()
    }

    fn nothing_gathered(&self) -> Sums {
        Sums {
            student: Gradients::new(self.student.parameters()),
            critic: self.critic.as_ref().map(Critic::gradients),
        }
    }

    fn differentiate(
        &self,
        batch: &RolloutBatch,
        rows: &[usize],
        micro: &LossBatch,
        targets: Option<&ValueTargets>,
        gradients: &mut Sums,
    ) -> Result<ObjectiveOutput> {
        let sequences = sequences(batch, rows);
        let packed = self.student.pack(&sequences)?;
        let states = match &self.parts.distribution {
            Some(teacher) => Some(teacher.states(&teacher_sequences(batch, rows))?),
            None => None,
        };
        let checkpointing = checkpointing(&self.config.optimizer, &self.student, &packed);
        let Sums { student: of_student, critic: of_critic } = gradients;
        let learns = self.critic.as_ref().zip(targets);
        let beside = learns.zip(of_critic.as_mut());
        let beside = beside.and_then(|((critic, _), sums)| critic.beside(sums));
        let differentiated = self.student.differentiate_with(
            &packed,
            checkpointing,
            of_student,
            beside,
            |hidden, head| -> Result<(Tensor, ObjectiveOutput)> {
                let teacher = states.as_ref();
                let mut output = self.parts.objective.compute(&ObjectiveInputs {
                    hidden,
                    head,
                    temperature: self.config.rollout.temperature,
                    batch: micro,
                    teacher: teacher.map(|states| TeacherStates {
                        hidden: &states.hidden,
                        head: states.head(),
                    }),
                })?;
                let mut loss = output.loss.clone();
                if let Some((critic, targets)) = learns
                    && let Some(values) = critic.loss_on_student(hidden, targets, micro)?
                {
                    loss = (loss + values.loss)?;
                    Metric::merge(&mut output.metrics, &values.metrics);
                }
                Ok((loss, output))
            },
        );
        let mut output = differentiated?;
        if let (Some((critic, targets)), Some(sums)) = (learns, of_critic) {
            let values = critic.differentiate(&sequences, checkpointing, targets, micro, sums)?;
            Metric::merge(&mut output.metrics, &values);
        }
        Ok(output)
    }
}

impl Ratio {
    /// Counts the tokens that the student sampled: of others nobody says how likely they were.
    fn take(
        &mut self,
        output: &ObjectiveOutput,
        batch: &LossBatch,
        authors: &[Author],
    ) -> Result<()> {
        let student = output.student_logprobs.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let rows = batch.rows().ranges().zip(batch.origin());
        for (range, _) in rows.filter(|(_, row)| authors[**row] == Author::Student) {
            for t in range.filter(|&t| batch.mask().values()[t]) {
                let ratio = (student[t] - f64::from(batch.old_logprobs().values()[t])).exp();
                self.sum += ratio;
                self.n += 1.0;
                self.min = self.min.min(ratio);
                self.max = self.max.max(ratio);
                let sampler = f64::from(batch.sampler_logprobs().values()[t]);
                let off = (student[t] - sampler).exp_m1().abs();
                self.sampler_sum += off;
                self.sampler_max = self.sampler_max.max(off);
            }
        }
        Ok(())
    }
}
