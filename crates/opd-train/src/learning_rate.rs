use std::f64::consts::PI;

use crate::config::{OptimizerConfig, Schedule};

/// The learning rate of each optimizer update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    peak: f64,
    floor: f64,
    warmup: u64,
    updates: u64,
    schedule: Schedule,
}

impl LearningRate {
    /// The schedule of a run of `updates` optimizer updates, or of as many as it is to span.
    pub fn new(config: &OptimizerConfig, updates: u64) -> Self {
        let updates = config.decay_updates.unwrap_or(updates);
        let warmup = match config.warmup_fraction {
            0.0 => config.warmup,
            fraction => (fraction * updates as f64).round() as u64,
        };
        Self {
            peak: config.lr,
            floor: config.lr * config.min_lr_ratio,
            warmup,
            updates,
            schedule: config.schedule,
        }
    }

    /// Learning rate of update `update`, from 0.
    ///
    /// It rises in a straight line over the warm-up, reaching the peak with the last update of
    /// it, then follows the schedule down to `min_lr_ratio` of the peak at the last update.
    ///
    /// ```text
    /// linear: peak + (floor - peak) x,   cosine: floor + (peak - floor) (1 + cos(pi x)) / 2
    /// ```
    pub fn at(&self, update: u64) -> f64 {
        if update < self.warmup {
            return self.peak * (update + 1) as f64 / self.warmup as f64;
        }
        let rest = self.updates.saturating_sub(self.warmup + 1).max(1);
        let x = ((update - self.warmup) as f64 / rest as f64).min(1.0);
        match self.schedule {
            Schedule::Constant => self.peak,
            Schedule::Linear => self.peak + (self.floor - self.peak) * x,
            Schedule::Cosine => {
                self.floor + (self.peak - self.floor) * (1.0 + (PI * x).cos()) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(schedule: Schedule) -> Vec<f64> {
        let config = OptimizerConfig {
            lr: 2.0,
            warmup: 2,
            schedule,
            min_lr_ratio: 0.1,
            ..OptimizerConfig::default()
        };
        let rate = LearningRate::new(&config, 7);
        (0..7).map(|update| (rate.at(update) * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn a_fraction_is_of_what_the_schedule_spans_and_the_end_stays() {
        let config = OptimizerConfig {
            lr: 2.0,
            warmup_fraction: 0.25,
            decay_updates: Some(8),
            schedule: Schedule::Linear,
            min_lr_ratio: 0.5,
            ..OptimizerConfig::default()
        };
        let rate = LearningRate::new(&config, 1000);
        let rates: Vec<f64> = (0..10).map(|update| rate.at(update)).collect();
        assert_eq!(rates, [1.0, 2.0, 2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 1.0, 1.0]);
        let whole = LearningRate::new(&OptimizerConfig { decay_updates: None, ..config }, 8);
        assert_eq!(whole, rate);
    }

    #[test]
    fn schedules_start_at_the_peak_and_end_at_the_floor() {
        assert_eq!(rates(Schedule::Constant), [1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        assert_eq!(rates(Schedule::Linear), [1.0, 2.0, 2.0, 1.55, 1.1, 0.65, 0.2]);
        assert_eq!(rates(Schedule::Cosine), [1.0, 2.0, 2.0, 1.736396, 1.1, 0.463604, 0.2]);
    }
}
