//! The parsers of answers take any bytes: no panic, and nothing made up.

use std::time::{Duration, Instant};

use opd_batch::ScoredSequence;
use opd_http::Verdict;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::{
    protocol::{Protocol, Question, Scored},
    sglang::Sglang,
    vllm::Vllm,
};

const PROMPT: [u32; 2] = [5, 100];
const RESPONSE: [u32; 3] = [200, 300, 400];

/// Seconds per parser: 1, or `OPD_FUZZ_SECONDS`; and inputs at least, `OPD_FUZZ_INPUTS`.
fn bounds() -> (Duration, u64) {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("OPD_FUZZ_SECONDS").unwrap_or(1);
    (Duration::from_secs(seconds), variable("OPD_FUZZ_INPUTS").unwrap_or(0))
}

fn sglang(items: usize) -> String {
    let item = r#"{"text":"","meta_info":{"finish_reason":{"type":"length","length":0},"prompt_tokens":5,"weight_version":"default","input_token_logprobs":[[null,100,null],[-1.5,200,null],[-2.5,300,null],[-3.5,400,null]],"input_top_logprobs":[null,[[-0.5,7,null]],[[-0.25,8,null]],[[-0.125,9,null]]],"input_logprob_temperature":1.0}}"#;
    match items {
        1 => item.to_owned(),
        n => format!("[{}]", vec![item; n].join(",")),
    }
}

fn vllm(items: usize) -> String {
    let choice = |index: usize| {
        format!(
            r#"{{"index":{index},"finish_reason":"length","prompt_logprobs":[null,{{"100":{{"logprob":-9.0,"rank":4}}}},{{"200":{{"logprob":-1.5}},"7":{{"logprob":-0.5}}}},{{"300":{{"logprob":-2.5}},"8":{{"logprob":-0.25}}}},{{"400":{{"logprob":-3.5}},"9":{{"logprob":-0.125}}}}],"prompt_token_ids":[5,100,200,300,400]}}"#
        )
    };
    let choices: Vec<String> = (0..items).map(choice).collect();
    format!(r#"{{"choices":[{}]}}"#, choices.join(","))
}

/// Bytes of nothing, and answers with pieces cut, doubled, swapped or replaced.
fn inputs(good: String) -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        Just("null"),
        Just("1e999"),
        Just("-1e-999"),
        Just("[]"),
        Just("{}"),
        Just("\"x\""),
        Just("-1"),
        Just("4294967296"),
        Just("18446744073709551616"),
        Just("[[[[[["),
        Just("NaN"),
        Just("true"),
        Just("1.5"),
        Just(","),
        Just("\"input_token_logprobs\":"),
        Just("\\u0000"),
    ];
    let edit = (0usize..4, any::<prop::sample::Index>(), 0usize..40, pieces);
    let edited = prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = good.clone().into_bytes();
        for (kind, at, length, piece) in edits {
            if bytes.is_empty() {
                break;
            }
            let start = at.index(bytes.len());
            let end = bytes.len().min(start + length);
            let cut: Vec<u8> = bytes[start..end].to_vec();
            match kind {
                0 => drop(bytes.drain(start..end)),
                1 => drop(bytes.splice(start..start, cut)),
                2 => drop(bytes.splice(start..end, piece.bytes())),
                _ => bytes.truncate(start),
            }
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 9 => edited]
}

/// What is accepted has the size that was asked for, and log-probs only.
fn check(verdict: Verdict<Vec<Scored>>, items: usize, k: usize) -> bool {
    let (scored, whole) = match verdict {
        Verdict::Accept(scored) => (scored, true),
        Verdict::Incomplete(scored, _) => (scored, false),
        Verdict::Retry(why) | Verdict::Refuse(why) => {
            assert!(!why.is_empty() && why.len() < 2000, "{why}");
            return false;
        }
    };
    assert_eq!(scored.len(), items);
    for one in &scored {
        assert_eq!(one.logprobs.len(), RESPONSE.len());
        assert_eq!(one.top.len(), RESPONSE.len() * k);
        let logprobs = one.logprobs.iter().flatten().chain(one.top.iter().map(|(_, x)| x));
        assert!(logprobs.into_iter().all(|x| x.is_finite() && *x <= 1e-4));
    }
    let holes = scored.iter().flat_map(|one| &one.logprobs).any(Option::is_none);
    assert_eq!(holes, !whole);
    true
}

fn fuzz<P: Protocol>(name: &str, protocol: &P, good: fn(usize) -> String) {
    let sequence = ScoredSequence { prompt: &PROMPT, response: &RESPONSE };
    let (time, least) = bounds();
    let start = Instant::now();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let (mut tried, mut accepted) = (0u64, 0u64);
    let strategies = [(1, 0), (1, 1), (3, 1)].map(|(n, k)| (n, k, inputs(good(n))));
    while start.elapsed() < time || tried < least {
        for (items, k, strategy) in &strategies {
            let bytes = strategy.new_tree(&mut runner).unwrap().current();
            let sequences = vec![sequence; *items];
            let question = Question {
                sequences: &sequences,
                temperature: 1.0,
                k: *k,
                named: &[],
                vocab_size: None,
            };
            let taken = check(protocol.judge(&question, &bytes), *items, *k);
            (tried, accepted) = (tried + 1, accepted + u64::from(taken));
        }
    }
    for (items, k, _) in &strategies {
        let sequences = vec![sequence; *items];
        let question = Question {
            sequences: &sequences,
            temperature: 1.0,
            k: *k,
            named: &[],
            vocab_size: None,
        };
        assert!(check(protocol.judge(&question, good(*items).as_bytes()), *items, *k), "{name}");
    }
    assert!(accepted > 0 && accepted < tried / 2, "{name}: {accepted} of {tried} were accepted");
    println!("{name}: {tried} inputs, {accepted} accepted, in {:.1?}", start.elapsed());
}

#[test]
fn answers_of_sglang() {
    fuzz("sglang", &Sglang::default(), sglang);
}

#[test]
fn answers_of_vllm() {
    fuzz("vllm", &Vllm::default(), vllm);
}

/// A body cannot make the parser allocate much more than it is long.
#[test]
fn claims_of_size_are_not_believed() {
    let sequence = ScoredSequence { prompt: &PROMPT, response: &RESPONSE };
    let question =
        Question { sequences: &[sequence], temperature: 1.0, k: 0, named: &[], vocab_size: None };
    let deep = "[".repeat(1 << 20);
    let nested = format!(r#"{{"meta_info":{}"#, "{\"a\":".repeat(1 << 18));
    let many =
        format!(r#"{{"meta_info":{{"input_token_logprobs":[{}"#, "[null,1,null],".repeat(1 << 16));
    for body in [deep, nested, many] {
        for verdict in [
            Sglang::default().judge(&question, body.as_bytes()),
            Vllm::default().judge(&question, body.as_bytes()),
        ] {
            assert!(matches!(verdict, Verdict::Retry(_)));
        }
    }
}
