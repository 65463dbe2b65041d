//! Texts that end a response.

use std::sync::Arc;

use opd_batch::Finish;
use opd_models::Tokenizer;
use opd_rollout::{Request, Sampling, StopStrings};
use opd_testkit::write_byte_level;

use super::{generate, load, tokens};

/// Some tokens of more than a character, over the vocabulary of the golden models.
fn tokenizer() -> Arc<Tokenizer> {
    let dir = tempfile::tempdir().unwrap();
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let merges: Vec<(&str, &str)> =
        letters.iter().zip(&letters[1..]).map(|(a, b)| (a.as_str(), b.as_str())).collect();
    write_byte_level(dir.path(), &merges);
    Arc::new(Tokenizer::load(dir.path()).unwrap())
}

#[test]
fn a_response_ends_with_the_token_that_completes_a_stop_string() {
    let (model, tokenizer) = (load("qwen3_untied"), tokenizer());
    let request = [Request { prompt: tokens(6, 3), stream: 1 }];
    let plain = Sampling::at_temperature(1.0, 60, &[]);
    let free = generate(&model, 1, &request, &plain).remove(0);
    let text = |n: usize| tokenizer.decode(&free.tokens[..n]).unwrap();
    let whole: Vec<char> = text(60).chars().collect();
    let mut stopped = 0;
    for (start, length) in (0..whole.len()).flat_map(|start| [1, 3].map(|n| (start, n))) {
        let Some(stop) = whole.get(start..start + length) else { continue };
        let stop: String = stop.iter().collect();
        if stop.contains(char::REPLACEMENT_CHARACTER) {
            continue;
        }
        let stops = vec!["never written".to_owned(), stop.clone()];
        let stops = StopStrings::new(stops, tokenizer.clone()).unwrap();
        let sampling = Sampling { stop: Some(stops.clone()), ..plain.clone() };
        let cut = generate(&model, 1, &request, &sampling).remove(0);
        let n = (1..=60).find(|&n| text(n).contains(&stop)).unwrap();
        assert_eq!((cut.finish, &cut.tokens[..]), (Finish::Stop, &free.tokens[..n]), "{stop:?}");
        assert_eq!(cut.logprobs, free.logprobs[..n]);
        let read = text(n);
        assert_eq!(stops.trim(&read), read.split(&stop).next().unwrap());
        stopped += 1;
    }
    assert!(stopped > 20, "only {stopped} stop strings were tried");
}

#[test]
fn an_end_token_counts_before_a_stop_string() {
    let (model, tokenizer) = (load("qwen3_untied"), tokenizer());
    let request = [Request { prompt: tokens(6, 3), stream: 1 }];
    let plain = Sampling::at_temperature(1.0, 60, &[]);
    let free = generate(&model, 1, &request, &plain).remove(0);
    let (at, id) = free.tokens.iter().enumerate().find(|(_, id)| (34..127).contains(*id)).unwrap();
    let stop = StopStrings::new(vec![tokenizer.decode(&[*id]).unwrap()], tokenizer).unwrap();
    let sampling = Sampling { eos_token_ids: vec![*id], stop: Some(stop), ..plain };
    let cut = generate(&model, 1, &request, &sampling).remove(0);
    assert_eq!((cut.finish, cut.tokens.len()), (Finish::Eos, at + 1));
}

#[test]
fn an_empty_stop_string_is_refused() {
    let error = StopStrings::new(vec!["a".into(), String::new()], tokenizer()).unwrap_err();
    let message = "a stop string must be at least one character, got \"\"";
    assert_eq!(error.to_string(), message);
}
