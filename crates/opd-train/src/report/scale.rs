/// An axis: where values lie between 0 and 1, and where its ticks are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    step: f64,
}

impl Scale {
    /// An axis whose ends are the ends of the data.
    pub(super) fn tight(low: f64, high: f64, ticks: usize) -> Self {
        let (low, high) = widened(low, high);
        Self { low, high, step: nice_step((high - low) / ticks as f64) }
    }

    /// An axis whose ends are ticks just outside the data.
    pub(super) fn nice(low: f64, high: f64, ticks: usize) -> Self {
        let (low, high) = widened(low, high);
        let step = nice_step((high - low) / ticks as f64);
        let slack = 1e-9;
        let low = (low / step + slack).floor() * step;
        let high = (high / step - slack).ceil() * step;
        Self { low, high, step }
    }

    /// Steps that are whole numbers, as for counts.
    pub(super) fn whole(mut self) -> Self {
        self.step = self.step.max(1.0);
        self
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    pub(super) fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Values of the ticks, in order.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step - 1e-9).ceil() as i64;
        let last = (self.high / self.step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * self.step).collect()
    }

    /// A tick as text, with as many decimals as tell it from its neighbours.
    pub(super) fn label(&self, tick: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if tick == 0.0 {
            return "0".to_owned();
        }
        if largest >= 1e6 || self.step < 1e-3 {
            return super::number::scientific(tick);
        }
        let is_whole = |scaled: f64| (scaled - scaled.round()).abs() < 1e-6 * scaled;
        let decimals = (0..6).find(|&n| is_whole(self.step * 10_f64.powi(n))).unwrap_or(6);
        format!("{tick:.*}", decimals as usize)
    }
}

fn widened(low: f64, high: f64) -> (f64, f64) {
    let smallest = 1e-9 * low.abs().max(high.abs()).max(1e-300);
    if high - low > smallest {
        return (low, high);
    }
    let margin = if low == 0.0 { 0.5 } else { 0.1 * low.abs() };
    (low - margin, high + margin)
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below `step`.
fn nice_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|nice| nice * power >= step * 0.999);
    nice.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|tick| scale.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_data() {
        let cases: [(f64, f64, &[&str]); 6] = [
            (0.0, 0.61, &["0", "0.2", "0.4", "0.6", "0.8"]),
            (0.0, 3.1e-4, &["0", "1e-4", "2e-4", "3e-4", "4e-4"]),
            (-1.2, 3.4, &["-2", "0", "2", "4"]),
            (0.76, 0.95, &["0.75", "0.80", "0.85", "0.90", "0.95"]),
            (1.0, 1.0, &["0.90", "0.95", "1.00", "1.05", "1.10"]),
            (0.0, 0.0, &["-0.50", "-0.25", "0", "0.25", "0.50"]),
        ];
        for (low, high, expected) in cases {
            let scale = Scale::nice(low, high, 4);
            assert_eq!(labels(&scale), expected, "{low} to {high}");
            assert!(scale.low <= low + 1e-12 && high <= scale.high + 1e-12);
        }
    }

    #[test]
    fn steps_of_training_are_whole() {
        assert_eq!(labels(&Scale::tight(1.0, 3.0, 6).whole()), ["1", "2", "3"]);
        assert_eq!(
            labels(&Scale::tight(1.0, 60.0, 6).whole()),
            ["10", "20", "30", "40", "50", "60"]
        );
    }
}
