//! A sequence does not see its batch: not its neighbours, their order, or the number of threads.

use candle_core::DType;
use opd_models::{Checkpointing, Gradients};
use opd_testkit::{GoldenModel, host, numbers, same_on_any_number_of_threads};

use super::{Pair, differentiate, eight, gradient, load, logprobs, named, norm, sequences, tokens};

/// Weights of the response tokens of `pairs`, cut by sequence.
fn weights(pairs: &[Pair]) -> Vec<Vec<f64>> {
    let per_row = pairs.iter().enumerate();
    per_row.map(|(i, (_, response))| numbers(response.len(), 300 + i as u64, 1.0)).collect()
}

type Named = Vec<(String, Vec<f64>)>;

#[track_caller]
fn assert_same(what: &str, got: &(f64, Named), want: &(f64, Named), tolerance: f64) {
    let off = (got.0 - want.0).abs();
    assert!(off <= tolerance * want.0.abs(), "{what}: loss {}, expected {}", got.0, want.0);
    for ((name, got), (_, want)) in got.1.iter().zip(&want.1) {
        let difference: Vec<f64> = got.iter().zip(want).map(|(a, b)| a - b).collect();
        let (off, size) = (norm(&difference), norm(want));
        assert!(off <= tolerance * size, "{what}: {name} is off by {off:e} of {size:e}");
    }
}

#[test]
fn loss_and_gradients_do_not_depend_on_the_cut_or_the_packing() {
    for golden in GoldenModel::all() {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-12)] {
            let model = load(&golden.dir, dtype);
            let pairs = eight();
            let weights = weights(&pairs);
            let whole = gradient(&model, &pairs, &weights.concat(), Checkpointing::Off);

            // Each alone: prompts that were shared are now copies.
            let mut gradients = Gradients::new(model.parameters());
            let mut loss = 0.0;
            for (pair, weights) in pairs.iter().zip(&weights) {
                let pair = std::slice::from_ref(pair);
                loss += differentiate(&model, pair, weights, Checkpointing::Off, &mut gradients);
            }
            assert_same("8 of 1", &(loss, named(&model, &gradients)), &whole, tolerance);

            let (mut reversed, mut reversed_weights) = (pairs.clone(), weights.clone());
            reversed.reverse();
            reversed_weights.reverse();
            let reversed =
                gradient(&model, &reversed, &reversed_weights.concat(), Checkpointing::Off);
            assert_same("reversed", &reversed, &whole, tolerance);

            // The prompt's tail becomes response that counts nothing: nothing is shared.
            let (mut moved, mut moved_weights) = (pairs.clone(), weights.clone());
            for ((prompt, response), weights) in moved.iter_mut().zip(&mut moved_weights) {
                let tail = prompt.split_off(1);
                weights.splice(0..0, vec![0.0; tail.len()]);
                response.splice(0..0, tail);
            }
            let moved = gradient(&model, &moved, &moved_weights.concat(), Checkpointing::Off);
            assert_same("unshared", &moved, &whole, tolerance);

            let kept = gradient(&model, &pairs, &weights.concat(), Checkpointing::PerLayer);
            assert_same("checkpointed", &kept, &whole, tolerance);
        }
    }
}

/// In f32 a row has the same bits alone, in a batch, and behind a shared or a copied prompt.
#[test]
fn log_probs_have_the_same_bits_in_any_batch() {
    for golden in GoldenModel::all() {
        let model = load(&golden.dir, DType::F32);
        let pairs = eight();
        let together = logprobs(&model, &pairs, 1.0);
        let alone: Vec<f64> = pairs
            .iter()
            .flat_map(|pair| logprobs(&model, std::slice::from_ref(pair), 1.0))
            .collect();
        assert_eq!(together, alone);
        let rows = model.pack(&sequences(&pairs)).unwrap();
        let n_tokens: usize =
            pairs.iter().map(|(prompt, response)| prompt.len() + response.len()).sum();
        // Three shared prompts are not computed again, nor is any last token.
        assert_eq!(rows.n_computed(), n_tokens - 7 - 7 - 3 - pairs.len());
    }
}

#[test]
fn forward_and_gradients_have_the_same_bits_on_any_number_of_threads() {
    let pairs: Vec<Pair> = (0..30).map(|i| (tokens(6, i / 3), tokens(9, 400 + i))).collect();
    let weights = weights(&pairs).concat();
    for golden in GoldenModel::all() {
        same_on_any_number_of_threads(|| {
            let model = load(&golden.dir, DType::F32);
            let packed = model.pack(&sequences(&pairs)).unwrap();
            let (loss, gradients) = gradient(&model, &pairs, &weights, Checkpointing::Off);
            let mut all = vec![host(&model.hidden(&packed).unwrap()), vec![loss]];
            all.push(host(&model.token_logprobs(&packed, 1.0).unwrap().logprobs));
            all.extend(gradients.into_iter().map(|(_, values)| values));
            all
        });
    }
}

#[test]
fn sequences_have_the_same_scores_however_they_are_cut() {
    let pairs: Vec<Pair> = (0..160).map(|i| (tokens(7, i / 3), tokens(8, 900 + i))).collect();
    for golden in GoldenModel::all() {
        let model = load(&golden.dir, DType::F32);
        let (together, sequences) = (logprobs(&model, &pairs, 0.7), sequences(&pairs));
        for budget in [1, 100, 1 << 20] {
            let scores = same_on_any_number_of_threads(|| {
                let scores = model.sequence_logprobs(&sequences, 0.7, budget).unwrap();
                vec![scores.into_iter().map(f64::from).collect()]
            });
            assert_eq!(scores.concat(), together);
        }
        assert_eq!(model.sequence_logprobs(&[], 1.0, 8).unwrap(), [0f32; 0]);
    }
}
