use opd_batch::Source;

use crate::Turn;

/// A prompt and what is known of its answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// The prompt's text; of a conversation, what its last message says.
    pub prompt: String,
    /// The right answer, where there is one.
    pub label: Option<String>,
    /// What the teacher is asked instead, where it is told more.
    pub teacher_prompt: Option<String>,
    /// Where the prompt came from.
    pub source: Source,
    /// The conversation that a chat template is to write, for a prompt that is a list of messages.
    pub turns: Vec<Turn>,
    /// Tools that the chat template is given: a JSON list.
    pub tools: Option<String>,
}
