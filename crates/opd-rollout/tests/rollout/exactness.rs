use opd_batch::ScoredSequence;
use opd_kernels::Products;
use opd_models::CausalLm;
use opd_rollout::{Request, Sampling, Strategy, Truncation};
use opd_testkit::{GoldenModel, host};

use super::{generate, load, requests, sampling, tokens};

#[test]
fn sampler_log_probs_are_the_training_forwards() {
    let mut lengths = Vec::new();
    for name in GoldenModel::NAMES {
        let model = load(name);
        for temperature in [1.0, 0.7] {
            let requests = requests();
            // Fewer slots than requests: finished ones are refilled.
            let generations = generate(&model, 4, &requests, &sampling(temperature));
            let sequences: Vec<_> = requests
                .iter()
                .zip(&generations)
                .map(|(request, g)| ScoredSequence { prompt: &request.prompt, response: &g.tokens })
                .collect();
            let packed = model.pack(&sequences).unwrap();
            let student = host(&model.token_logprobs(&packed, temperature).unwrap().logprobs);
            let sampler = generations.iter().flat_map(|g| &g.logprobs);
            for (student, sampler) in student.iter().zip(sampler) {
                let off = (student - f64::from(*sampler)).exp_m1().abs();
                assert!(off < 1e-5, "{name} at {temperature}: {student} and {sampler}");
            }
            assert!(generations.iter().all(|g| g.truncated_logprobs.is_none()));
            assert_eq!(student.len(), packed.rows().n_tokens());
            lengths.extend(generations.iter().map(|g| g.tokens.len()));
        }
    }
    // Some ended at once, some in between, some at the limit.
    assert!([1, 6, 12].iter().all(|n| lengths.contains(n)), "{lengths:?}");
}

/// How far `exp(student - sampler)` is from 1: mean and worst.
fn errors(model: &CausalLm) -> (f64, f64) {
    let requests = requests();
    let generations = generate(model, 4, &requests, &sampling(1.0));
    let sequences: Vec<_> = (requests.iter().zip(&generations))
        .map(|(request, g)| ScoredSequence { prompt: &request.prompt, response: &g.tokens })
        .collect();
    let packed = model.pack(&sequences).unwrap();
    let student = host(&model.token_logprobs(&packed, 1.0).unwrap().logprobs);
    let sampler = generations.iter().flat_map(|g| &g.logprobs);
    let off = student.iter().zip(sampler).map(|(a, b)| (a - f64::from(*b)).exp_m1().abs());
    let off: Vec<f64> = off.collect();
    (off.iter().sum::<f64>() / off.len() as f64, off.iter().copied().fold(0.0, f64::max))
}

/// Products round their operands to 8 bits of mantissa, in sampling as in training. Sums of another
/// order are an f32 rounding apart, which now and then moves an operand by one unit of bf16.
#[test]
fn in_bf16_the_sampler_is_the_training_forward_but_for_roundings() {
    for name in GoldenModel::NAMES {
        let model = load(name).with_products(Products::Bf16).unwrap();
        let (mean, worst) = errors(&model);
        println!("{name}: mean {mean:.1e}, worst {worst:.1e}");
        assert!(mean < 1e-3 && worst < 2f64.powi(-7), "{name}: mean {mean}, worst {worst}");
    }
}

#[test]
fn greedy_tokens_are_those_of_transformers() {
    for golden in GoldenModel::all() {
        let model = CausalLm::load(&golden.dir, candle_core::DType::F32, &candle_core::Device::Cpu);
        let n = golden.greedy_from_sequence_0.len();
        let sampling = Sampling::new(Strategy::Greedy, n, &[]);
        let request = Request { prompt: golden.sequences[0].clone(), stream: 0 };
        let generations = generate(&model.unwrap(), 1, &[request], &sampling);
        assert_eq!(generations[0].tokens, golden.greedy_from_sequence_0);
    }
}

/// Probabilities of the token behind `prompt`.
fn probabilities(model: &CausalLm, prompt: &[u32], temperature: f64) -> Vec<f64> {
    let sequence = ScoredSequence { prompt, response: &[0] };
    let hidden = model.hidden(&model.pack(&[sequence]).unwrap()).unwrap();
    let logits = host(&model.products().linear(&hidden, model.head().weight).unwrap());
    let weights: Vec<f64> = logits.iter().map(|logit| (logit / temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// Pearson's statistic has the mean `df` and the standard deviation `sqrt(2 df)`: 5 of them
/// above is one chance in a million, and the seed is fixed.
#[test]
fn tokens_are_drawn_as_often_as_their_probability_says() {
    const DRAWS: usize = 6000;
    let model = load("qwen3_tied");
    let prompt = tokens(5, 1);
    let requests: Vec<Request> =
        (0..DRAWS).map(|i| Request { prompt: prompt.clone(), stream: i as u64 }).collect();
    for (temperature, top_k, top_p, min_p) in [
        (1.0, None, None, None),
        (0.1, None, None, None),
        (0.3, Some(12), None, None),
        (0.3, None, Some(0.6), None),
        (0.3, None, None, Some(0.2)),
    ] {
        let kept = Truncation { top_k, top_p, min_p };
        let sampling = Sampling {
            strategy: Strategy::Random { temperature, kept },
            ..Sampling::at_temperature(1.0, 1, &[])
        };
        let mut counts = vec![0usize; 320];
        for generation in generate(&model, 512, &requests, &sampling) {
            counts[generation.tokens[0] as usize] += 1;
        }
        let p = super::truncation::kept(&probabilities(&model, &prompt, temperature), kept);
        // Tokens expected less than 8 times are counted together.
        let (mut statistic, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
        for (count, p) in counts.into_iter().zip(p) {
            let (got, want) = (count as f64, p * DRAWS as f64);
            if want == 0.0 {
                assert_eq!(count, 0);
            } else if want < 8.0 {
                rare = (rare.0 + got, rare.1 + want);
            } else {
                statistic += (got - want).powi(2) / want;
                cells += 1.0;
            }
        }
        if rare.1 > 0.0 {
            statistic += (rare.0 - rare.1).powi(2) / rare.1;
            cells += 1.0;
        }
        let freedom: f64 = cells - 1.0;
        let limit = freedom + 5.0 * (2.0 * freedom).sqrt();
        assert!(cells > 5.0 && statistic < limit, "{statistic} with {freedom} at {temperature}");
    }
}
