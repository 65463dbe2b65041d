//! Rows of several blocks in f32, against sums in f64 of the same logits.

use candle_core::DType;
use opd_kernels::token_logprobs;

use super::{gradients, host, ids, matrix, numbers, weighted};

const ROWS: usize = 6;
const VOCAB: usize = 3001;
const TEMPERATURE: f64 = 0.7;

/// Flat rows, far from 0 and not; steep ones; each with tokens that cannot occur.
fn logits() -> Vec<f64> {
    let mut values = numbers(ROWS * VOCAB, 1, 1.0);
    for (i, x) in values.iter_mut().enumerate() {
        let (row, v) = (i / VOCAB, i % VOCAB);
        let (scale, offset) = [(1.0, 0.0), (1.0, 1e4), (1.0, -1e4), (60.0, 0.0)][row % 4];
        *x = (*x * scale + offset) as f32 as f64;
        if v % 500 == 7 {
            *x = f64::NEG_INFINITY;
        }
    }
    values
}

#[test]
fn values_and_gradients_are_those_of_the_formula() {
    let values = logits();
    let targets: Vec<u32> = (0..ROWS as u32).map(|row| 11 + 531 * row).collect();
    let logits = matrix(&values, ROWS, VOCAB, DType::F32);
    let weights = [numbers(ROWS, 2, 1.0), numbers(ROWS, 3, 1.0), numbers(ROWS, 4, 1.0)];
    for with_entropy in [0.0, 1.0] {
        let out = token_logprobs(&logits, &ids(&targets), TEMPERATURE).unwrap();
        let of_entropy: Vec<f64> = weights[2].iter().map(|weight| weight * with_entropy).collect();
        let sum = weighted(&out.logprobs, &weights[0]).unwrap();
        let sum = (sum + weighted(&out.lse, &weights[1]).unwrap()).unwrap();
        let sum = match with_entropy {
            0.0 => sum,
            _ => (sum + weighted(&out.entropy, &of_entropy).unwrap()).unwrap(),
        };
        let gradient = gradients(&sum, &[&logits]).remove(0);
        let [logprobs, lses, entropies] = [&out.logprobs, &out.lse, &out.entropy].map(host);
        for row in 0..ROWS {
            let x: Vec<f64> =
                values[row * VOCAB..][..VOCAB].iter().map(|x| x / TEMPERATURE).collect();
            let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
            let target = targets[row] as usize;
            let p: Vec<f64> = x.iter().map(|x| (x - lse).exp()).collect();
            let terms = x.iter().zip(&p).filter(|(_, p)| **p > 0.0);
            let entropy: f64 = terms.map(|(x, p)| -p * (x - lse)).sum();
            let near = 2e-6 * lse.abs().max(1.0);
            assert!((lses[row] - lse).abs() < near, "lse of row {row}");
            assert!((logprobs[row] - (x[target] - lse)).abs() < 1e-5, "log-prob of row {row}");
            assert!((entropies[row] - entropy).abs() < 3e-6, "entropy of row {row}");
            for v in 0..VOCAB {
                let got = gradient[row * VOCAB + v];
                if x[v] == f64::NEG_INFINITY {
                    assert_eq!(got, 0.0, "row {row}, a token that cannot occur");
                    continue;
                }
                let one = f64::from(u8::from(v == target));
                let by_logprob = weights[0][row] * (one - p[v]) + weights[1][row] * p[v];
                let by_entropy = of_entropy[row] * p[v] * (x[v] - lse + entropy);
                let want = (by_logprob - by_entropy) / TEMPERATURE;
                // The rounding of an exponent grows with it.
                let near = (3e-6 + 3e-7 * (max - x[v])) * (want.abs() + p[v]) + 1e-12;
                assert!((got - want).abs() < near, "row {row}, {v}: {got}, not {want}");
            }
        }
    }
}
