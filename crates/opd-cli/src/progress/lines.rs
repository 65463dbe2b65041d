use std::time::{Duration, Instant};

use opd_train::{
    Event,
    run::{StepMetrics, key},
};

use crate::{
    number::{count, duration, percent},
    progress::name,
};

/// Steps between lines, unless they take long.
const STEPS: u64 = 10;

/// Time between lines where steps take long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Plain lines, few enough for a log file.
pub(super) struct Lines {
    /// When the first step of this process was complete, and which it was.
    first: Option<(Instant, u64)>,
    /// When the last line about a step was written.
    last: Option<Instant>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { first: None, last: None }
    }

    pub(super) fn event(&mut self, event: Event<'_>) -> Option<String> {
        match event {
            Event::EvaluationStarted { who, prompts } => {
                Some(format!("{}: answering {} prompts", name(who), count(prompts as u64)))
            }
            Event::Step { metrics, steps } => self.step(metrics, steps, Instant::now()),
            _ => None,
        }
    }

    fn step(&mut self, metrics: &StepMetrics, steps: u64, now: Instant) -> Option<String> {
        let step = metrics.step;
        let (began, first) = *self.first.get_or_insert((now, step));
        let pass_at_1 = metrics.get(key::PASS_AT_1);
        let due = self
            .last
            .is_none_or(|then| step.is_multiple_of(STEPS) || now.duration_since(then) >= PATIENCE);
        if !(due || pass_at_1.is_some() || step == steps) {
            return None;
        }
        self.last = Some(now);
        let width = steps.to_string().len();
        let mut line = format!("step {step:width$}/{steps}  {}", figures(metrics));
        if let Some(pass) = pass_at_1 {
            line += &format!("  pass@1 {}", percent(pass));
        }
        let done = step.saturating_sub(first);
        if done > 0 && step < steps {
            let per_step = now.duration_since(began).as_secs_f64() / done as f64;
            line += &format!("  {} left", duration(per_step * (steps - step) as f64));
        }
        Some(line)
    }
}

/// The numbers of a step that tell how it goes; those that are not known are left out.
pub(super) fn figures(metrics: &StepMetrics) -> String {
    let rate = format!("{}tokens{}", key::SECONDS, key::PER_SECOND);
    let figures = [
        metrics.get(key::REVERSE_KL).map(|kl| format!("reverse KL {kl:.4}")),
        metrics.get(key::ENTROPY).map(|entropy| format!("entropy {entropy:.4}")),
        metrics.get(key::RESPONSE_LENGTH_MEAN).map(|length| format!("length {length:.1}")),
        metrics.get(key::LEARNING_RATE).map(|lr| format!("lr {lr:.1e}")),
        metrics.get(&rate).map(|rate| format!("{} tokens/s", count(rate.max(0.0) as u64))),
    ];
    figures.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_every_ten_steps_and_at_each_evaluation() {
        let (mut lines, start) = (Lines::new(), Instant::now());
        let mut shown = Vec::new();
        for step in 1..=40 {
            let mut metrics = StepMetrics::new(step).with(key::REVERSE_KL, 0.25);
            if step == 15 {
                metrics = metrics.with(key::PASS_AT_1, 0.5);
            }
            let now = start + Duration::from_millis(100 * step);
            shown.extend(lines.step(&metrics, 40, now));
        }
        let steps = shown.iter().map(|line| line.split('/').next().unwrap());
        let steps: Vec<_> = steps.collect();
        assert_eq!(steps, ["step  1", "step 10", "step 15", "step 20", "step 30", "step 40"]);
        assert_eq!(shown[2], "step 15/40  reverse KL 0.2500  pass@1 50.00%  2.5 s left");
    }

    #[test]
    fn slow_steps_have_a_line_each() {
        let (mut lines, start) = (Lines::new(), Instant::now());
        let shown = (1..=4).filter_map(|step| {
            lines.step(&StepMetrics::new(step), 40, start + PATIENCE * step as u32)
        });
        assert_eq!(shown.count(), 4);
    }
}
