use std::fmt::Write;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use opd_train::{Event, run::key};

use crate::{
    log,
    number::percent,
    progress::{lines::figures, name},
};

const TRAINING: &str = "{prefix:14} {bar:24} {pos}/{len}  {rate}  {eta} left  {wide_msg}";
const EVALUATION: &str = "{prefix:14} {bar:24} {human_pos}/{human_len}  {rate}  {eta} left";

/// A bar for the training, and one for the evaluation that is going on.
pub(super) struct Bars {
    training: Option<ProgressBar>,
    evaluation: Option<ProgressBar>,
    pass_at_1: Option<f64>,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self { training: None, evaluation: None, pass_at_1: None }
    }

    pub(super) fn say(&self, line: &str) {
        log::bars().suspend(|| eprintln!("{line}"));
    }

    pub(super) fn clear(&mut self) {
        for bar in [self.training.take(), self.evaluation.take()].into_iter().flatten() {
            bar.finish_and_clear();
        }
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::EvaluationStarted { who, prompts } => {
                self.evaluation = Some(bar(prompts as u64, EVALUATION, name(who)));
            }
            Event::EvaluationProgress { done, of } if done == of => {
                if let Some(bar) = self.evaluation.take() {
                    bar.finish_and_clear();
                }
            }
            Event::EvaluationProgress { done, of } => {
                let bar = self.evaluation.get_or_insert_with(|| {
                    bar(of as u64, EVALUATION, "validation").with_position(done as u64)
                });
                bar.set_length(of as u64);
                bar.set_position(done as u64);
            }
            Event::Step { metrics, steps } => {
                self.pass_at_1 = metrics.get(key::PASS_AT_1).or(self.pass_at_1);
                let training = self.training.get_or_insert_with(|| {
                    let bar = bar(steps, TRAINING, "training");
                    // Steps of earlier processes are no measure of this one's rate.
                    bar.with_position(metrics.step.saturating_sub(1))
                });
                training.set_position(metrics.step);
                let pass = self
                    .pass_at_1
                    .map_or(String::new(), |pass| format!("  pass@1 {}", percent(pass)));
                training.set_message(format!("{}{pass}", figures(metrics)));
                if metrics.step == steps {
                    self.clear();
                }
            }
            _ => {}
        }
    }
}

/// A bar that is drawn below those that are there.
pub(crate) fn bar(length: u64, template: &str, prefix: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = log::bars().add(ProgressBar::new(length));
    let rate = |state: &ProgressState, to: &mut dyn Write| {
        // A bar that cannot be drawn is no reason to stop.
        let _ = write!(to, "{:.1}/s", state.per_sec());
    };
    bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
    bar.set_prefix(prefix);
    bar
}
