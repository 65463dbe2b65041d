/// One-sample estimates of `KL(x || y)` from the log-probs of the sampled token.
///
/// With `d = log_x - log_y` (nats). Which gradient an estimator has when it is used as a
/// *loss* is another question: see the documentation of `opd-loss`.
///
/// Source: Schulman, <http://joschu.net/blog/kl-approx.html>; `LowVar` is what verl and
/// slime call `low_var_kl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum KlEstimator {
    /// `d`: unbiased, may be negative.
    #[default]
    K1,
    /// `d^2 / 2`: biased, never negative.
    K2,
    /// `exp(-d) - 1 + d`: unbiased, never negative.
    K3,
    /// `K3` clamped to `[-10, 10]`.
    LowVar,
}

impl KlEstimator {
    /// The estimate, in nats.
    pub fn value(self, log_x: f32, log_y: f32) -> f32 {
        let d = f64::from(log_x) - f64::from(log_y);
        // In f32, `exp(-d) - 1 + d` loses every digit, and its sign, where d is small.
        let k3 = || (-d).exp_m1() + d;
        let estimate = match self {
            Self::K1 => d,
            Self::K2 => d * d / 2.0,
            Self::K3 => k3(),
            Self::LowVar => k3().clamp(-10.0, 10.0),
        };
        estimate as f32
    }
}
