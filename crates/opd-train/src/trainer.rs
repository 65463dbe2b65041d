use std::time::Instant;

use candle_core::DType;
use opd_batch::Finish;
use opd_loss::LossBatch;
use opd_models::{CausalLm, Parameters, Tokenizer};

use crate::{
    AdamW, Critic, Endings, Error, Parts, Result, RolloutDump, TokenizedPrompts,
    collect::Collected,
    config::{ResponseSource, TrainConfig},
    run::{StepMetrics, key},
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
    /// What ends responses, beside end tokens.
    pub endings: Endings,
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

impl Trainer {
    /// A trainer at its first step, without reference, critic or dump.
    ///
    /// # Errors
    ///
    /// If a stop string is empty; if the moments cannot be allocated.
    pub fn new(
        student: CausalLm,
        tokenizer: Tokenizer,
        prompts: TokenizedPrompts,
        parts: Parts,
        config: TrainConfig,
    ) -> Result<Self> {
        let optimizer = AdamW::new(student.parameters())?;
        let endings = Endings::new(&config.rollout, &tokenizer)?;
        let (reference, critic, dump) = (None, None, None);
        Ok(Self {
            student,
            reference,
            critic,
            tokenizer,
            endings,
            prompts,
            parts,
            optimizer,
            config,
            dump,
        })
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
        let (scored, spans) = self.score(batch).map_err(Error::at(step + 1, "score"))?;
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
                .with(key::RATIO_MAX, updates.ratio.max)
                .with(key::SAMPLER_ERROR_MEAN, updates.ratio.sampler_sum / updates.ratio.n)
                .with(key::SAMPLER_ERROR_MAX, updates.ratio.sampler_max);
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
        let spans = scored.teacher().and_then(|scores| scores.spans.as_ref()).or(spans.as_ref());
        if let Some(spans) = spans {
            metrics = metrics.with(key::TEACHER_UNALIGNED, teacher_metrics::unaligned(spans));
        }
        if let Some(power) = self.config.read_prefix_ratio() {
            metrics = teacher_metrics::add_prefix_weight(&scored, power, metrics)?;
        }
        let seconds = |from: Instant, to: Instant| (to - from).as_secs_f64();
        Ok(metrics
            .with_seconds("rollout", seconds(start, rolled_out))
            .with_seconds("score", seconds(rolled_out, scored_at))
            .with_seconds("update", seconds(scored_at, end))
            .with_seconds("step", seconds(start, end))
            .with_seconds("tokens_per_second", tokens / seconds(start, end)))
    }
}
