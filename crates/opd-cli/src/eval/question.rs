use opd_reward::{Answer, Reward};
use opd_rollout::Sampling;

use crate::model::Model;

/// A prompt and its right answer.
pub(super) struct Question {
    /// Which of the files it is from.
    pub(super) file: usize,
    /// Line or row in its file, from 0, behind those of the files before: what its draws depend on.
    pub(super) index: u64,
    pub(super) prompt: Vec<u32>,
    pub(super) answer: Right,
}

/// Which file a question is from, and how many lines or rows there are before it.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) file: usize,
    pub(super) before: u64,
}

impl Origin {
    /// The question of a line or row, counted from 1.
    pub(super) fn question(self, row: u64, prompt: Vec<u32>, answer: Right) -> Question {
        Question { file: self.file, index: self.before + row - 1, prompt, answer }
    }
}

/// What is right.
pub(super) enum Right {
    Text { prompt: String, label: String, source: String },
    Ids(Vec<u32>),
}

impl Question {
    pub(super) fn is_right(
        &self,
        response: &[u32],
        model: &Model,
        sampling: &Sampling,
        judge: &dyn Reward,
    ) -> anyhow::Result<bool> {
        Ok(match &self.answer {
            Right::Text { prompt, label, source } => {
                let whole = model.tokenizer()?.decode(response)?;
                let response = sampling.read(&whole);
                let label = Some(label.as_str());
                judge.reward(&Answer { prompt, response, label, source })? > 0.5
            }
            Right::Ids(ids) => without_end(response, model) == without_end(ids, model),
        })
    }
}

/// Passes if the model has an embedding for every token and room for an answer.
pub(super) fn check(prompt: &[u32], model: &Model) -> Result<(), String> {
    if prompt.is_empty() {
        return Err("the prompt has no tokens; a model needs at least one".to_owned());
    }
    model.check(prompt)?;
    let context = model.lm.config().context;
    if prompt.len() == context {
        return Err(format!(
            "the prompt fills the model's context of {context} and leaves no room for an answer"
        ));
    }
    Ok(())
}

fn without_end<'a>(ids: &'a [u32], model: &Model) -> &'a [u32] {
    match ids.split_last() {
        Some((last, rest)) if model.lm.config().eos_token_ids.contains(last) => rest,
        _ => ids,
    }
}
