//! The parsers of answers take any bytes: no panic, nothing made up, and no more memory than the
//! bytes account for.

mod answers;

use std::time::{Duration, Instant};

use allocation_counter::measure;
use opd_http::Verdict;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use serde::Deserialize;

use crate::{
    fuzz::answers::{Case, NAMED, RESPONSE, of_sglang, of_vllm},
    protocol::Protocol,
    sglang::Sglang,
    vllm::Vllm,
};

/// Seconds per parser: 1, or `OPD_FUZZ_SECONDS`; and inputs at least, `OPD_FUZZ_INPUTS`.
fn bounds() -> (Duration, u64) {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("OPD_FUZZ_SECONDS").unwrap_or(1);
    (Duration::from_secs(seconds), variable("OPD_FUZZ_INPUTS").unwrap_or(0))
}

/// Bytes of nothing, and answers with pieces cut, doubled, swapped or replaced.
fn inputs(good: &str) -> impl Strategy<Value = Vec<u8>> {
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
    let good = good.to_owned();
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

/// Bytes held at a time that a body of this length may cost: half-grown lists of its shortest
/// entries, and trees of one short entry each.
fn allowance(length: usize) -> u64 {
    64 * length as u64 + (64 << 10)
}

/// What a server says of its temperature. The rest of an answer is skipped, as the parser does:
/// an answer may have numbers in it that no `f64` holds.
#[derive(Deserialize)]
struct Answer {
    meta_info: Told,
}

#[derive(Deserialize)]
struct Told {
    input_logprob_temperature: f64,
}

/// Whether it is accepted: then it has the size that was asked for, log-probs only, the ids that
/// were named and the temperature.
fn check<P: Protocol>(protocol: &P, case: &Case, bytes: &[u8]) -> bool {
    let mut verdict = None;
    let memory = measure(|| verdict = Some(case.ask(|question| protocol.judge(question, bytes))));
    let (peak, length) = (memory.bytes_max, bytes.len());
    assert!(peak <= allowance(length), "{peak} bytes were held for {length}");
    let (scored, whole) = match verdict.unwrap() {
        Verdict::Accept(scored) => (scored, true),
        Verdict::Incomplete(scored, _) => (scored, false),
        Verdict::Retry(why) | Verdict::Refuse(why) => {
            assert!(!why.is_empty() && why.len() < 2000, "{why}");
            return false;
        }
    };
    assert_eq!(scored.len(), case.items);
    for one in &scored {
        assert_eq!(one.logprobs.len(), RESPONSE.len());
        assert_eq!(one.top.len(), RESPONSE.len() * case.k);
        let logprobs = one.logprobs.iter().flatten().chain(one.top.iter().map(|(_, x)| x));
        assert!(logprobs.into_iter().all(|x| x.is_finite() && *x <= 1e-4));
        assert!(!case.named || one.top.iter().map(|(id, _)| *id).eq(NAMED));
    }
    let holes = scored.iter().flat_map(|one| &one.logprobs).any(Option::is_none);
    assert_eq!(holes, !whole);
    if case.temperature != 1.0 {
        let Answer { meta_info } = serde_json::from_slice(bytes).unwrap();
        let told = meta_info.input_logprob_temperature;
        assert!((told - f64::from(case.temperature)).abs() < 1e-5, "{told} was taken");
    }
    true
}

fn fuzz<P: Protocol>(name: &str, protocol: &P, cases: &[Case]) {
    let (time, least) = bounds();
    let start = Instant::now();
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let strategies: Vec<_> = cases.iter().map(|case| (case, inputs(&case.good))).collect();
    let (mut tried, mut accepted) = (0u64, vec![0u64; cases.len()]);
    while start.elapsed() < time || tried < least {
        for ((case, strategy), accepted) in strategies.iter().zip(&mut accepted) {
            let bytes = strategy.new_tree(&mut runner).unwrap().current();
            *accepted += u64::from(check(protocol, case, &bytes));
            tried += 1;
        }
    }
    for (case, accepted) in cases.iter().zip(&accepted) {
        assert!(check(protocol, case, case.good.as_bytes()), "{name}: {case:?}");
        let tried = tried / cases.len() as u64;
        assert!(*accepted > 0 && *accepted < tried / 2, "{name}: {accepted} of {tried}: {case:?}");
    }
    let accepted: u64 = accepted.iter().sum();
    println!("{name}: {tried} inputs, {accepted} accepted, in {:.1?}", start.elapsed());
}

#[test]
fn answers_of_sglang() {
    fuzz("sglang", &Sglang::default(), &of_sglang());
}

#[test]
fn answers_of_vllm() {
    fuzz("vllm", &Vllm::default(), &of_vllm());
}

/// A body cannot make the parser hold much more than it is long.
#[test]
fn claims_of_size_are_not_believed() {
    let deep = "[".repeat(1 << 20);
    let nested = format!(r#"{{"meta_info":{}"#, "{\"a\":".repeat(1 << 18));
    let many =
        format!(r#"{{"meta_info":{{"input_token_logprobs":[{}"#, "[null,1,null],".repeat(1 << 16));
    let trees = format!(r#"{{"choices":[],"prompt_logprobs":[{}"#, r#"{"1":{}},"#.repeat(1 << 16));
    for body in [deep, nested, many, trees] {
        let case = Case::new(1, 0, String::new());
        assert!(!check(&Sglang::default(), &case, body.as_bytes()));
        assert!(!check(&Vllm::default(), &case, body.as_bytes()));
    }
}
