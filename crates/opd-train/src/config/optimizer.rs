use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, check, non_negative},
};

/// What the learning rate does after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// It falls in a straight line.
    Linear,
    /// It falls along half a cosine.
    Cosine,
}

/// AdamW, its schedule, and how a batch becomes updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm; none without, which is 0 in the file.
    #[serde(with = "zero_for_none")]
    pub clip_grad: Option<f64>,
    /// Updates over which the learning rate rises from 0.
    pub warmup: u64,
    /// The same as a fraction of the updates that the schedule spans, instead of `warmup`.
    pub warmup_fraction: f64,
    /// What it does then.
    pub schedule: Schedule,
    /// Updates that the schedule spans, warm-up included; the whole run without. After them the
    /// learning rate stays where it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_updates: Option<u64>,
    /// The schedule ends at this fraction of the peak.
    pub min_lr_ratio: f64,
    /// Optimizer steps per rollout batch, each on an equal part of it.
    pub updates_per_batch: usize,
    /// Tokens of one forward and backward, prompts included.
    pub token_budget: usize,
    /// Forwards and backwards computed side by side, each into gradients of its own, which are
    /// then added in order: threads have less to wait for, at the price of that much memory.
    pub micro_batches_at_once: usize,
    /// Keep each layer's input alone and compute the layer again in the backward: the same
    /// result for less memory and a third more time. Without, where what layers would keep is
    /// more than 2 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_checkpointing: Option<bool>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            lr: 1e-6,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-8,
            weight_decay: 0.0,
            clip_grad: Some(1.0),
            warmup: 0,
            warmup_fraction: 0.0,
            schedule: Schedule::Constant,
            decay_updates: None,
            min_lr_ratio: 0.0,
            updates_per_batch: 1,
            token_budget: 8192,
            micro_batches_at_once: 1,
            activation_checkpointing: None,
        }
    }
}

impl OptimizerConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        check(self.lr > 0.0 && self.lr.is_finite(), "optimizer.lr", "finite and above 0", self.lr)?;
        let decay = |beta: f64| (0.0..1.0).contains(&beta);
        check(decay(self.beta1), "optimizer.beta1", "at least 0 and under 1", self.beta1)?;
        check(decay(self.beta2), "optimizer.beta2", "at least 0 and under 1", self.beta2)?;
        check(self.eps > 0.0, "optimizer.eps", "above 0", self.eps)?;
        non_negative("optimizer.weight_decay", self.weight_decay)?;
        if let Some(clip) = self.clip_grad {
            check(clip > 0.0, "optimizer.clip_grad", "above 0", clip)?;
        }
        let ratio = self.min_lr_ratio;
        check((0.0..=1.0).contains(&ratio), "optimizer.min_lr_ratio", "from 0 to 1", ratio)?;
        let fraction = self.warmup_fraction;
        let expected = "at least 0 and under 1";
        check((0.0..1.0).contains(&fraction), "optimizer.warmup_fraction", expected, fraction)?;
        if fraction > 0.0 && self.warmup > 0 {
            return Err(ConfigError::Conflict {
                what: "optimizer.warmup and optimizer.warmup_fraction both say how long the learning rate rises".into(),
                remedy: "give one of --lr-warmup and --lr-warmup-fraction",
            });
        }
        if let Some(span) = self.decay_updates {
            let expected = "more than the updates of the warm-up";
            check(span > self.warmup, "optimizer.decay_updates", expected, span)?;
        }
        at_least_one("optimizer.updates_per_batch", self.updates_per_batch as u64)?;
        at_least_one("optimizer.token_budget", self.token_budget as u64)?;
        at_least_one("optimizer.micro_batches_at_once", self.micro_batches_at_once as u64)
    }
}

/// TOML leaves out what is `None`, and what is left out has its default.
mod zero_for_none {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Option<f64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(value.unwrap_or(0.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        f64::deserialize(deserializer).map(|value| (value != 0.0).then_some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clipping_survives_the_file() {
        for clip_grad in [None, Some(1.0), Some(0.25)] {
            let config = OptimizerConfig { clip_grad, ..OptimizerConfig::default() };
            let text = toml::to_string(&config).unwrap();
            assert_eq!(toml::from_str::<OptimizerConfig>(&text).unwrap(), config, "{text}");
        }
    }
}
