use std::collections::VecDeque;

use crate::{
    config::{StopAction, StopConfig},
    run::{StepMetrics, key},
};

/// Under this the reverse KL is too small to speak of an explosion, in nats.
const SMALL_KL: f64 = 0.1;

/// Compares the last steps of a run with its first.
#[derive(Clone, Debug)]
pub(crate) struct StopRules {
    config: StopConfig,
    first: Vec<StepMetrics>,
    last: VecDeque<StepMetrics>,
    fired: Vec<&'static str>,
}

impl StopRules {
    pub(crate) fn new(config: StopConfig) -> Self {
        Self { config, first: Vec::new(), last: VecDeque::new(), fired: Vec::new() }
    }

    /// Takes in a step; returns what each rule that now fires for the first time has to say.
    pub(crate) fn observe(&mut self, metrics: &StepMetrics) -> Vec<String> {
        let window = self.config.window.max(1);
        if self.config.action == StopAction::Off || metrics.step == 0 {
            return Vec::new();
        }
        if self.first.len() < window {
            self.first.push(metrics.clone());
        }
        self.last.push_back(metrics.clone());
        if self.last.len() > window {
            self.last.pop_front();
        }
        let mut fired = Vec::new();
        if self.last.len() == window && metrics.step > window as u64 {
            fired.extend(self.drifts());
        }
        fired.retain(|(rule, _)| !self.fired.contains(rule));
        self.fired.extend(fired.iter().map(|(rule, _)| *rule));
        fired.into_iter().map(|(rule, what)| format!("{rule}: {what}")).collect()
    }

    fn drifts(&self) -> Vec<(&'static str, String)> {
        let config = &self.config;
        let mut fired = Vec::new();
        let kl = self.means(key::REVERSE_KL);
        if let Some((start, now)) = kl
            && now > SMALL_KL
            && now > start * config.kl_explosion
        {
            fired.push((
                "kl_explosion",
                format!(
                    "reverse KL rose from {start:.3} to {now:.3} nats; lower the learning rate"
                ),
            ));
        }
        if let Some((start, now)) = self.means(key::ENTROPY)
            && now < start * config.entropy_collapse
            && kl.is_none_or(|(start, now)| now > start)
        {
            fired.push(("entropy_collapse", format!(
                "entropy fell from {start:.3} to {now:.3} nats while the reverse KL did not fall; lower the learning rate or add an entropy bonus"
            )));
        }
        if let Some((start, now)) = self.means(key::RESPONSE_LENGTH_MEAN)
            && (now * config.length_collapse < start || now > start * config.length_collapse)
        {
            fired.push(("length_collapse", format!(
                "mean response length went from {start:.1} to {now:.1} tokens; look at the samples"
            )));
        }
        fired
    }

    fn means(&self, key: &str) -> Option<(f64, f64)> {
        let mean = |steps: &mut dyn Iterator<Item = &StepMetrics>| {
            let values: Option<Vec<f64>> = steps.map(|step| step.get(key)).collect();
            values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / v.len() as f64)
        };
        Some((mean(&mut self.first.iter())?, mean(&mut self.last.iter())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> StopRules {
        StopRules::new(StopConfig { window: 2, ..StopConfig::default() })
    }

    fn run(key: &str, values: &[f64]) -> Vec<String> {
        let mut rules = rules();
        let steps =
            values.iter().zip(1..).map(|(&value, step)| StepMetrics::new(step).with(key, value));
        steps.flat_map(|metrics| rules.observe(&metrics)).collect()
    }

    #[test]
    fn each_rule_fires_once_when_its_mean_leaves_the_start() {
        assert_eq!(run(key::REVERSE_KL, &[0.2, 0.2, 0.3, 0.4, 0.2]), [""; 0]);
        let fired = run(key::REVERSE_KL, &[0.2, 0.2, 1.0, 3.0, 3.0, 3.0]);
        assert_eq!(
            fired,
            ["kl_explosion: reverse KL rose from 0.200 to 2.000 nats; lower the learning rate"]
        );
        assert_eq!(run(key::REVERSE_KL, &[0.001, 0.001, 0.05, 0.05]), [""; 0]);
        assert_eq!(run(key::ENTROPY, &[1.0, 1.0, 0.05, 0.05]).len(), 1);
        assert_eq!(run(key::RESPONSE_LENGTH_MEAN, &[8.0, 8.0, 1.0, 1.0]).len(), 1);
        assert_eq!(run(key::RESPONSE_LENGTH_MEAN, &[8.0, 8.0, 80.0, 80.0]).len(), 1);
    }

    #[test]
    fn falling_entropy_is_no_collapse_while_the_student_nears_the_teacher() {
        let mut rules = rules();
        for (step, (entropy, kl)) in (1..).zip([(1.0, 0.5), (1.0, 0.5), (0.05, 0.1), (0.05, 0.1)]) {
            let metrics =
                StepMetrics::new(step).with(key::ENTROPY, entropy).with(key::REVERSE_KL, kl);
            assert_eq!(rules.observe(&metrics), [""; 0]);
        }
    }
}
