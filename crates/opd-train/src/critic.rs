use std::{fs, path::Path};

use candle_core::{DType, Device, Tensor};
use opd_advantage::Gae;
use opd_batch::{Ragged, ScoredBatch, ScoredSequence};
use opd_loss::{LossBatch, Metric, ValueLoss, ValueLossOutput};
use opd_models::{CausalLm, Checkpointing, Gradients, Parameters, Tokenizer, ValueHead};

use crate::{
    AdamW, Error, LearningRate, Result, assemble,
    config::{ConfigError, CriticConfig, CriticKind, EstimatorKind, OptimizerConfig, TrainConfig},
    state::OPTIMIZER,
    student,
};

/// What gives the estimator `ppo` its values, and learns them: a head on the student's hidden
/// states, or on those of a model of its own.
///
/// ```text
/// value_t  = head(hidden_t)                    hidden_t is what predicts response token t
/// return_t = A_t + value_t                     of generalised advantage estimation
/// loss     = sum_t w_t max((clamp(v_t, value_t -+ clip) - return_t)^2, (v_t - return_t)^2)
/// ```
///
/// `w` are the weights of the policy loss; values are in units of the reward. It has an AdamW,
/// moments and a learning rate of its own, and clips its gradient by its own norm.
#[allow(missing_debug_implementations)]
pub struct Critic {
    head: ValueHead,
    /// `None` where the head is on the student.
    model: Option<CausalLm>,
    /// Those of the model, then those of the head.
    parameters: Parameters,
    optimizer: AdamW,
    settings: OptimizerConfig,
    returns: Gae,
    loss: ValueLoss,
    student_coef: f64,
}

/// What a batch teaches a critic: streams in the rows of its responses.
#[derive(Clone, Debug)]
pub struct ValueTargets {
    /// Values before the batch's updates.
    pub values: Ragged<f32>,
    /// What they should have been.
    pub returns: Ragged<f32>,
}

/// What a head on the student says of a micro-batch.
pub(crate) struct HeadLoss {
    /// Scalar whose gradient is whole for the head, and weighted for the student.
    pub(crate) loss: Tensor,
    pub(crate) metrics: Vec<Metric>,
}

/// Gradients of a critic in the making.
#[derive(Debug)]
pub(crate) struct CriticGradients {
    model: Option<Gradients>,
    head: Gradients,
}

impl CriticGradients {
    /// Adds those of other samples.
    pub(crate) fn add(&mut self, other: Self) -> Result<()> {
        if let (Some(model), Some(more)) = (&mut self.model, other.model) {
            model.add(more)?;
        }
        Ok(self.head.add(other.head)?)
    }

    /// In the order of [`Critic::parameters`].
    fn joined(self) -> Gradients {
        match self.model {
            Some(model) => model.joined(self.head),
            None => self.head,
        }
    }
}

impl Critic {
    /// The critic that a configuration asks for; `None` for estimators without one.
    ///
    /// `longest` is the number of tokens of the longest sequence.
    ///
    /// # Errors
    ///
    /// Those of loading; [`ConfigError::Conflict`] for a model whose context is too short;
    /// [`opd_models::Error::Tokenizer`] for one with another tokenizer.
    pub fn new(
        config: &TrainConfig,
        student: &CausalLm,
        tokenizer: &Tokenizer,
        longest: usize,
        device: &Device,
    ) -> Result<Option<Self>> {
        if config.objective.estimator != EstimatorKind::Ppo {
            return Ok(None);
        }
        let CriticConfig { kind, path, lr, value_clip, student_coef } = &config.objective.critic;
        let model = match kind {
            CriticKind::Head => None,
            CriticKind::Model => {
                let dir = path.as_deref().unwrap_or(&config.student.path);
                Some(loaded(student::loaded(dir, config, device)?, tokenizer, longest)?)
            }
        };
        let width = model.as_ref().unwrap_or(student).config().hidden_size;
        let held = path
            .as_deref()
            .filter(|dir| *kind == CriticKind::Head || dir.join(ValueHead::FILE).exists());
        let head = match held {
            Some(dir) => ValueHead::load(dir, width, DType::F32, device)?,
            None => ValueHead::random(width, config.seed, DType::F32, device)?,
        };
        let parameters = match &model {
            Some(model) => model.parameters().joined(head.parameters()),
            None => head.parameters().clone(),
        };
        let settings =
            OptimizerConfig { lr: lr.unwrap_or(config.optimizer.lr), ..config.optimizer.clone() };
        Ok(Some(Self {
            optimizer: AdamW::new(&parameters)?,
            head,
            model,
            parameters,
            settings,
            returns: assemble::gae(&config.objective),
            loss: ValueLoss { clip: *value_clip },
            student_coef: *student_coef,
        }))
    }

    /// All that it trains, the student's parameters aside.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Values of every response token, in order.
    ///
    /// # Errors
    ///
    /// Those of the model.
    pub fn values(
        &self,
        student: &CausalLm,
        sequences: &[ScoredSequence<'_>],
        token_budget: usize,
    ) -> Result<Vec<f32>> {
        let model = self.model.as_ref().unwrap_or(student);
        Ok(model.sequence_values(&self.head, sequences, token_budget)?)
    }

    /// What a batch that was scored with its values teaches.
    ///
    /// # Errors
    ///
    /// Those of [`Gae::estimate`].
    pub fn targets(&self, scored: &ScoredBatch<'_>) -> Result<ValueTargets> {
        let returns = self.returns.estimate(scored)?.returns;
        Ok(ValueTargets { values: scored.values("Critic")?.clone(), returns })
    }

    /// Nothing gathered yet.
    pub(crate) fn gradients(&self) -> CriticGradients {
        CriticGradients {
            model: self.model.as_ref().map(|model| Gradients::new(model.parameters())),
            head: Gradients::new(self.head.parameters()),
        }
    }

    /// The parameters that [`Self::loss_on_student`] reads beside the student's.
    pub(crate) fn beside<'a>(
        &'a self,
        gradients: &'a mut CriticGradients,
    ) -> Option<(&'a Parameters, &'a mut Gradients)> {
        self.model.is_none().then_some((self.head.parameters(), &mut gradients.head))
    }

    /// Loss of a head on the student, from its hidden states `[T, H]`; `None` for a critic with
    /// a model of its own.
    pub(crate) fn loss_on_student(
        &self,
        hidden: &Tensor,
        targets: &ValueTargets,
        micro: &LossBatch,
    ) -> Result<Option<HeadLoss>> {
        if self.model.is_some() {
            return Ok(None);
        }
        let of_head = self.loss_of(&self.head.values(&hidden.detach())?, targets, micro)?;
        let metrics = metrics(&of_head, micro)?;
        let mut loss = of_head.loss;
        if self.student_coef > 0.0 {
            let of_student = self.loss_of(&self.head.frozen_values(hidden)?, targets, micro)?;
            loss = (loss + (of_student.loss * self.student_coef)?)?;
        }
        Ok(Some(HeadLoss { loss, metrics }))
    }

    /// Gathers the gradients of a critic with a model of its own, and says how it did; nothing
    /// of one without.
    pub(crate) fn differentiate(
        &self,
        sequences: &[ScoredSequence<'_>],
        checkpointing: Checkpointing,
        targets: &ValueTargets,
        micro: &LossBatch,
        gradients: &mut CriticGradients,
    ) -> Result<Vec<Metric>> {
        let (Some(model), Some(of_model)) = (&self.model, &mut gradients.model) else {
            return Ok(Vec::new());
        };
        let packed = model.pack(sequences)?;
        let beside = Some((self.head.parameters(), &mut gradients.head));
        model.differentiate_with(&packed, checkpointing, of_model, beside, |hidden, _| {
            let output = self.loss_of(&self.head.values(hidden)?, targets, micro)?;
            let metrics = metrics(&output, micro)?;
            Ok::<_, Error>((output.loss, metrics))
        })
    }

    fn loss_of(
        &self,
        values: &Tensor,
        targets: &ValueTargets,
        micro: &LossBatch,
    ) -> Result<ValueLossOutput> {
        let (old, returns) = (&targets.values, &targets.returns);
        let (old, returns) = (old.select(micro.origin())?, returns.select(micro.origin())?);
        Ok(self.loss.loss(values, &old, &returns, micro)?)
    }

    /// Passes if an update would be finite.
    pub(crate) fn check(&self, gradients: &CriticGradients) -> Result<()> {
        if let (Some(model), Some(of_model)) = (&self.model, &gradients.model) {
            of_model.norm(model.parameters())?;
        }
        gradients.head.norm(self.head.parameters())?;
        Ok(())
    }

    /// Changes its parameters; returns the norm of the gradient and the learning rate. `planned`
    /// is the number of updates of the whole run.
    pub(crate) fn update(
        &mut self,
        gradients: CriticGradients,
        planned: u64,
    ) -> Result<(f64, f64)> {
        let lr = LearningRate::new(&self.settings, planned).at(self.optimizer.updates());
        let gradients = gradients.joined();
        let norm = self.optimizer.update(&self.parameters, &gradients, lr, &self.settings)?;
        Ok((norm, lr))
    }

    /// Writes head, model and moments into a directory, which is made; weight files have at most
    /// `shard_bytes`.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn save(&self, dir: &Path, shard_bytes: u64) -> Result<()> {
        self.save_weights(dir, shard_bytes)?;
        self.optimizer.save(&self.parameters, &dir.join(OPTIMIZER))
    }

    /// Writes head and model: a directory that `--critic-load` takes.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn save_weights(&self, dir: &Path, shard_bytes: u64) -> Result<()> {
        fs::create_dir_all(dir).map_err(|source| crate::run::Error::writing(dir, source))?;
        if let Some(model) = &self.model {
            model.save_sharded(dir, shard_bytes)?;
        }
        Ok(self.head.save(dir)?)
    }

    /// Takes over what [`Critic::save`] wrote after `updates` updates.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged or of another critic.
    pub fn resume(&mut self, dir: &Path, updates: u64, device: &Device) -> Result<()> {
        if let Some(model) = &self.model {
            model.reload(dir)?;
        }
        self.head.reload(dir)?;
        self.optimizer = AdamW::load(&self.parameters, &dir.join(OPTIMIZER), updates, device)?;
        Ok(())
    }
}

impl ValueTargets {
    /// The share of the returns' variance over trained tokens that the values explain: 1 for
    /// right values, 0 for a constant, less for worse than that. `None` if there is no variance.
    ///
    /// ```text
    /// 1 - var(return - value) / var(return)
    /// ```
    pub fn explained_variance(&self, mask: &Ragged<bool>) -> Option<f64> {
        let pairs = || {
            let pairs = self.values.values().iter().zip(self.returns.values()).zip(mask.values());
            pairs.filter(|(_, trained)| **trained).map(|(pair, _)| pair)
        };
        let errors = variance(pairs().map(|(v, r)| f64::from(*r) - f64::from(*v)));
        let returns = variance(pairs().map(|(_, r)| f64::from(*r)));
        (returns > 0.0).then(|| 1.0 - errors / returns)
    }
}

fn variance(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let n = values.clone().count().max(1) as f64;
    let mean = values.clone().sum::<f64>() / n;
    values.map(|value| (value - mean).powi(2)).sum::<f64>() / n
}

/// Mean loss and clipped fraction of the trained tokens, in the making.
fn metrics(output: &ValueLossOutput, micro: &LossBatch) -> Result<Vec<Metric>> {
    let sum = |values: &Tensor| -> Result<f64> {
        Ok(values.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?)
    };
    let count = micro.mask().values().iter().filter(|&&trained| trained).count() as f64;
    let metric = |name, sum| Metric { name, sum, count };
    Ok(vec![
        metric("value_loss", sum(&output.per_token)?),
        metric("value_clip_fraction", sum(&output.clipped)?),
    ])
}

fn loaded(model: CausalLm, tokenizer: &Tokenizer, longest: usize) -> Result<CausalLm> {
    let dir = model.source();
    tokenizer.check_same(&Tokenizer::load(dir)?)?;
    let context = model.config().context;
    if context < longest {
        return Err(ConfigError::Conflict {
            what: format!(
                "the critic in {} takes sequences of {context} tokens, and prompt and response may have {longest}",
                dir.display()
            ),
            remedy: "lower --rollout-max-response-len, or use --critic head",
        }
        .into());
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explained_variance_is_one_for_right_values_and_zero_for_a_constant() {
        let returns = Ragged::from_rows([vec![1.0, 0.0, 7.0], vec![0.5]]);
        let mask = Ragged::from_rows([vec![true, true, false], vec![true]]);
        let of = |rows: [Vec<f32>; 2]| {
            let values = Ragged::from_rows(rows);
            ValueTargets { values, returns: returns.clone() }.explained_variance(&mask)
        };
        assert_eq!(of([vec![1.0, 0.0, -3.0], vec![0.5]]), Some(1.0));
        assert_eq!(of([vec![2.0, 1.0, 9.0], vec![1.5]]), Some(1.0), "a constant error is not seen");
        assert_eq!(of([vec![0.3, 0.3, 0.0], vec![0.3]]), Some(0.0));
        assert_eq!(of([vec![0.0, 1.0, 0.0], vec![0.5]]), Some(-3.0));
        let flat = Ragged::from_rows([vec![1.0, 1.0, 0.0], vec![1.0]]);
        let targets = ValueTargets { values: flat.clone(), returns: flat };
        assert_eq!(targets.explained_variance(&mask), None);
    }
}
