use std::collections::BTreeMap;

use opd_train::{pass_at_k_interval, wilson_interval};
use serde::Serialize;

use crate::number::{count, percent};

/// How often answers are right.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Score {
    pub(super) n: usize,
    samples: usize,
    pub(super) pass_at_1: f64,
    interval: [f64; 2],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pass_at_k: BTreeMap<u32, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pass_at_k_interval: BTreeMap<u32, [f64; 2]>,
}

impl Score {
    /// Of prompts of which each has this many right answers of `samples`.
    pub(super) fn of(right: &[usize], samples: usize, pass_k: &[u32]) -> Self {
        let rates: Vec<f64> = right.iter().map(|&n| n as f64 / samples as f64).collect();
        let (pass_at_1, interval) = wilson_interval(&rates, samples);
        let of = |&k: &u32| Some((k, pass_at_k_interval(right, samples, k as usize)?));
        let (pass_at_k, pass_at_k_interval) = (pass_k.iter().filter_map(of))
            .map(|(k, (rate, interval))| ((k, rate), (k, interval)))
            .unzip();
        let n = right.len();
        Self { n, samples, pass_at_1, interval, pass_at_k, pass_at_k_interval }
    }
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Scores {
    #[serde(flatten)]
    pub(super) all: Score,
    /// That of each file, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) files: Vec<FileScore>,
}

/// The score of the prompts of one file.
#[derive(Debug, Serialize)]
pub(super) struct FileScore {
    pub(super) data: String,
    #[serde(flatten)]
    pub(super) score: Score,
}

impl Scores {
    /// `name         value`, one a line, below the rows of `head`.
    pub(super) fn table(&self, head: &[(&str, String)], sampling: String) -> String {
        let all = &self.all;
        let [low, high] = all.interval.map(percent);
        let mut rows: Vec<(String, String)> =
            head.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let mut row = |name: String, value: String| rows.push((name, value));
        row("prompts".into(), count(all.n as u64));
        row("answers each".into(), count(all.samples as u64));
        row("sampling".into(), sampling);
        row("pass@1".into(), percent(all.pass_at_1));
        row("95% interval".into(), format!("{low} to {high}"));
        for ((k, rate), interval) in all.pass_at_k.iter().zip(all.pass_at_k_interval.values()) {
            row(format!("pass@{k}"), within(*rate, *interval));
        }
        for FileScore { data, score } in &self.files {
            let rate = within(score.pass_at_1, score.interval);
            row(String::new(), format!("{rate} of {} in {data}", count(score.n as u64)));
        }
        rows.iter().map(|(name, value)| format!("{name:14}{value}\n")).collect()
    }
}

/// `75.00% (30.06% to 95.44%)`.
fn within(rate: f64, interval: [f64; 2]) -> String {
    let [low, high] = interval.map(percent);
    format!("{} ({low} to {high})", percent(rate))
}
