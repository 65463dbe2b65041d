use crate::{
    Author, Error, Finish, Groups, Ragged, Result, Rollout, Rows, Source, logprob::check_row,
};

/// Rollouts packed into streams that share their rows; checked once, trusted everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutBatch {
    prompts: Ragged<u32>,
    teacher_prompts: Option<Ragged<u32>>,
    responses: Ragged<u32>,
    sampler_logprobs: Ragged<f32>,
    truncated_logprobs: Option<Ragged<f32>>,
    loss_mask: Ragged<bool>,
    rewards: Vec<f32>,
    groups: Groups,
    sources: Vec<Source>,
    finishes: Vec<Finish>,
    authors: Vec<Author>,
}

impl RolloutBatch {
    /// Packs and checks rollouts.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyBatch`], [`Error::EmptySequence`], [`Error::RolloutLength`],
    /// [`Error::NotFinite`] or [`Error::PositiveLogprob`], each naming the rollout.
    pub fn from_rollouts(rollouts: Vec<Rollout>) -> Result<Self> {
        if rollouts.is_empty() {
            return Err(Error::EmptyBatch);
        }
        for (row, rollout) in rollouts.iter().enumerate() {
            check(row, rollout)?;
        }
        let truncated = rollouts.iter().any(|rollout| rollout.truncated_logprobs.is_some());
        let ids: Vec<u32> = rollouts.iter().map(|rollout| rollout.group).collect();
        let rewards = rollouts.iter().map(|rollout| rollout.reward).collect();
        let finishes = rollouts.iter().map(|rollout| rollout.finish).collect();
        let sources = rollouts.iter().map(|rollout| rollout.source.clone()).collect();
        let authors = rollouts.iter().map(|rollout| rollout.author).collect();

        let privileged = rollouts.iter().any(|rollout| rollout.teacher_prompt.is_some());
        let mut prompts = Vec::new();
        let mut teacher_prompts = Vec::new();
        let mut responses = Vec::new();
        let mut sampler = Vec::new();
        let mut truncated_rows = Vec::new();
        let mut masks = Vec::new();
        for rollout in rollouts {
            masks.push(rollout.loss_mask.unwrap_or_else(|| vec![true; rollout.response.len()]));
            if truncated {
                let full = || rollout.sampler_logprobs.clone();
                truncated_rows.push(rollout.truncated_logprobs.unwrap_or_else(full));
            }
            if privileged {
                let own = || rollout.prompt.clone();
                teacher_prompts.push(rollout.teacher_prompt.unwrap_or_else(own));
            }
            prompts.push(rollout.prompt);
            responses.push(rollout.response);
            sampler.push(rollout.sampler_logprobs);
        }
        Ok(Self {
            prompts: Ragged::from_rows(prompts),
            teacher_prompts: privileged.then(|| Ragged::from_rows(teacher_prompts)),
            responses: Ragged::from_rows(responses),
            sampler_logprobs: Ragged::from_rows(sampler),
            truncated_logprobs: truncated.then(|| Ragged::from_rows(truncated_rows)),
            loss_mask: Ragged::from_rows(masks),
            rewards,
            groups: Groups::from_ids(&ids),
            sources,
            finishes,
            authors,
        })
    }

    /// Number of rollouts.
    pub fn n_rows(&self) -> usize {
        self.rewards.len()
    }

    /// Row boundaries of every per-response-token stream.
    pub fn rows(&self) -> &Rows {
        self.responses.rows()
    }

    /// Prompt token ids; these have rows of their own.
    pub fn prompts(&self) -> &Ragged<u32> {
        &self.prompts
    }

    /// Prompt token ids that the teacher sees: the same, unless rollouts say otherwise.
    pub fn teacher_prompts(&self) -> &Ragged<u32> {
        self.teacher_prompts.as_ref().unwrap_or(&self.prompts)
    }

    /// Response token ids.
    pub fn responses(&self) -> &Ragged<u32> {
        &self.responses
    }

    /// Log-probs (nats) of the full softmax at the rollout temperature.
    pub fn sampler_logprobs(&self) -> &Ragged<f32> {
        &self.sampler_logprobs
    }

    /// Log-probs (nats) of what was really drawn from, if top-k or top-p cut anything.
    pub fn truncated_logprobs(&self) -> Option<&Ragged<f32>> {
        self.truncated_logprobs.as_ref()
    }

    /// Which response tokens are trained on.
    pub fn loss_mask(&self) -> &Ragged<bool> {
        &self.loss_mask
    }

    /// Task reward of each rollout.
    pub fn rewards(&self) -> &[f32] {
        &self.rewards
    }

    /// Which rollouts answer the same prompt.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Where each prompt came from.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Why sampling of each response ended.
    pub fn finishes(&self) -> &[Finish] {
        &self.finishes
    }

    /// Who wrote each response.
    pub fn authors(&self) -> &[Author] {
        &self.authors
    }
}

fn check(row: usize, rollout: &Rollout) -> Result<()> {
    for (what, tokens) in [("prompt", &rollout.prompt), ("response", &rollout.response)] {
        if tokens.is_empty() {
            return Err(Error::EmptySequence { what, row });
        }
    }
    if rollout.teacher_prompt.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::EmptySequence { what: "teacher_prompt", row });
    }
    if !rollout.reward.is_finite() {
        return Err(Error::NotFinite { what: "reward", row, token: 0, value: rollout.reward });
    }
    let expected = rollout.response.len();
    let length = |what, got| {
        if got == expected {
            Ok(())
        } else {
            Err(Error::RolloutLength { what, row, expected, got })
        }
    };
    if let Some(mask) = &rollout.loss_mask {
        length("loss_mask", mask.len())?;
    }
    let truncated = rollout.truncated_logprobs.as_ref();
    let streams =
        [("sampler_logprobs", Some(&rollout.sampler_logprobs)), ("truncated_logprobs", truncated)];
    for (what, logprobs) in streams {
        let Some(logprobs) = logprobs else { continue };
        length(what, logprobs.len())?;
        check_row(what, row, logprobs.iter().copied().map(Some))?;
    }
    Ok(())
}
