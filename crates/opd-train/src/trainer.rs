use std::{borrow::Cow, time::Instant};

use candle_core::{DType, Tensor};
use opd_batch::{
    Author, Finish, Ragged, RolloutBatch, ScoreRequest, ScoredBatch, ScoredSequence, SpanToken,
    Wanted,
};
use opd_loss::{LossBatch, Metric, ObjectiveInputs, ObjectiveOutput, TeacherStates};
use opd_models::{CausalLm, Checkpointing, Gradients, Parameters, Tokenizer};
use rayon::prelude::*;

use crate::{
    AdamW, Critic, Error, LearningRate, Parts, Result, RolloutDump, TokenizedPrompts, ValueTargets,
    collect::Collected,
    config::{OldLogprobs, ResponseSource, TrainConfig},
    critic::CriticGradients,
    micro_batches,
    run::{StepMetrics, key},
    supervised::SupervisedBatch,
    teacher_metrics,
};

/// Rollout, score, estimate, update: one step after the other.
///
/// A step is a function of the configuration, the weights, the moments and its number: a run
/// that is saved and resumed goes on as if nothing had happened.
#[allow(missing_debug_implementations)]
pub struct Trainer {
    /// The model that is trained.
    pub student: CausalLm,
    /// The start policy, where something asks for it.
    pub reference: Option<CausalLm>,
    /// What gives values and learns them, for estimators that read values.
    pub critic: Option<Critic>,
    /// The student's tokenizer.
    pub tokenizer: Tokenizer,
    /// What it is asked.
    pub prompts: TokenizedPrompts,
    /// The algorithm.
    pub parts: Parts,
    /// The optimizer.
    pub optimizer: AdamW,
    /// The settings.
    pub config: TrainConfig,
    /// Keeps rollouts, if that is asked for.
    pub dump: Option<RolloutDump>,
}

/// What the updates of a step gather.
#[derive(Default)]
struct Updates {
    loss: f64,
    grad_norm: f64,
    lr: f64,
    metrics: Vec<Metric>,
    ratio: Ratio,
    /// Norm of the critic's gradient and its learning rate.
    critic: Option<(f64, f64)>,
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
struct Ratio {
    sum: f64,
    n: f64,
    min: f64,
    max: f64,
}

impl Default for Ratio {
    fn default() -> Self {
        Self { sum: 0.0, n: 0.0, min: f64::INFINITY, max: 0.0 }
    }
}

impl Trainer {
    /// A trainer at its first step, without reference, critic or dump.
    ///
    /// # Errors
    ///
    /// If the moments cannot be allocated.
    pub fn new(
        student: CausalLm,
        tokenizer: Tokenizer,
        prompts: TokenizedPrompts,
        parts: Parts,
        config: TrainConfig,
    ) -> Result<Self> {
        let optimizer = AdamW::new(student.parameters())?;
        let (reference, critic, dump) = (None, None, None);
        Ok(Self { student, reference, critic, tokenizer, prompts, parts, optimizer, config, dump })
    }

    /// Makes step `step` (from 0): samples, scores, and updates the student.
    ///
    /// # Errors
    ///
    /// [`Error::Step`] with the phase and what was found; weights and moments are then those
    /// before the update that failed.
    pub fn step(&mut self, step: u64) -> Result<StepMetrics> {
        match self.attempt(step) {
            Err(Error::Step { step, phase, source }) => {
                let source = match self.bad_weights()? {
                    Some(name) => Box::new(Error::Weights { name, source }),
                    None => source,
                };
                Err(Error::Step { step, phase, source })
            }
            made => made,
        }
    }

    /// The first parameter that holds a NaN or an infinity.
    fn bad_weights(&self) -> Result<Option<String>> {
        let named = |whose: &'static str, parameters: &Parameters| {
            let named = parameters.iter().map(|p| (format!("{whose}{}", p.name()), p.tensor()));
            named.collect::<Vec<_>>()
        };
        let critic = self.critic.iter().flat_map(|c| named("critic: ", c.parameters()));
        for (name, values) in named("", self.student.parameters()).into_iter().chain(critic) {
            let values = values.flatten_all()?.to_dtype(DType::F64)?;
            if values.to_vec1::<f64>()?.iter().any(|value| !value.is_finite()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn attempt(&mut self, step: u64) -> Result<StepMetrics> {
        let start = Instant::now();
        let collected = self.collect(step).map_err(Error::at(step + 1, "rollout"))?;
        let labels = self.supervised(step).map_err(Error::at(step + 1, "rollout"))?;
        let Collected { batch, .. } = &collected;
        let rolled_out = Instant::now();
        let scored = self.score(batch).map_err(Error::at(step + 1, "score"))?;
        let limit = self.config.distillation.as_ref().map_or(0.0, |d| d.max_missing);
        let complete = teacher_metrics::check_missing(&scored, limit);
        complete.map_err(Error::at(step + 1, "score"))?;
        let targets = self.critic.as_ref().map(|critic| critic.targets(&scored)).transpose();
        let targets = targets.map_err(Error::at(step + 1, "estimate"))?;
        let advantages = self.parts.estimator.advantages(&scored).map_err(Error::from);
        let advantages = advantages.map_err(Error::at(step + 1, "estimate"))?;
        if let Some(dump) = &self.dump {
            dump.write(step + 1, &scored, &advantages, &self.tokenizer)?;
        }
        let loss_batch = LossBatch::new(&scored, advantages, &self.parts.aggregation);
        let loss_batch =
            loss_batch.map_err(Error::from).map_err(Error::at(step + 1, "estimate"))?;
        let scored_at = Instant::now();
        let updates = self.update(batch, &loss_batch, targets.as_ref(), labels.as_ref());
        let updates = updates.map_err(Error::at(step + 1, "update"))?;
        if let Some(average) = &self.parts.average {
            average.follow(&self.student).map_err(Error::at(step + 1, "teacher"))?;
        }
        let end = Instant::now();

        let lengths: Vec<f64> = batch.rows().lengths().map(|n| n as f64).collect();
        let truncated = batch.finishes().iter().filter(|&&finish| finish == Finish::Length);
        let n = lengths.len() as f64;
        let tokens = batch.rows().n_tokens() as f64;
        let mut metrics = StepMetrics::new(step + 1)
            .with(key::LOSS, updates.loss)
            .with(key::GRAD_NORM, updates.grad_norm)
            .with(key::LEARNING_RATE, updates.lr)
            .with(key::REWARD, collected.reward)
            .with(key::RESPONSE_LENGTH_MEAN, tokens / n)
            .with(key::RESPONSE_LENGTH_MAX, lengths.iter().copied().fold(0.0, f64::max))
            .with("response_length/truncated", truncated.count() as f64 / n);
        if updates.ratio.n > 0.0 {
            metrics = metrics
                .with(key::RATIO_MEAN, updates.ratio.sum / updates.ratio.n)
                .with(key::RATIO_MIN, updates.ratio.min)
                .with(key::RATIO_MAX, updates.ratio.max);
        }
        metrics = metrics.with("generated_tokens", collected.generated_tokens as f64);
        if self.config.rollout.responses == ResponseSource::Mixed {
            metrics = collected.shares(metrics);
        }
        for metric in updates.metrics.iter().filter(|metric| metric.name != "ratio") {
            let name = if metric.name == "kl_teacher" { key::REVERSE_KL } else { metric.name };
            metrics = metrics.with(name, metric.mean());
        }
        if let Some((norm, lr)) = updates.critic {
            metrics = metrics.with("value_grad_norm", norm).with("value_learning_rate", lr);
        }
        if let Some(share) = targets.and_then(|targets| targets.explained_variance(scored.mask())) {
            metrics = metrics.with("value_explained_variance", share);
        }
        metrics = teacher_metrics::add(&scored, &self.parts.teacher_names, metrics)?;
        let seconds = |from: Instant, to: Instant| (to - from).as_secs_f64();
        Ok(metrics
            .with_seconds("rollout", seconds(start, rolled_out))
            .with_seconds("score", seconds(rolled_out, scored_at))
            .with_seconds("update", seconds(scored_at, end))
            .with_seconds("step", seconds(start, end))
            .with_seconds("tokens_per_second", tokens / seconds(start, end)))
    }

    /// Old, teacher and reference log-probs.
    fn score<'b>(&self, batch: &'b RolloutBatch) -> Result<ScoredBatch<'b>> {
        let mut request = ScoreRequest::for_batch(batch, self.config.rollout.temperature as f32);
        if let (Some(k), None) =
            (self.parts.objective.needs().teacher_top, &self.parts.distribution)
        {
            request.wanted = Wanted::TopK(k);
        }
        let mut scored = match self.config.objective.old_logprobs {
            // No loss on responses that nobody here wrote reads how likely they were.
            _ if !self.config.rollout.student_writes()
                && !self.config.objective.loss.is_policy() =>
            {
                ScoredBatch::from_sampler(batch)
            }
            OldLogprobs::Sampler => ScoredBatch::from_sampler(batch),
            OldLogprobs::Recompute => {
                ScoredBatch::new(batch, self.logprobs(&self.student, batch)?)?
            }
        };
        if let Some(teacher) = &self.parts.teacher {
            scored = scored.with_teacher(teacher.score(&request)?)?;
        }
        if let Some(reference) = &self.reference {
            scored = scored.with_reference(self.logprobs(reference, batch)?)?;
        }
        if let Some(critic) = &self.critic {
            let rows: Vec<usize> = (0..batch.n_rows()).collect();
            let budget = self.config.optimizer.token_budget;
            let values = critic.values(&self.student, &sequences(batch, &rows), budget)?;
            scored = scored.with_values(Ragged::new("values", batch.rows().clone(), values)?)?;
        }
        if let Some(spans) = self.spans(batch)? {
            scored = scored.masked(&SpanToken::starts(&spans))?;
        }
        Ok(scored)
    }

    /// Where tokens stand in their spans, if a teacher's distributions are of other tokens.
    fn spans(&self, batch: &RolloutBatch) -> Result<Option<Ragged<SpanToken>>> {
        let Some(teacher) = &self.parts.distribution else { return Ok(None) };
        let rows: Vec<usize> = (0..batch.n_rows()).collect();
        Ok(teacher.spans(&sequences(batch, &rows))?)
    }

    fn logprobs(&self, model: &CausalLm, batch: &RolloutBatch) -> Result<Ragged<f32>> {
        let rows: Vec<usize> = (0..batch.n_rows()).collect();
        let (temperature, budget) =
            (self.config.rollout.temperature, self.config.optimizer.token_budget);
        let logprobs = model.sequence_logprobs(&sequences(batch, &rows), temperature, budget)?;
        Ok(Ragged::new("logprobs", batch.rows().clone(), logprobs)?)
    }

    /// The optimizer steps on a batch, each on an equal part of it.
    fn update(
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
        let checkpointing = match self.config.optimizer.activation_checkpointing {
            true => Checkpointing::PerLayer,
            false => Checkpointing::Off,
        };
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
                    teacher: teacher
                        .map(|states| TeacherStates { hidden: &states.hidden, head: &states.head }),
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
            }
        }
        Ok(())
    }
}

/// The rows as the student sees them.
pub(crate) fn sequences<'a>(batch: &'a RolloutBatch, rows: &[usize]) -> Vec<ScoredSequence<'a>> {
    of_rows(batch.prompts(), batch, rows)
}

/// The rows as the teacher sees them: the responses are the same, their tokens in one order.
fn teacher_sequences<'a>(batch: &'a RolloutBatch, rows: &[usize]) -> Vec<ScoredSequence<'a>> {
    of_rows(batch.teacher_prompts(), batch, rows)
}

fn of_rows<'a>(
    prompts: &'a Ragged<u32>,
    batch: &'a RolloutBatch,
    rows: &[usize],
) -> Vec<ScoredSequence<'a>> {
    let row = |&row: &usize| {
        let (prompt, response) = (prompts.row(row)?, batch.responses().row(row)?);
        Some(ScoredSequence { prompt, response })
    };
    rows.iter().filter_map(row).collect()
}
