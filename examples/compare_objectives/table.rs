//! The runs of all seeds as a Markdown table and a picture.

use std::fmt::Write;

use opd_train::{
    report::{Picture, count},
    wilson_interval,
};

use crate::{rows::Row, runs::Made};

/// What a row's runs came to.
pub(crate) struct Compared<'a> {
    pub(crate) row: &'a Row,
    /// One per seed.
    pub(crate) runs: Vec<Made>,
}

impl Compared<'_> {
    /// pass@1 of each seed's student on the test prompts.
    fn pass_at_1(&self) -> impl Iterator<Item = f64> + '_ {
        self.runs.iter().filter_map(|run| run.summary.pass_at_1.after)
    }

    /// Pooled pass@1 with its interval, as if every answer of every seed were a trial.
    fn pooled(&self) -> (f64, [f64; 2]) {
        let mut answers = Vec::new();
        for run in &self.runs {
            let n = run.summary.eval_prompts;
            let right = run.summary.pass_at_1.after.unwrap_or(0.0) * n as f64;
            answers.extend((0..n).map(|i| if (i as f64) < right.round() { 1.0 } else { 0.0 }));
        }
        wilson_interval(&answers, 1)
    }

    fn mean(&self, of: impl Fn(&Made) -> f64) -> f64 {
        self.runs.iter().map(of).sum::<f64>() / self.runs.len().max(1) as f64
    }

    /// Mean over the seeds of pass@1 at each place.
    fn curve(&self) -> Vec<(f64, f64)> {
        let places = self.runs.iter().map(|run| run.curve.len()).min().unwrap_or(0);
        let mean = |of: &dyn Fn(&Made) -> f64| self.mean(of);
        (0..places).map(|i| (mean(&|run| run.curve[i].0), mean(&|run| run.curve[i].1))).collect()
    }
}

/// The student before training and the teacher, as some run measured them.
pub(crate) fn levels(compared: &[Compared<'_>]) -> Vec<(String, f64)> {
    let runs = || compared.iter().flat_map(|row| &row.runs).map(|run| run.summary.pass_at_1);
    let before = runs().find_map(|pass_at_1| pass_at_1.before);
    let teacher = runs().find_map(|pass_at_1| pass_at_1.teacher);
    let named = [("student before training", before), ("teacher", teacher)];
    let known = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    known.collect()
}

pub(crate) fn markdown(compared: &[Compared<'_>], seeds: u64) -> String {
    let mut text = String::new();
    let percent = |value: f64| format!("{:.2}%", 100.0 * value);
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        text,
        "| objective | pass@1 | 95% interval | seeds | lr | generated tokens | trained tokens | training seconds |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|"
    );
    for (name, value) in levels(compared) {
        let _ = writeln!(text, "| {name} | {} | | | | | | |", percent(value));
    }
    for row in compared {
        let (pooled, [low, high]) = row.pooled();
        let each: Vec<String> = row.pass_at_1().map(|p| format!("{:.1}", 100.0 * p)).collect();
        let generated = row.mean(|run| run.summary.generated_tokens as f64).round();
        let trained = row.mean(|run| run.tokens).round();
        let seconds = row.mean(|run| run.summary.seconds.training);
        let _ = writeln!(
            text,
            "| {} | {} | {} to {} | {} | {:e} | {} | {} | {seconds:.1} |",
            row.row.name,
            percent(pooled),
            percent(low),
            percent(high),
            each.join(" "),
            row.row.lr,
            count(generated as u64),
            count(trained as u64),
        );
    }
    let _ = writeln!(
        text,
        "\nWhat is held equal, but for the lengths of sampled answers, is the number of tokens \
         trained on: SFT on labels learns from given text and generates 0 tokens, every other row \
         trains on what it generates. Means over {seeds} seeds. The interval pools the answers of \
         all seeds to the test prompts as independent trials: it says how well these students \
         are measured, not how far another seed may lie from them; the column of seeds shows \
         that."
    );
    text
}

pub(crate) fn picture(compared: &[Compared<'_>]) -> Picture {
    Picture {
        title: "pass@1 on validation prompts, mean of the seeds".into(),
        along: "response tokens trained on".into(),
        curves: compared.iter().map(|row| (row.row.name.to_owned(), row.curve())).collect(),
        levels: levels(compared),
    }
}
