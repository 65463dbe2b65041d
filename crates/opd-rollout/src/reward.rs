use crate::Example;

/// Judges a finished response.
pub trait Reward: Send + Sync {
    /// Reward of `response` (decoded, without special tokens); 1 for right and 0 for wrong
    /// where there is a right answer.
    fn reward(&self, example: &Example, response: &str) -> f32;
}

/// 1 if the response is the label, surrounding white space aside; else 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExactMatch;

impl Reward for ExactMatch {
    fn reward(&self, example: &Example, response: &str) -> f32 {
        match &example.label {
            Some(label) if label.trim() == response.trim() => 1.0,
            _ => 0.0,
        }
    }
}
