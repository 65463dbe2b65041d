use crate::Result;

/// A finished response, and what is known of its prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Text of the prompt; of a conversation, what its last message says.
    pub prompt: &'a str,
    /// What was answered: decoded, without special tokens.
    pub response: &'a str,
    /// The right answer, where there is one.
    pub label: Option<&'a str>,
    /// Where the prompt came from.
    pub source: &'a str,
}

/// Judges finished responses.
pub trait Reward: Send + Sync {
    /// Reward of a response; where there is a right answer, 1 for right, and at most 0.5 for wrong.
    ///
    /// # Errors
    ///
    /// If it cannot be judged: that ends the run, so that a wrong answer is no error.
    fn reward(&self, answer: &Answer<'_>) -> Result<f32>;

    /// Rewards of all responses of a step, in their order.
    ///
    /// # Errors
    ///
    /// As [`Self::reward`].
    fn rewards(&self, answers: &[Answer<'_>]) -> Result<Vec<f32>> {
        answers.iter().map(|answer| self.reward(answer)).collect()
    }
}
