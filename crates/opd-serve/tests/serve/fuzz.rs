//! The parsers of requests take any bytes: no panic, nothing beyond the rules passes, and no more
//! memory is held than the bytes account for.

use std::{
    env,
    time::{Duration, Instant},
};

use allocation_counter::measure;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::parsing::{read, request};

/// Pieces that may stand where they should not.
const PIECES: [&str; 16] = [
    "null",
    "1e999",
    "-1",
    "4294967296",
    "18446744073709551616",
    "[]",
    "{}",
    "[[",
    "]]",
    "\"input_ids\":",
    "\"prompt\":[1],",
    "\"x\"",
    "\\ud800",
    "NaN",
    "true",
    ",",
];

/// Requests as they are, with pieces cut, doubled or replaced, and bytes of nothing.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let edit = (0usize..4, any::<prop::sample::Index>(), 0usize..30, 0..PIECES.len());
    let edits = prop::collection::vec(edit, 0..4);
    let edited = (request(), edits).prop_map(|(request, edits)| {
        let mut bytes = request.to_string().into_bytes();
        for (kind, at, length, piece) in edits {
            if bytes.is_empty() {
                break;
            }
            let start = at.index(bytes.len());
            let end = bytes.len().min(start + length);
            let cut = bytes[start..end].to_vec();
            match kind {
                0 => drop(bytes.drain(start..end)),
                1 => drop(bytes.splice(start..start, cut)),
                2 => drop(bytes.splice(start..end, PIECES[piece].bytes())),
                _ => bytes.truncate(start),
            }
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..200), 9 => edited]
}

/// For 1 second, or `OPD_FUZZ_SECONDS`, and with `OPD_FUZZ_INPUTS` inputs at least.
#[test]
fn requests() {
    let variable = |name| env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let time = Duration::from_secs(variable("OPD_FUZZ_SECONDS").unwrap_or(1));
    let least = variable("OPD_FUZZ_INPUTS").unwrap_or(0);
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (strategy, start) = (inputs(), Instant::now());
    let (mut tried, mut generate, mut completion) = (0u64, 0u64, 0u64);
    while start.elapsed() < time || tried < least {
        let bytes = strategy.new_tree(&mut runner).unwrap().current();
        let (mut sglang, mut vllm) = (false, false);
        let memory = measure(|| (sglang, vllm) = read(&bytes));
        let (peak, length) = (memory.bytes_max, bytes.len() as u64);
        assert!(peak <= 64 * length + (64 << 10), "{peak} bytes were held for {length}");
        tried += 1;
        generate += u64::from(sglang);
        completion += u64::from(vllm);
    }
    println!(
        "requests: {tried} inputs, {generate} accepted as /generate, {completion} as \
         /v1/completions, in {:.1?}",
        start.elapsed()
    );
    for accepted in [generate, completion] {
        assert!(accepted > 0 && accepted < tried / 2, "{accepted} of {tried} were accepted");
    }
}
