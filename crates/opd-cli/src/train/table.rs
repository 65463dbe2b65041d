use std::{fmt::Write, path::Path};

use opd_train::run::Summary;

use crate::number::{count, duration, percent};

/// What a run came to: the table before / after / teacher, the directory, the seconds.
pub(super) fn table(summary: &Summary, run: &Path) -> String {
    let (fractions, intervals) = (summary.pass_at_1, summary.interval);
    let rows = [
        ("student before", fractions.before, intervals.before),
        ("student after", fractions.after, intervals.after),
        ("teacher", fractions.teacher, intervals.teacher),
    ];
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    if rows.iter().any(|(_, fraction, _)| fraction.is_some()) {
        let prompts = count(summary.eval_prompts);
        let _ = writeln!(text, "{:16}{:>8}   95% interval", "", "pass@1");
        for (name, fraction, interval) in rows {
            let Some(fraction) = fraction else { continue };
            let interval = interval.map_or(String::new(), |bounds| {
                let [low, high] = bounds.map(percent);
                format!("   {low} to {high}")
            });
            let _ = writeln!(text, "{name:16}{:>8}{interval}", percent(fraction));
        }
        let _ = writeln!(text, "on {prompts} held-out prompts\n");
    }
    let seconds = summary.seconds;
    let _ = writeln!(text, "run directory   {} (report.html, model/)", run.display());
    let _ = writeln!(
        text,
        "time            {} of training, {} in all; {} tokens generated in {} steps",
        duration(seconds.training),
        duration(seconds.total),
        count(summary.generated_tokens),
        count(summary.steps),
    );
    text
}

#[cfg(test)]
mod tests {
    use opd_train::run::{Intervals, PassAt1, Seconds};

    use super::*;

    #[test]
    fn rows_that_were_not_evaluated_are_left_out() {
        let summary = Summary {
            pass_at_1: PassAt1 { before: Some(0.763), after: Some(0.9481), teacher: None },
            interval: Intervals {
                before: Some([0.7546, 0.7712]),
                after: Some([0.9436, 0.9523]),
                teacher: None,
            },
            seconds: Seconds { training: 41.25, total: 130.0 },
            generated_tokens: 921_600,
            seed: 0,
            steps: 400,
            eval_prompts: 10_000,
        };
        let expected = "                  pass@1   95% interval
student before    76.30%   75.46% to 77.12%
student after     94.81%   94.36% to 95.23%
on 10,000 held-out prompts

run directory   runs/pocket-1 (report.html, model/)
time            41.2 s of training, 2 min 10 s in all; 921,600 tokens generated in 400 steps
";
        assert_eq!(table(&summary, Path::new("runs/pocket-1")), expected);
    }
}
