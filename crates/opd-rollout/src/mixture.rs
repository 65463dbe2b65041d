use opd_kernels::likeliest;
use rand_chacha::rand_core::RngCore;

use crate::sampling::{draw, uniform};

/// A token drawn from a mixture of two models, with its log-prob under the mixture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) id: u32,
    /// Natural logarithm.
    pub(crate) logprob: f64,
}

/// Draws from `share * softmax(guide / temperature) + (1 - share) * softmax(own / temperature)`
/// over the ids of `own`; `None` if either side holds NaN, infinity or nothing but `-inf`.
///
/// What the guide has beyond the ids of `own` (padding rows) is divided out of it.
pub(crate) fn choose(
    own: &[f32],
    guide: &[f32],
    share: f64,
    temperature: f64,
    rng: &mut impl RngCore,
) -> Option<Drawn> {
    let own = softmax(own, temperature)?;
    let guide = softmax(guide.get(..own.len())?, temperature)?;
    let mixture: Vec<f64> =
        own.iter().zip(&guide).map(|(p, q)| share * q + (1.0 - share) * p).collect();
    let total: f64 = mixture.iter().sum();
    let id = draw(mixture.iter().copied().enumerate(), uniform(rng) * total)?;
    Some(Drawn { id: id as u32, logprob: (mixture[id] / total).ln().min(0.0) })
}

fn softmax(logits: &[f32], temperature: f64) -> Option<Vec<f64>> {
    let max = logits[likeliest(logits)? as usize];
    let weight = |logit: &f32| ((f64::from(*logit) - f64::from(max)) / temperature).exp();
    let weights: Vec<f64> = logits.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    Some(weights.into_iter().map(|weight| weight / total).collect())
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    const OWN: [f32; 4] = [0.3, -1.2, 2.0, 0.0];
    const GUIDE: [f32; 6] = [1.5, 0.9, -2.0, 0.4, 9.0, f32::NEG_INFINITY];

    /// `log softmax`, by another route.
    fn logprobs(logits: &[f32], temperature: f64) -> Vec<f64> {
        let scaled: Vec<f64> = logits.iter().map(|z| f64::from(*z) / temperature).collect();
        let lse = scaled.iter().map(|z| z.exp()).sum::<f64>().ln();
        scaled.iter().map(|z| z - lse).collect()
    }

    #[test]
    fn frequencies_and_log_probs_are_the_mixtures() {
        let (share, temperature, n) = (0.3, 0.7, 200_000);
        let (p, q) = (logprobs(&OWN, temperature), logprobs(&GUIDE[..4], temperature));
        let mixture: Vec<f64> =
            p.iter().zip(&q).map(|(p, q)| share * q.exp() + (1.0 - share) * p.exp()).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0.0; 4];
        for _ in 0..n {
            let drawn = choose(&OWN, &GUIDE, share, temperature, &mut rng).unwrap();
            let id = drawn.id as usize;
            counts[id] += 1.0;
            assert!((drawn.logprob - mixture[id].ln()).abs() < 1e-12);
        }
        for (count, probability) in counts.iter().zip(&mixture) {
            let deviation = (probability * (1.0 - probability) / f64::from(n)).sqrt();
            let off = (count / f64::from(n) - probability).abs();
            assert!(off < 5.0 * deviation, "{count} of {n}, expected {probability}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_from_is_not() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for bad in [[f32::NAN, 0.0, 0.0, 0.0], [f32::NEG_INFINITY; 4]] {
            assert_eq!(choose(&bad, &GUIDE, 0.5, 1.0, &mut rng), None);
            assert_eq!(choose(&OWN, &bad, 0.5, 1.0, &mut rng), None);
        }
        assert_eq!(choose(&OWN, &GUIDE[..3], 0.5, 1.0, &mut rng), None, "too few ids");
    }
}
