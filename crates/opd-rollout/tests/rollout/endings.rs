//! Where a response ends, and ties.

use candle_core::{Device, Tensor};
use opd_batch::Finish;
use opd_rollout::{InProcess, Request, RolloutEngine, Sampling, Strategy};

use super::{generate, load, tokens};

fn greedy(max_new_tokens: usize, eos_token_ids: &[u32]) -> Sampling {
    Sampling::new(Strategy::Greedy, max_new_tokens, eos_token_ids)
}

#[test]
fn an_end_token_is_the_last_token_and_the_limit_is_kept() {
    let model = load("qwen3_untied");
    let request = [Request { prompt: tokens(6, 3), stream: 0 }];
    let free = generate(&model, 1, &request, &greedy(10, &[])).remove(0);
    assert_eq!((free.tokens.len(), free.finish), (10, Finish::Length));
    for n in 1..=10 {
        let cut = generate(&model, 1, &request, &greedy(n, &[])).remove(0);
        assert_eq!((&cut.tokens[..], cut.finish), (&free.tokens[..n], Finish::Length));
        assert_eq!(cut.logprobs, free.logprobs[..n]);
        let end = free.tokens[n - 1];
        let first = free.tokens.iter().position(|&id| id == end).unwrap();
        for limit in [10, first + 1] {
            let ended = generate(&model, 1, &request, &greedy(limit, &[319, end])).remove(0);
            assert_eq!((&ended.tokens[..], ended.finish), (&free.tokens[..=first], Finish::Eos));
        }
    }
}

#[test]
fn the_context_ends_a_response() {
    let model = load("llama_tied");
    let requests = [510, 3, 511].map(|n| Request { prompt: tokens(n, n as u64), stream: 0 });
    let lengths = generate(&model, 2, &requests, &Sampling::at_temperature(1.0, 6, &[]))
        .into_iter()
        .map(|generation| (generation.tokens.len(), generation.finish));
    let long = Finish::Length;
    assert_eq!(lengths.collect::<Vec<_>>(), [(2, long), (6, long), (1, long)]);
    let endless = generate(&model, 2, &requests[..1], &greedy(usize::MAX, &[])).remove(0);
    assert_eq!(endless.tokens.len(), 2);
}

#[test]
fn ties_go_to_the_lowest_id() {
    let model = load("qwen3_untied");
    let head = model.parameters().iter().find(|p| p.name() == "lm_head.weight").unwrap();
    let request = [Request { prompt: tokens(4, 1), stream: 0 }];
    let rows = |of: &dyn Fn(usize) -> f32| {
        let values = (0..320).flat_map(|id| vec![of(id); 64]).collect::<Vec<f32>>();
        let head_values = Tensor::from_vec(values, (320, 64), &Device::Cpu).unwrap();
        head.var().set(&head_values).unwrap();
        generate(&model, 1, &request, &greedy(4, &[])).remove(0).tokens
    };
    assert_eq!(rows(&|_| 0.0), [0; 4]);
    // Whichever sign wins, its lowest id is 7 or 8.
    let chosen = rows(&|id| match id {
        7 | 9 | 300 => 1.0,
        8 | 10 | 301 => -1.0,
        _ => 0.0,
    });
    assert!(chosen.iter().all(|id| [7, 8].contains(id)), "{chosen:?}");
}

#[test]
fn nothing_asked_is_nothing_sampled() {
    let model = load("qwen3_tied");
    let sampling = Sampling::at_temperature(1.0, 4, &[]);
    assert_eq!(InProcess::new(&model, 8).generate(&[], &sampling).unwrap(), []);
}
