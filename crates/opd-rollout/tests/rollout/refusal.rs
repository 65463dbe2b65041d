use candle_core::Tensor;
use opd_rollout::{InProcess, Request, RolloutEngine, Sampling, Strategy, Truncation};

use super::{load, tokens};

#[test]
fn prompts_that_cannot_be_continued_are_named() {
    let model = load("qwen3_tied");
    let message = |prompt: Vec<u32>| {
        let requests = [vec![1], prompt].map(|prompt| Request { prompt, stream: 0 });
        let sampling = Sampling::at_temperature(1.0, 4, &[]);
        InProcess::new(&model, 8).generate(&requests, &sampling).unwrap_err().to_string()
    };
    assert_eq!(message(vec![]), "prompt 1 is empty; a model needs at least one token");
    assert_eq!(message(vec![3, 320]), "prompt 1: token id 320 is outside the vocabulary of 320");
    assert_eq!(
        message(tokens(512, 1)),
        "prompt 1 has 512 tokens, the model's context holds 512 with at least one for the response; shorten it or drop it"
    );
}

#[test]
fn settings_outside_their_range_are_named() {
    let model = load("qwen3_tied");
    let random = |temperature, top_k, top_p| {
        let kept = Truncation { top_k, top_p, min_p: None };
        Strategy::Random { temperature, kept }
    };
    let min_p = |p| {
        let kept = Truncation { min_p: Some(p), ..Truncation::default() };
        Strategy::Random { temperature: 1.0, kept }
    };
    for (strategy, max_new_tokens, message) in [
        (Strategy::Greedy, 0, "max_new_tokens must be at least 1, got 0"),
        (random(0.0, None, None), 1, "temperature must be finite and above 0, got 0"),
        (random(-1.0, None, None), 1, "temperature must be finite and above 0, got -1"),
        (random(f64::NAN, None, None), 1, "temperature must be finite and above 0, got NaN"),
        (random(f64::INFINITY, None, None), 1, "temperature must be finite and above 0, got inf"),
        (random(1.0, Some(0), None), 1, "top_k must be at least 1, got 0"),
        (random(1.0, None, Some(0.0)), 1, "top_p must be above 0 and at most 1, got 0"),
        (random(1.0, None, Some(1.5)), 1, "top_p must be above 0 and at most 1, got 1.5"),
        (random(1.0, None, Some(f64::NAN)), 1, "top_p must be above 0 and at most 1, got NaN"),
        (min_p(-0.1), 1, "min_p must be from 0 to 1, got -0.1"),
        (min_p(f64::NAN), 1, "min_p must be from 0 to 1, got NaN"),
    ] {
        let sampling = Sampling::new(strategy, max_new_tokens, &[]);
        let request = Request { prompt: vec![1], stream: 0 };
        let error = InProcess::new(&model, 1).generate(&[request], &sampling).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let sampling = Sampling { repetition_penalty: 0.0, ..Sampling::new(Strategy::Greedy, 1, &[]) };
    let message = "repetition_penalty must be finite and above 0, got 0";
    assert_eq!(sampling.validate().unwrap_err().to_string(), message);
}

#[test]
fn logits_that_are_not_finite_name_the_sequence_and_token() {
    let model = load("qwen2_tied");
    let table = model.parameters().iter().next().unwrap();
    assert_eq!(table.name(), "model.embed_tokens.weight");
    // Token 9 poisons every sequence that holds it, and itself as a continuation.
    let mut values = table.tensor().to_vec2::<f32>().unwrap();
    values[9][3] = f32::NAN;
    let values = Tensor::new(values, &candle_core::Device::Cpu).unwrap();
    table.var().set(&values).unwrap();
    let kept = Truncation { top_k: Some(3), ..Truncation::default() };
    for strategy in [Strategy::Greedy, Strategy::Random { temperature: 1.0, kept }] {
        let sampling = Sampling::new(strategy, 3, &[]);
        let requests = [vec![1, 9]].map(|prompt| Request { prompt, stream: 0 });
        let error = InProcess::new(&model, 8).generate(&requests, &sampling).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sequence 0: the logits of response token 0 are not finite; the model's weights are damaged or training diverged"
        );
    }
}
