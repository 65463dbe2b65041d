use rand_chacha::rand_core::RngCore;

use crate::{Error, Result};

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy {
    /// The likeliest token; ties go to the lowest id. Log-probs are those at temperature 1.
    Greedy,
    /// A draw from the softmax.
    Random {
        /// Logits are divided by this; above 0.
        temperature: f64,
        /// Only the `k` likeliest tokens are drawn.
        top_k: Option<usize>,
        /// Only the likeliest tokens that together reach this probability are drawn; applied
        /// after `top_k`; in `(0, 1]`.
        top_p: Option<f64>,
    },
}

/// Everything that decides what an engine samples, but for the prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// How tokens are chosen.
    pub strategy: Strategy,
    /// Longest response, at least 1; shortened where the context ends.
    pub max_new_tokens: usize,
    /// Ids that end a response.
    pub eos_token_ids: Vec<u32>,
    /// Fixes the random choices, together with each request's stream.
    pub seed: u64,
}

impl Sampling {
    /// Draws from the full softmax at this temperature.
    pub fn at_temperature(temperature: f64, max_new_tokens: usize, eos_token_ids: &[u32]) -> Self {
        Self {
            strategy: Strategy::Random { temperature, top_k: None, top_p: None },
            max_new_tokens,
            eos_token_ids: eos_token_ids.to_vec(),
            seed: 0,
        }
    }

    /// Passes if every setting is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`].
    pub fn validate(&self) -> Result<()> {
        let bad = |what, expected, got: String| Err(Error::Setting { what, expected, got });
        if self.max_new_tokens == 0 {
            return bad("max_new_tokens", "at least 1", "0".into());
        }
        let Strategy::Random { temperature, top_k, top_p } = self.strategy else { return Ok(()) };
        if !(temperature > 0.0 && temperature.is_finite()) {
            return bad("temperature", "finite and above 0", temperature.to_string());
        }
        if top_k == Some(0) {
            return bad("top_k", "at least 1", "0".into());
        }
        match top_p {
            Some(p) if !(p > 0.0 && p <= 1.0) => {
                bad("top_p", "above 0 and at most 1", p.to_string())
            }
            _ => Ok(()),
        }
    }

    /// Temperature of the reported log-probs.
    pub fn temperature(&self) -> f64 {
        match self.strategy {
            Strategy::Greedy => 1.0,
            Strategy::Random { temperature, .. } => temperature,
        }
    }
}

/// A chosen token, and the share of probability that it was drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    /// Natural logarithm of the probability that top-k and top-p kept; 0 for all of it.
    pub(crate) log_kept: f64,
}

impl Strategy {
    /// Whether draws are from less than the full softmax.
    pub(crate) fn truncates(&self) -> bool {
        matches!(self, Self::Random { top_k, top_p, .. } if top_k.is_some() || top_p.is_some())
    }

    /// Chooses from logits; `None` if they hold NaN, infinity or nothing but `-inf`.
    pub(crate) fn choose(&self, logits: &[f32], rng: &mut impl RngCore) -> Option<Choice> {
        let (best, max) = likeliest(logits)?;
        let Self::Random { temperature, top_k, top_p } = *self else {
            return Some(Choice { id: best, log_kept: 0.0 });
        };
        let weight = |logit: f32| ((f64::from(logit) - f64::from(max)) / temperature).exp();
        let uniform = uniform(rng);
        if top_k.is_none() && top_p.is_none() {
            let weights: Vec<f64> = logits.iter().map(|&logit| weight(logit)).collect();
            let total: f64 = weights.iter().sum();
            let id = draw(weights.into_iter().enumerate(), uniform * total)?;
            return Some(Choice { id: id as u32, log_kept: 0.0 });
        }
        let mut ranked: Vec<(usize, f64)> =
            logits.iter().map(|&logit| weight(logit)).enumerate().collect();
        let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(top_k.unwrap_or(ranked.len()));
        if let Some(p) = top_p {
            let kept: f64 = ranked.iter().map(|(_, weight)| weight).sum();
            let mut sum = 0.0;
            let reached = ranked.iter().position(|(_, weight)| {
                sum += weight;
                sum >= p * kept
            });
            ranked.truncate(reached.map_or(ranked.len(), |last| last + 1));
        }
        let kept: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let id = draw(ranked.into_iter(), uniform * kept)?;
        Some(Choice { id: id as u32, log_kept: (kept / total).ln() })
    }
}

/// 53 random bits: a number in [0, 1).
pub(crate) fn uniform(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

pub(crate) fn likeliest(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best: Option<(u32, f32)> = None;
    for (id, &logit) in logits.iter().enumerate() {
        if logit.is_nan() || logit == f32::INFINITY {
            return None;
        }
        if best.is_none_or(|(_, max)| logit > max) {
            best = Some((id as u32, logit));
        }
    }
    best.filter(|(_, max)| max.is_finite())
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
