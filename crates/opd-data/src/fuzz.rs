//! The readers take any bytes: no panic, and no memory beyond what a file holds.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{BadRows, Fields, PromptSet};

/// Seconds per reader: 1, or `OPD_FUZZ_SECONDS`; and inputs at least, `OPD_FUZZ_INPUTS`.
fn bounds() -> (Duration, u64) {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("OPD_FUZZ_SECONDS").unwrap_or(1);
    (Duration::from_secs(seconds), variable("OPD_FUZZ_INPUTS").unwrap_or(0))
}

/// A good file with bytes replaced, pieces cut, doubled or swapped, or its end missing.
fn damaged(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>(), 0..5_u8, 1..40_usize);
    proptest::collection::vec(change, 1..6).prop_map(move |changes| {
        let mut bytes = good.clone();
        for (at, byte, kind, n) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let end = (at + n).min(bytes.len());
            match kind {
                0 | 1 => bytes[at] = byte,
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
                _ => bytes.truncate(at),
            }
        }
        bytes
    })
}

/// Most memory that this process has held, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn fuzz(name: &str, goods: &[&str], fields: &Fields) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let strategies: Vec<_> =
        goods.iter().map(|good| damaged(fs::read(folder.join(good)).unwrap())).collect();
    let (time, least) = bounds();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let (start, mut tried, mut accepted) = (Instant::now(), 0_u64, 0_u64);
    let before = peak();
    while start.elapsed() < time || tried < least {
        let strategy = &strategies[tried as usize % strategies.len()];
        fs::write(&path, strategy.new_tree(&mut runner).unwrap().current()).unwrap();
        let policy = if tried % 2 == 0 { BadRows::Fail } else { BadRows::Skip };
        if let Ok(set) = PromptSet::open(&[&path], fields, policy) {
            accepted += 1;
            for index in 0..set.len() {
                assert!(set.get(index).unwrap().is_some(), "a row that was good is good again");
            }
        }
        tried += 1;
    }
    assert!(accepted > 0 && accepted < tried, "{name}: {accepted} of {tried} were accepted");
    assert!(peak() < before + (256 << 10), "{name}: {} KiB, {before} before", peak());
    println!("{name}: {tried} inputs, {accepted} accepted, in {:.1?}", start.elapsed());
}

#[test]
fn fuzz_of_jsonl() {
    let fields = Fields { label: "reward_model.ground_truth".into(), ..Fields::default() };
    fuzz("jsonl", &["dapo.jsonl"], &fields);
}

#[test]
fn fuzz_of_parquet() {
    let fields = Fields { label: "reward_model.ground_truth".into(), ..Fields::default() };
    let files = ["none-v1", "none-v2", "snappy-v1", "gzip-v2", "zstd-v1", "zstd-v2", "lz4-v1"];
    let files = files.map(|name| format!("dapo-{name}.parquet"));
    // Panics that the reader catches are not shown.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let fuzzed = std::panic::catch_unwind(|| fuzz("parquet", &files, &fields));
    std::panic::set_hook(hook);
    fuzzed.unwrap();
}

/// Sizes and numbers in headers of pages are held against the page before anything is made of them.
#[test]
fn claims_of_pages_are_not_believed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for codec in ["snappy", "gzip", "lz4", "brotli", "zstd", "none"] {
        for version in ["v1", "v2"] {
            let good = fs::read(folder.join(format!("dapo-{codec}-{version}.parquet"))).unwrap();
            // The first page's header: its kind, its size without compression; most of an i32 for it.
            assert_eq!((good[4], good[6]), (0x15, 0x15));
            let end = 7 + good[7..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let mut bytes = good;
            bytes.splice(7..end, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
            fs::write(&path, bytes).unwrap();
            let before = peak();
            let opened = PromptSet::open(&[&path], &Fields::default(), BadRows::Skip);
            let error = opened.unwrap_err().to_string();
            assert!(error.contains("has 2147483647 bytes, at most 134217728"), "{codec}: {error}");
            assert!(peak() < before + (256 << 10), "{codec} {version}");
        }
    }
    let mut bytes = fs::read(folder.join("dapo-none-v1.parquet")).unwrap();
    // The first page is a dictionary of 1 value (2, as Thrift writes it) in 13 bytes.
    assert_eq!(bytes[4..13], [0x15, 4, 0x15, 26, 0x15, 26, 0x4c, 0x15, 2]);
    bytes[12] = 126;
    fs::write(&path, bytes).unwrap();
    let opened = PromptSet::open(&[&path], &Fields::default(), BadRows::Skip);
    let error = opened.unwrap_err().to_string();
    assert!(error.contains("more values than bytes"), "{error}");
}
