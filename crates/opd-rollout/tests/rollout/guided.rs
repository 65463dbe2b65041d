//! Tokens drawn from a mixture of two models: teacher-mixed sampling.

use opd_batch::ScoredSequence;
use opd_models::CausalLm;
use opd_rollout::{Generation, InProcess, Request, RolloutEngine, Sampling, Strategy, Truncation};
use opd_testkit::host;

use super::{generate, load, requests, sampling};

fn mixed(
    (own, guide): (&CausalLm, &CausalLm),
    share: f64,
    max_sequences: usize,
    sampling: &Sampling,
) -> Vec<Generation> {
    let engine = InProcess::new(own, max_sequences).guided_by(guide, share);
    engine.generate(&requests(), sampling).unwrap()
}

fn scored(model: &CausalLm, generations: &[Generation], temperature: f64) -> Vec<f64> {
    let requests = requests();
    let sequences = requests
        .iter()
        .zip(generations)
        .map(|(request, g)| ScoredSequence { prompt: &request.prompt, response: &g.tokens });
    let packed = model.pack(&sequences.collect::<Vec<_>>()).unwrap();
    host(&model.token_logprobs(&packed, temperature).unwrap().logprobs)
}

#[test]
fn log_probs_are_the_mixtures() {
    let (own, guide) = (load("qwen3_tied"), load("llama_tied"));
    for (share, temperature) in [(0.2, 1.0), (0.5, 0.7), (0.9, 1.0)] {
        let generations = mixed((&own, &guide), share, 4, &sampling(temperature));
        let (p, q) =
            (scored(&own, &generations, temperature), scored(&guide, &generations, temperature));
        let got = generations.iter().flat_map(|g| &g.logprobs);
        let mut largest: f64 = 0.0;
        for ((p, q), got) in p.iter().zip(&q).zip(got) {
            let want = (share * q.exp() + (1.0 - share) * p.exp()).ln();
            assert!((f64::from(*got) - want).abs() < 1e-5, "{got}, expected {want}");
            largest = largest.max((p - want).exp());
        }
        let bound = 1.0 / (1.0 - share);
        assert!(largest <= bound * (1.0 + 1e-5), "a weight of {largest}, and the bound is {bound}");
        assert!(largest > 1.1, "a largest weight of {largest} shows nothing");
    }
}

#[test]
fn the_ends_are_the_models_themselves() {
    let (own, guide) = (load("qwen3_tied"), load("llama_tied"));
    let sampling = sampling(0.8);
    for (share, alone) in [(0.0, &own), (1.0, &guide)] {
        let got = mixed((&own, &guide), share, 5, &sampling);
        let want = generate(alone, 5, &requests(), &sampling);
        for (got, want) in got.iter().zip(&want) {
            assert_eq!((&got.tokens, got.finish), (&want.tokens, want.finish));
            for (got, want) in got.logprobs.iter().zip(&want.logprobs) {
                assert!((got - want).abs() < 1e-5, "{got} and {want}");
            }
        }
    }
}

#[test]
fn a_sequence_does_not_see_its_batch() {
    let (own, guide) = (load("qwen3_tied"), load("llama_tied"));
    let whole = mixed((&own, &guide), 0.3, 14, &sampling(1.0));
    for max_sequences in [1, 4] {
        let parts = mixed((&own, &guide), 0.3, max_sequences, &sampling(1.0));
        for (part, whole) in parts.iter().zip(&whole) {
            assert_eq!(part.tokens, whole.tokens);
        }
    }
}

#[test]
fn settings_that_cannot_be_mixed_are_named() {
    let (own, guide) = (load("qwen3_tied"), load("llama_tied"));
    let refused = |share, strategy| {
        let sampling = Sampling { strategy, ..sampling(1.0) };
        let engine = InProcess::new(&own, 1).guided_by(&guide, share);
        let request = Request { prompt: vec![1], stream: 0 };
        engine.generate(&[request], &sampling).unwrap_err().to_string()
    };
    let draw = |top_k| {
        let kept = Truncation { top_k, ..Truncation::default() };
        Strategy::Random { temperature: 1.0, kept }
    };
    let plain = draw(None);
    assert_eq!(refused(1.5, plain), "the guide's share must be from 0 to 1, got 1.5");
    assert_eq!(refused(f64::NAN, plain), "the guide's share must be from 0 to 1, got NaN");
    for strategy in [Strategy::Greedy, draw(Some(4))] {
        let message = refused(0.5, strategy);
        let start = "the strategy of a guided engine must be a draw from the full softmax, got ";
        assert!(message.starts_with(start), "{message}");
    }
}
