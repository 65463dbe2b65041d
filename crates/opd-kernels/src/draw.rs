use crate::cpu::{Element, dispatch, vector};

/// Logits whose weights are summed before the sum is added to those of others.
const BLOCK: usize = 256;

/// What [`draw`] chose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub id: u32,
    /// `log softmax(logits / temperature)` of it, in nats.
    pub logprob: f64,
}

/// The token that a number of `0..1` falls on, if those below 1 are shared out among the ids in order,
/// to each as much as its probability: `softmax(logits / temperature)`.
///
/// `uniform` is in `0..1`, `temperature` above 0. `None` if a logit is NaN or infinity, or all are
/// `-inf`. Weights are in f32, within 2 units in the last place, and sums in f64.
pub fn draw(logits: &[f32], temperature: f64, uniform: f64) -> Option<Drawn> {
    let mut sums = vec![0.0; logits.len().div_ceil(BLOCK)];
    let max = dispatch(
        #[inline(always)]
        || greatest(logits),
    )?;
    // A difference of 0 stays 0, and one of -inf stays that, whatever the temperature.
    let scale = ((1.0 / temperature) as f32).clamp(f32::MIN_POSITIVE, f32::MAX);
    dispatch(
        #[inline(always)]
        || {
            for (sum, block) in sums.iter_mut().zip(logits.chunks(BLOCK)) {
                *sum = f64::from(vector::sum_by(block.len(), |i| weight(block[i], max, scale)));
            }
        },
    );
    let total: f64 = sums.iter().sum();
    let target = uniform * total;
    let mut before = 0.0;
    // The last block with any weight: where rounding has left the sums short of the target.
    let mut chosen = (0, 0.0);
    for (block, sum) in sums.iter().enumerate() {
        if *sum > 0.0 {
            chosen = (block, before);
        }
        before += sum;
        if before > target {
            break;
        }
    }
    let (block, mut sum) = chosen;
    let first = block * BLOCK;
    let mut id = first;
    for (i, &logit) in logits[first..].iter().take(BLOCK).enumerate() {
        let weight = f64::from(weight(logit, max, scale));
        if weight > 0.0 {
            id = first + i;
        }
        sum += weight;
        if sum > target {
            break;
        }
    }
    let above = (f64::from(logits[id]) - f64::from(max)) / temperature;
    Some(Drawn { id: id as u32, logprob: (above - total.ln()).min(0.0) })
}

#[inline(always)]
fn weight(logit: f32, max: f32, scale: f32) -> f32 {
    Element::exp((logit - max) * scale)
}

/// The greatest logit, unless one is NaN or infinity, or all are `-inf`.
#[inline(always)]
fn greatest(logits: &[f32]) -> Option<f32> {
    let (mut max, mut sound) = (f32::NEG_INFINITY, true);
    for block in logits.chunks(BLOCK) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (whole, rest) = block.as_chunks::<16>();
        for values in whole {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane = if value > *lane { value } else { *lane };
            }
        }
        let of_lanes = lanes.iter().chain(rest);
        max = of_lanes.fold(max, |max, &value| if value > max { value } else { max });
        sound &= block.iter().fold(true, |sound, &value| sound & (value < f32::INFINITY));
    }
    (sound && max.is_finite()).then_some(max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::draw;

    /// In f64, in the order of the ids.
    fn plainly(logits: &[f32], temperature: f64, uniform: f64) -> (usize, f64) {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |x: &f32| ((f64::from(*x) - f64::from(max)) / temperature).exp();
        let weights: Vec<f64> = logits.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut sum = 0.0;
        let id = weights.iter().position(|weight| {
            sum += weight;
            sum > uniform * total
        });
        let id = id.unwrap_or(logits.len() - 1);
        (id, (weights[id] / total).ln())
    }

    proptest! {
        #[test]
        fn it_is_the_plain_walk(
            logits in proptest::collection::vec(-12.0f32..12.0, 1..1500),
            temperature in 0.3f64..3.0,
            uniform in 0.0f64..1.0,
        ) {
            let got = draw(&logits, temperature, uniform).unwrap();
            let (id, logprob) = plainly(&logits, temperature, uniform);
            // Where the number falls next to a border, rounding decides the side.
            let near = |by: f64| plainly(&logits, temperature, (uniform + by).clamp(0.0, 1.0)).0;
            let id_of = got.id as usize;
            prop_assert!(id_of == id || id_of == near(1e-6) || id_of == near(-1e-6));
            if id_of == id {
                prop_assert!((got.logprob - logprob).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn ids_without_weight_are_never_drawn() {
        let mut logits = vec![f32::NEG_INFINITY; 1000];
        logits[300] = -5.0;
        logits[700] = -5.0;
        let id = |uniform| draw(&logits, 1.0, uniform).unwrap().id;
        assert_eq!([0.0, 0.4999, 0.5001, 1.0 - f64::EPSILON].map(id), [300, 300, 700, 700]);
        for temperature in [1e-300, 1e-3, 1e300] {
            let certain = draw(&[f32::NEG_INFINITY, 0.0, -2000.0], temperature, 0.4).unwrap();
            assert_eq!(certain.id, 1, "{temperature}");
        }
        assert_eq!(draw(&[-2000.0, 0.0], 1e-3, 0.999).unwrap().logprob, 0.0);
    }

    #[test]
    fn logits_that_are_no_distribution_draw_nothing() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        for n in [1, 17, 600] {
            for bad in [nan, inf] {
                let mut logits = vec![0.0; n];
                logits[n / 2] = bad;
                assert_eq!(draw(&logits, 1.0, 0.5), None);
            }
            assert_eq!(draw(&vec![-inf; n], 1.0, 0.5), None);
        }
        assert_eq!(draw(&[], 1.0, 0.5), None);
    }
}
