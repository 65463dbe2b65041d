use super::{
    final_answer::{AnswerForm, of_label},
    same::same_answer,
};
use crate::{Answer, Result, Reward};

/// Whether the answer that a response names is the label's.
///
/// The label may be an answer, or a solution with a `\boxed{..}` or `#### ..` of its own.
///
/// | slime | form | wrong |
/// |---|---|---|
/// | `math` | [`AnswerForm::Boxed`] | 0 |
/// | `deepscaler` | [`AnswerForm::BoxedAfterThinking`] | 0 |
/// | `dapo` | [`AnswerForm::AnswerLine`] | -1 |
/// | (GSM8K, as verl has it) | [`AnswerForm::Hashes`] | 0 |
///
/// ```
/// use opd_reward::{Answer, MathAnswer, Reward};
///
/// let answer = Answer { response: r"Half: \boxed{\frac12}", label: Some("0.5"), ..Answer::default() };
/// assert_eq!(MathAnswer::default().reward(&answer).unwrap(), 1.0);
/// ```
///
/// Source: slime's `rm_hub` (commit 624b824a8) for where an answer is looked for; how answers are
/// compared is [`same_answer`]'s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MathAnswer {
    /// Where the response names its answer.
    pub form: AnswerForm,
    /// Reward of a wrong or missing answer; that of a right one is 1.
    pub wrong: f32,
}

impl Reward for MathAnswer {
    fn reward(&self, answer: &Answer<'_>) -> Result<f32> {
        let given = self.form.find(answer.response);
        let right = match (given, answer.label) {
            (Some(given), Some(label)) => same_answer(given, of_label(label)),
            _ => false,
        };
        Ok(if right { 1.0 } else { self.wrong })
    }
}
