//! `metrics.jsonl` through kills, resumes and full disks.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::PathBuf};

use opd_train::run::{Error, Metrics, StepMetrics, key};
use proptest::prelude::*;

fn step(step: u64) -> StepMetrics {
    StepMetrics::new(step)
        .with(key::REVERSE_KL, 1.0 / (step as f64 + 3.0))
        .with("tokens", 640.0)
        .with_seconds("rollout", 0.25 * step as f64)
}

/// A file with the lines of `steps`.
fn written(dir: &tempfile::TempDir, steps: std::ops::RangeInclusive<u64>) -> PathBuf {
    let path = dir.path().join("metrics.jsonl");
    let mut metrics = Metrics::create(&path).unwrap();
    for n in steps {
        metrics.write(&step(n)).unwrap();
    }
    path
}

fn steps_in(path: &std::path::Path) -> Vec<u64> {
    Metrics::read(path).unwrap().iter().map(|line| line.step).collect()
}

#[test]
fn every_line_is_flat_json_as_soon_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut metrics = Metrics::create(&path).unwrap();
    metrics.write(&step(0)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let expected = concat!(
        r#"{"step":0,"reverse_kl":0.3333333333333333,"seconds/rollout":0,"tokens":640}"#,
        "\n"
    );
    assert_eq!(text, expected);
    metrics.sync().unwrap();
}

#[test]
fn what_is_not_finite_is_null_and_reads_as_nan() {
    let line = StepMetrics::new(1)
        .with("a", f64::NAN)
        .with("b", f64::INFINITY)
        .with("c", f64::NEG_INFINITY)
        .with("d", -0.0)
        .to_string();
    assert_eq!(line, r#"{"step":1,"a":null,"b":null,"c":null,"d":-0.0}"#);
    let back: StepMetrics = serde_json::from_str(&line).unwrap();
    assert!(["a", "b", "c"].iter().all(|key| back.get(key).unwrap().is_nan()));
    assert_eq!(back.get("d").unwrap().to_bits(), (-0.0_f64).to_bits());
}

#[test]
fn clock_values_can_be_left_out_of_a_comparison() {
    let slow = step(4).with_seconds("rollout", 9.0).with_seconds("tokens_per_second", 3.0);
    assert_ne!(slow, step(4));
    assert_eq!(slow.without_seconds(), step(4).without_seconds());
    assert_eq!(step(4).without_seconds().values.len(), 2);
}

#[test]
fn resuming_replaces_the_lines_after_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, 0..=9);
    let before = fs::read_to_string(&path).unwrap();
    let mut metrics = Metrics::resume(&path, 6).unwrap();
    assert_eq!(metrics.last_step(), Some(6));
    assert_eq!(steps_in(&path), (0..=6).collect::<Vec<_>>());
    for n in 7..=9 {
        metrics.write(&step(n)).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), before, "the same lines, byte for byte");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left aside");
}

#[test]
fn a_line_torn_at_any_byte_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, 1..=3);
    let whole = fs::read(&path).unwrap();
    let start = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    for cut in start..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(steps_in(&path), [1, 2], "cut at {cut}");
        let mut metrics = Metrics::resume(&path, 3).unwrap();
        metrics.write(&step(3)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole, "cut at {cut}");
    }
}

#[test]
fn a_broken_line_in_the_middle_and_a_repeated_step_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let text = "{\"step\":1,\"a\":1}\n\0\0\0\n[1]\n{\"a\":1}\n{\"step\":2,\"a\":1}\n{\"step\":2,\"a\":2}\n";
    fs::write(&path, text).unwrap();
    Metrics::resume(&path, 2).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "{\"step\":1,\"a\":1}\n{\"step\":2,\"a\":2}\n");
}

#[test]
fn a_missing_file_resumes_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.jsonl");
    let mut metrics = Metrics::resume(&path, 5).unwrap();
    metrics.write(&step(6)).unwrap();
    assert_eq!(steps_in(&path), [6]);
}

#[test]
fn a_step_is_never_written_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, 1..=2);
    let mut metrics = Metrics::resume(&path, 2).unwrap();
    let error = metrics.write(&step(2)).unwrap_err();
    assert!(matches!(error, Error::StepOrder { step: 2, last: 2, .. }), "{error}");
    assert_eq!(steps_in(&path), [1, 2]);
}

#[test]
fn a_full_disk_leaves_whole_lines() {
    let Some(disk) = opd_testkit::Mount::tmpfs("64k") else { return };
    let path = disk.path().join("metrics.jsonl");
    let mut metrics = Metrics::create(&path).unwrap();
    let wide = |step| {
        let keys = (0..40).map(|n| format!("key/{n}"));
        keys.fold(StepMetrics::new(step), |line, key| line.with(&key, 0.1))
    };
    let full = (1..1000).find_map(|n| metrics.write(&wide(n)).err().map(|error| (n, error)));
    let (failed, error) = full.unwrap();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains("metrics.jsonl"), "{error}");
    assert_eq!(steps_in(&path), (1..failed).collect::<Vec<_>>());
    assert!(fs::read(&path).unwrap().ends_with(b"}\n"));
}

proptest! {
    #[test]
    fn every_finite_value_reads_back_bit_for_bit(values in prop::collection::vec(
        any::<f64>().prop_filter("finite", |value| value.is_finite()), 1..20,
    )) {
        let keys = values.iter().enumerate().map(|(n, &value)| (format!("k{n}\"\n"), value));
        let line = StepMetrics { step: u64::MAX, values: keys.collect() };
        let back: StepMetrics = serde_json::from_str(&line.to_string()).unwrap();
        let bits = |line: &StepMetrics| line.values.values().map(|v| v.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&back), bits(&line));
        prop_assert!(!line.to_string().contains('\n'));
    }
}
