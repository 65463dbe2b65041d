use opd_kernels::RowLogprobs;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::{Item, NextToken, Position};

/// How many of the likeliest ids the choice of the next token needs.
pub(crate) fn candidates(item: &Item, vocab: usize) -> usize {
    let needed = match item.next {
        NextToken::Ignored | NextToken::Distribution => 0,
        NextToken::Greedy => 1,
        NextToken::Random { top_k: 0, .. } => vocab,
        NextToken::Random { top_k, .. } => top_k.min(vocab),
    };
    needed.max(item.top)
}

/// The next token of `item`, and its position; `answer` has the [`candidates`].
pub(crate) fn choose(item: &Item, answer: &RowLogprobs) -> (Option<u32>, Position) {
    let chosen = match item.next {
        NextToken::Ignored | NextToken::Distribution => None,
        NextToken::Greedy => answer.top.first().copied(),
        NextToken::Random { top_k, top_p, min_p, seed } => {
            let k = if top_k == 0 { answer.top.len() } else { top_k.min(answer.top.len()) };
            draw(&answer.top[..k], top_p, min_p, seed)
        }
    };
    let position = Position {
        logprob: chosen.map_or(0.0, |(_, logprob)| logprob),
        rank: chosen
            .and_then(|chosen| answer.top.iter().position(|&top| top == chosen))
            .map(|r| r + 1),
        named: answer.logprobs.clone(),
        top: answer.top[..item.top.min(answer.top.len())].to_vec(),
    };
    (chosen.map(|(id, _)| id), position)
}

/// Draws from candidates sorted by log-prob.
fn draw(candidates: &[(u32, f32)], top_p: f64, min_p: f64, seed: u64) -> Option<(u32, f32)> {
    let probability = |&(_, logprob): &(u32, f32)| f64::from(logprob).exp();
    let total: f64 = candidates.iter().map(probability).sum();
    let least = min_p * candidates.first().map_or(0.0, probability);
    let mut before = 0.0;
    let kept = candidates.iter().take_while(|candidate| {
        let kept = before < top_p * total && probability(candidate) >= least;
        before += probability(candidate);
        kept
    });
    let kept = &candidates[..kept.count().max(1).min(candidates.len())];
    // 53 random bits: a number in [0, 1).
    let uniform = (ChaCha8Rng::seed_from_u64(seed).next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let mut rest = uniform * kept.iter().map(probability).sum::<f64>();
    let drawn = kept.iter().find(|candidate| {
        rest -= probability(candidate);
        rest < 0.0
    });
    drawn.or(kept.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::draw;

    fn frequencies(top_p: f64, min_p: f64) -> Vec<f64> {
        let candidates: Vec<(u32, f32)> =
            [0.5f32, 0.3, 0.15, 0.05].iter().zip(0..).map(|(p, id)| (id, p.ln())).collect();
        let mut counts = [0.0; 4];
        for seed in 0..20_000 {
            counts[draw(&candidates, top_p, min_p, seed).unwrap().0 as usize] += 1.0 / 20_000.0;
        }
        counts.to_vec()
    }

    #[test]
    fn draws_follow_the_probabilities_that_are_kept() {
        // Five standard errors of a frequency over 20,000 draws are below 0.018.
        for (top_p, min_p, expected) in [
            (1.0, 0.0, [0.5, 0.3, 0.15, 0.05]),
            (0.79, 0.0, [0.625, 0.375, 0.0, 0.0]),
            (1.0, 0.2, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0.0]),
            (0.01, 0.0, [1.0, 0.0, 0.0, 0.0]),
        ] {
            for (got, expected) in frequencies(top_p, min_p).iter().zip(expected) {
                assert!((got - expected).abs() < 0.018, "{got} {expected}");
            }
        }
    }
}
