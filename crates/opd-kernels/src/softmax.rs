use crate::{Error, Result};

/// How logits become probabilities: `softmax(cap(logits) / temperature)`.
///
/// ```text
/// cap(x) = soft_cap tanh(x / soft_cap), or x without one
/// ```
///
/// A number is a temperature without a cap. A logit of negative infinity stays a token that cannot
/// occur, whatever the cap: masks of logits keep their meaning.
///
/// Source of the cap: Gemma 2, <https://arxiv.org/abs/2408.00118>, section 2; transformers'
/// `final_logit_softcapping` is applied by the model, and so before a sampler's temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax {
    /// Logits are divided by this; above 0.
    pub temperature: f64,
    /// The bound that logits approach; above 0. Gemma 2 has 30.
    pub soft_cap: Option<f64>,
}

impl Default for Softmax {
    /// Of the logits as they are.
    fn default() -> Self {
        Self { temperature: 1.0, soft_cap: None }
    }
}

impl From<f64> for Softmax {
    fn from(temperature: f64) -> Self {
        Self { temperature, soft_cap: None }
    }
}

impl Softmax {
    /// Passes if both numbers are finite and above 0.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        let settings = [("temperature", Some(self.temperature)), ("soft_cap", self.soft_cap)];
        let wrong = |value: &f64| !(value.is_finite() && *value > 0.0);
        match settings.into_iter().find_map(|(what, value)| Some((what, value.filter(wrong)?))) {
            None => Ok(()),
            Some((what, got)) => {
                Err(Error::Setting { op, what, expected: "a finite number above 0", got })
            }
        }
    }
}
