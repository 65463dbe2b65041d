//! Layers that multiply values rounded to bf16.

use std::fs;

use opd_testkit::GoldenModel;
use serde_json::json;

use crate::{
    command::{Workplace, numbers, records},
    mixing::resumes_exactly,
};

#[test]
fn scores_are_near_those_in_f32_and_not_those() {
    for golden in GoldenModel::all() {
        let work = Workplace::new();
        let rows =
            golden.sequences.iter().map(|tokens| format!("{}\n", json!({ "tokens": tokens })));
        work.write("in.jsonl", &rows.collect::<String>());
        let scores = |precision: &str| -> Vec<f64> {
            let args = ["score", "--input", "in.jsonl", "--output", "out.jsonl", "--precision"];
            let model = ["--model", golden.dir.to_str().unwrap()];
            work.opd(args.into_iter().chain([precision]).chain(model)).succeeds();
            let lines = records(&work.path("out.jsonl"));
            fs::remove_file(work.path("out.jsonl")).unwrap();
            lines.iter().flat_map(|line| numbers(line, "log_probs")).collect()
        };
        let (full, rounded) = (scores("f32"), scores("bf16"));
        assert_eq!(full.len(), rounded.len());
        let off = full.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off > 0.0 && off < 0.1, "{:?}: {off}", golden.dir);
    }
}

#[test]
fn a_run_in_bf16_resumes_exactly() {
    let teacher = "--use-opd --opd-type in-process --opd-teacher-load bundled:teacher";
    resumes_exactly(&format!("{teacher} --precision bf16 --kl-loss-coef 0.1"));
}
