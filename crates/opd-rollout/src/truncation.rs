use crate::{Error, Result};

/// How many candidates are ranked at first where only few are likely to be kept.
const FEW: usize = 256;

/// What is left of a softmax to draw from: `top_k`, of that `top_p`, of that `min_p`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Truncation {
    /// Only the `k` likeliest tokens.
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that together reach this probability, in `(0, 1]`.
    pub top_p: Option<f64>,
    /// Only tokens at least this times as likely as the likeliest, in `[0, 1]`.
    ///
    /// Source: Nguyen et al. 2024, <https://arxiv.org/abs/2407.01082>.
    pub min_p: Option<f64>,
}

impl Truncation {
    /// Whether nothing is asked for.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let bad = |what, expected, got: String| Err(Error::Setting { what, expected, got });
        match *self {
            Self { top_k: Some(0), .. } => bad("top_k", "at least 1", "0".into()),
            Self { top_p: Some(p), .. } if !(p > 0.0 && p <= 1.0) => {
                bad("top_p", "above 0 and at most 1", p.to_string())
            }
            Self { min_p: Some(p), .. } if !(0.0..=1.0).contains(&p) => {
                bad("min_p", "from 0 to 1", p.to_string())
            }
            _ => Ok(()),
        }
    }

    /// The ids that are kept, likeliest first, ties by id, with their `weights`; `weights` are
    /// proportional to probabilities, the greatest of them 1.
    pub(crate) fn keep(&self, weights: &[f64]) -> Vec<(usize, f64)> {
        let mut left: Vec<(usize, f64)> = weights.iter().copied().enumerate().collect();
        if let Some(k) = self.top_k {
            let n = ranked(&mut left, k).len();
            left.truncate(n);
        }
        let total: f64 = left.iter().map(|(_, weight)| weight).sum();
        // What min_p drops are the last: those before them reach what they reached.
        let least = self.min_p.unwrap_or(0.0);
        left.retain(|(_, weight)| *weight >= least);
        match self.top_p {
            None => ranked(&mut left, usize::MAX).to_vec(),
            Some(p) => reaching(left, p * total),
        }
    }
}

/// The likeliest that together have `share`, in order; all if they have less.
fn reaching(mut candidates: Vec<(usize, f64)>, share: f64) -> Vec<(usize, f64)> {
    let mut n = FEW;
    loop {
        let first = ranked(&mut candidates, n);
        let mut sum = 0.0;
        let reached = first.iter().position(|(_, weight)| {
            sum += weight;
            sum >= share
        });
        match reached {
            Some(last) => return first[..=last].to_vec(),
            None if n >= candidates.len() => return candidates,
            None => n *= 8,
        }
    }
}

/// The `n` likeliest, in order; all if there are fewer.
fn ranked(candidates: &mut [(usize, f64)], n: usize) -> &[(usize, f64)] {
    let order = |a: &(usize, f64), b: &(usize, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let n = n.min(candidates.len());
    if n < candidates.len() && n > 0 {
        candidates.select_nth_unstable_by(n - 1, order);
    }
    candidates[..n].sort_unstable_by(order);
    &candidates[..n]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By ranking everything and walking down.
    fn plainly(rule: &Truncation, weights: &[f64]) -> Vec<(usize, f64)> {
        let mut all: Vec<(usize, f64)> = weights.iter().copied().enumerate().collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(rule.top_k.unwrap_or(all.len()));
        let total: f64 = all.iter().map(|(_, weight)| weight).sum();
        let mut before = 0.0;
        all.retain(|(_, weight)| {
            let kept = rule.top_p.is_none_or(|p| before < p * total);
            before += weight;
            kept && rule.min_p.is_none_or(|p| *weight >= p)
        });
        all
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_ranking_everything_keeps(
            logits in proptest::collection::vec(-4i32..=0, 1..700),
            top_k in proptest::option::of(1usize..800),
            top_p in proptest::option::of(1u32..=16),
            min_p in proptest::option::of(0u32..=16),
        ) {
            // Powers of two, so that sums are exact whatever their order.
            let weights: Vec<f64> = logits.iter().map(|&z| f64::from(z).exp2()).collect();
            let sixteenths = |n: Option<u32>| n.map(|n| f64::from(n) / 16.0);
            let rule = Truncation { top_k, top_p: sixteenths(top_p), min_p: sixteenths(min_p) };
            prop_assert_eq!(rule.keep(&weights), plainly(&rule, &weights));
        }
    }
}
