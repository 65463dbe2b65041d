//! A sequence is a function of the seed, its prompt and its stream.

use opd_kernels::Products;
use opd_models::Decoder;
use opd_rollout::{
    Generation, InProcess, Request, RolloutEngine, Sampling, Strategy, Truncation, packed_tokens,
};
use opd_testkit::{GoldenModel, same_on_any_number_of_threads};

use super::{generate, load, requests, sampling, tokens};

#[test]
fn a_sequence_has_the_same_bits_alone_and_in_any_batch() {
    for name in ["qwen3_tied", "qwen2_tied", "llama3_rope_untied"] {
        let model = load(name);
        for strategy in [
            Strategy::Random { temperature: 0.9, kept: Truncation::default() },
            Strategy::Random {
                temperature: 0.9,
                kept: Truncation { top_k: Some(40), top_p: Some(0.9), min_p: Some(0.01) },
            },
            Strategy::Greedy,
        ] {
            let sampling = Sampling { strategy, seed: 5, ..sampling(1.0) };
            let requests = requests();
            let together = generate(&model, requests.len(), &requests, &sampling);
            for max_sequences in [0, 1, 3, 100] {
                assert!(generate(&model, max_sequences, &requests, &sampling) == together);
            }
            let alone: Vec<Generation> = requests
                .iter()
                .flat_map(|request| generate(&model, 1, std::slice::from_ref(request), &sampling))
                .collect();
            assert!(alone == together, "{name}, {strategy:?}");
            let mut reversed = requests.clone();
            reversed.reverse();
            let mut backwards = generate(&model, 4, &reversed, &sampling);
            backwards.reverse();
            assert!(backwards == together, "{name}, {strategy:?}");
        }
    }
}

/// Both on one thread and on several, as a copy of the weights is read by all of them.
#[test]
fn packed_weights_do_not_change_a_bit() {
    let all = GoldenModel::NAMES.into_iter().map(|name| (name, Products::Full));
    for (name, products) in all.chain([("qwen3_tied", Products::Bf16)]) {
        let of = || load(name).with_products(products).unwrap();
        let (model, guide) = (of(), of());
        let ids: Vec<u32> = (0..10).collect();
        let sampling = Sampling::at_temperature(0.9, packed_tokens(products) + 2, &ids);
        let requests: Vec<Request> =
            (0..140).map(|i| Request { prompt: tokens(9, i / 4), stream: i }).collect();
        let run = |packs, share| {
            let engine = InProcess::new(&model, 140).packing_weights(packs);
            engine.guided_by(&guide, share).generate(&requests, &sampling).unwrap()
        };
        assert!(run(true, 0.3) == run(false, 0.3), "{name}, guided");
        let engine = |packs| InProcess::new(&model, 140).packing_weights(packs);
        let run = |packs| engine(packs).generate(&requests, &sampling).unwrap();
        assert!(run(true) == run(false), "{name}");
        let decoder = Decoder::packed(&model).unwrap();
        let held = InProcess::through(&decoder, 140);
        for _ in 0..2 {
            assert!(held.generate(&requests, &sampling).unwrap() == run(false), "{name}, held");
        }
    }
}

#[test]
fn seed_and_stream_each_make_another_sequence() {
    let model = load("qwen3_tied");
    let request = |stream| Request { prompt: vec![1, 2, 3], stream };
    let run = |seed, stream| {
        let sampling = Sampling { seed, ..Sampling::at_temperature(1.0, 20, &[]) };
        generate(&model, 1, &[request(stream)], &sampling).remove(0).tokens
    };
    assert_eq!(run(1, 1), run(1, 1));
    assert_ne!(run(1, 1), run(2, 1));
    assert_ne!(run(1, 1), run(1, 2));
    assert_ne!(run(0, 1), run(1, 0));
}

#[test]
fn sampling_has_the_same_bits_on_any_number_of_threads() {
    let model = load("qwen3_tied");
    let requests: Vec<Request> =
        (0..40).map(|i| Request { prompt: super::tokens(9, i / 4), stream: i }).collect();
    same_on_any_number_of_threads(|| {
        generate(&model, 32, &requests, &sampling(1.0))
            .into_iter()
            .flat_map(|generation| {
                let tokens = generation.tokens.iter().map(|&id| f64::from(id)).collect();
                [tokens, generation.logprobs.iter().map(|&x| f64::from(x)).collect()]
            })
            .collect()
    });
}

#[test]
fn threads_that_run_sequences_of_their_own_sample_the_same() {
    let model = load("qwen3_tied");
    let requests: Vec<Request> = (0..300u64)
        .map(|i| Request { prompt: tokens(1 + (i / 7 % 9) as usize, i / 7), stream: i })
        .collect();
    let sampling = sampling(1.0);
    let tokens_and_logprobs = || -> Vec<Vec<f64>> {
        let flat = |g: Generation| {
            let tokens = g.tokens.into_iter().map(f64::from);
            tokens.chain(g.logprobs.into_iter().map(f64::from)).collect()
        };
        generate(&model, 256, &requests, &sampling).into_iter().map(flat).collect()
    };
    let many = same_on_any_number_of_threads(tokens_and_logprobs);
    for i in [0, 77, 150, 299] {
        let alone = generate(&model, 1, &requests[i..i + 1], &sampling).remove(0);
        let tokens: Vec<f64> = alone.tokens.iter().copied().map(f64::from).collect();
        assert_eq!(many[i][..tokens.len()], tokens);
    }
}
