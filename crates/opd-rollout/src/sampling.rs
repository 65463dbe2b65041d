use std::collections::BTreeSet;

use opd_kernels::likeliest;
use rand_chacha::rand_core::RngCore;

use crate::{Error, Result, StopStrings, Truncation};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// The likeliest token; ties go to the lowest id. Log-probs are those at temperature 1.
    Greedy,
    /// A draw from the softmax.
    Random {
        /// Logits are divided by this; above 0.
        temperature: f64,
        /// Which tokens can be drawn.
        kept: Truncation,
    },
}

/// Everything that decides what an engine samples, but for the prompts.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// How tokens are chosen.
    pub strategy: Strategy,
    /// Longest response, at least 1; shortened where the context ends.
    pub max_new_tokens: usize,
    /// Ids that end a response.
    pub eos_token_ids: Vec<u32>,
    /// Texts that end a response.
    pub stop: Option<StopStrings>,
    /// Divides the positive logits, and multiplies the negative ones, of every token of the
    /// prompt and of the response so far; above 0, 1 for none.
    ///
    /// Source: Keskar et al. 2019 (CTRL), <https://arxiv.org/abs/1909.05858>, section 4.1, in the
    /// form of transformers and SGLang.
    pub repetition_penalty: f64,
    /// Fixes the random choices, together with each request's stream.
    pub seed: u64,
}

impl Sampling {
    /// Chooses up to `max_new_tokens` tokens by `strategy`, with seed 0 and nothing else set.
    pub fn new(strategy: Strategy, max_new_tokens: usize, eos_token_ids: &[u32]) -> Self {
        Self {
            strategy,
            max_new_tokens,
            eos_token_ids: eos_token_ids.to_vec(),
            stop: None,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }

    /// Draws from the full softmax at this temperature.
    pub fn at_temperature(temperature: f64, max_new_tokens: usize, eos_token_ids: &[u32]) -> Self {
        let strategy = Strategy::Random { temperature, kept: Truncation::default() };
        Self::new(strategy, max_new_tokens, eos_token_ids)
    }

    /// Passes if every setting is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        let bad = |what, expected, got: String| Err(Error::Setting { what, expected, got });
        let above_0 = |value: f64| value > 0.0 && value.is_finite();
        if self.max_new_tokens == 0 {
            return bad("max_new_tokens", "at least 1", "0".into());
        }
        if !above_0(self.repetition_penalty) {
            let got = self.repetition_penalty.to_string();
            return bad("repetition_penalty", "finite and above 0", got);
        }
        match self.strategy {
            Strategy::Greedy => Ok(()),
            Strategy::Random { temperature, .. } if !above_0(temperature) => {
                bad("temperature", "finite and above 0", temperature.to_string())
            }
            Strategy::Random { kept, .. } => kept.validate(),
        }
    }

    /// Whether draws are from the full softmax of the model's logits.
    pub(crate) fn draws_from_all(&self) -> bool {
        let whole = matches!(self.strategy, Strategy::Random { kept, .. } if kept.is_none());
        whole && self.repetition_penalty == 1.0
    }

    /// Whether the likeliest token of the model's logits is chosen.
    pub(crate) fn takes_the_likeliest(&self) -> bool {
        self.strategy == Strategy::Greedy && self.repetition_penalty == 1.0
    }

    /// Whether draws are from something else than that softmax.
    pub(crate) fn alters(&self) -> bool {
        matches!(self.strategy, Strategy::Random { .. }) && !self.draws_from_all()
    }

    /// Applies the penalty to the logits of `seen`.
    pub(crate) fn penalise<'a>(&self, logits: &mut [f32], seen: impl Iterator<Item = &'a u32>) {
        if self.repetition_penalty == 1.0 {
            return;
        }
        let penalty = self.repetition_penalty as f32;
        for id in seen.collect::<BTreeSet<_>>() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// What is read of a response's text: what stands before the stop string that ended it.
    pub fn read<'a>(&self, text: &'a str) -> &'a str {
        self.stop.as_ref().map_or(text, |stop| stop.trim(text))
    }

    /// Temperature of the reported log-probs.
    pub fn temperature(&self) -> f64 {
        match self.strategy {
            Strategy::Greedy => 1.0,
            Strategy::Random { temperature, .. } => temperature,
        }
    }
}

/// A chosen token, and how likely it was to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    /// Natural logarithm of the probability with which it was drawn; 0 for the likeliest.
    pub(crate) log_drawn: f64,
}

impl Strategy {
    /// Chooses from logits; `None` if they hold NaN, infinity or nothing but `-inf`.
    pub(crate) fn choose(&self, logits: &[f32], rng: &mut impl RngCore) -> Option<Choice> {
        let Self::Random { temperature, kept } = *self else {
            return Some(Choice { id: likeliest(logits)?, log_drawn: 0.0 });
        };
        if kept.is_none() {
            let drawn = opd_kernels::draw(logits, temperature, uniform(rng))?;
            return Some(Choice { id: drawn.id, log_drawn: drawn.logprob });
        }
        let max = logits[likeliest(logits)? as usize];
        let weight = |logit: &f32| ((f64::from(*logit) - f64::from(max)) / temperature).exp();
        let weights: Vec<f64> = logits.iter().map(weight).collect();
        let kept = kept.keep(&weights);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        let id = draw(kept.into_iter(), uniform(rng) * total)?;
        Some(Choice { id: id as u32, log_drawn: (weights[id] / total).ln().min(0.0) })
    }
}

/// 53 random bits: a number in [0, 1).
pub(crate) fn uniform(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// The first index at which the running sum exceeds `target`; else the last with any weight.
pub(crate) fn draw(weights: impl Iterator<Item = (usize, f64)>, target: f64) -> Option<usize> {
    let mut sum = 0.0;
    let mut last = None;
    for (id, weight) in weights {
        if weight > 0.0 {
            last = Some(id);
        }
        sum += weight;
        if sum > target {
            return Some(id);
        }
    }
    last
}
