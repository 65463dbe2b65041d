use std::{
    fs,
    path::{Path, PathBuf},
};

use opd_batch::{Author, Finish, Ragged, ScoredBatch};
use opd_models::Tokenizer;
use serde::{Deserialize, Serialize};

use crate::{
    Result,
    run::{Error as RunError, write_atomically},
};

/// Keeps the rollouts of some steps: `rollouts/step-N.jsonl`, one [`DumpedRollout`] a line.
///
/// A file is there whole or not at all, and is on the disk before the metrics of its step are.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutDump {
    dir: PathBuf,
    interval: u64,
}

/// One rollout, with all that was known of it when it was trained on.
///
/// Lists have one entry per response token, but for `prompt_ids`. Log-probs are in nats, at the
/// rollout temperature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DumpedRollout {
    /// The step, from 1.
    pub step: u64,
    /// Place in the batch, from 0.
    pub row: usize,
    /// Rollouts of one prompt share a group, from 0.
    pub group: usize,
    /// Where the prompt came from.
    pub source: String,
    /// Who wrote the response: `student`, `label` or `teacher`.
    pub author: String,
    /// Text of the prompt, without special tokens.
    pub prompt: String,
    /// Text of the response, without special tokens.
    pub response: String,
    /// `eos`; `stop` for a response that ended with a text that ends responses; `length` for one
    /// that reached the token limit.
    pub finish: String,
    /// Task reward, penalties included.
    pub reward: f32,
    /// Token ids of the prompt.
    pub prompt_ids: Vec<u32>,
    /// Token ids of the response.
    pub response_ids: Vec<u32>,
    /// Which tokens are trained on.
    pub mask: Vec<bool>,
    /// What the sampler gave.
    pub sampler_logprobs: Vec<f32>,
    /// The student's before the step's updates.
    pub student_logprobs: Vec<f32>,
    /// The teacher's, `null` where it gave none; absent if it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_logprobs: Option<Vec<Option<f32>>>,
    /// `teacher - student`: the distillation signal before its coefficient; absent or `null`
    /// where the teacher's are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Vec<Option<f32>>>,
    /// What multiplies the policy's gradient: estimator and signal.
    pub advantages: Vec<f32>,
}

impl RolloutDump {
    /// Into `dir`, every `interval` steps; `None` if `interval` is 0.
    pub fn every(interval: u64, dir: impl Into<PathBuf>) -> Option<Self> {
        (interval > 0).then(|| Self { dir: dir.into(), interval })
    }

    /// Writes the file of step `step` (from 1), if it is one to be kept.
    ///
    /// # Errors
    ///
    /// Those of the tokenizer and of the disk.
    pub fn write(
        &self,
        step: u64,
        scored: &ScoredBatch<'_>,
        advantages: &Ragged<f32>,
        tokenizer: &Tokenizer,
    ) -> Result<()> {
        if !step.is_multiple_of(self.interval) {
            return Ok(());
        }
        let mut text = Vec::new();
        for row in 0..scored.rollouts().n_rows() {
            let path = || self.path(step);
            let line = dumped(step, row, scored, advantages, tokenizer)?;
            serde_json::to_writer(&mut text, &line)
                .map_err(|source| RunError::Json { path: path(), source })?;
            text.push(b'\n');
        }
        fs::create_dir_all(&self.dir).map_err(|source| RunError::writing(&self.dir, source))?;
        Ok(write_atomically(&self.path(step), &text)?)
    }

    /// Removes the files of steps behind `last`: they are made anew.
    ///
    /// # Errors
    ///
    /// [`RunError::Io`] or [`RunError::NotWritable`].
    pub fn discard_after(dir: &Path, last: u64) -> Result<()> {
        if !dir.is_dir() {
            return Ok(());
        }
        let entries = fs::read_dir(dir).map_err(|source| RunError::reading(dir, source))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let unfinished = name.to_string_lossy().starts_with('.');
            if unfinished || step_of(&name.to_string_lossy()).is_some_and(|step| step > last) {
                let path = entry.path();
                fs::remove_file(&path).map_err(|source| RunError::writing(&path, source))?;
            }
        }
        Ok(())
    }

    fn path(&self, step: u64) -> PathBuf {
        self.dir.join(format!("step-{step}.jsonl"))
    }
}

fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("step-")?.strip_suffix(".jsonl")?.parse().ok()
}

fn dumped(
    step: u64,
    row: usize,
    scored: &ScoredBatch<'_>,
    advantages: &Ragged<f32>,
    tokenizer: &Tokenizer,
) -> Result<DumpedRollout> {
    let batch = scored.rollouts();
    let prompt_ids = of(batch.prompts(), row);
    let response_ids = of(batch.responses(), row);
    let student_logprobs = of(scored.old_logprobs(), row);
    let teacher_logprobs = scored.teacher().map(|scores| of(&scores.logprobs, row));
    let signal = teacher_logprobs.as_ref().map(|teacher| {
        let pairs = teacher.iter().zip(&student_logprobs);
        pairs.map(|(teacher, student)| teacher.map(|teacher| teacher - student)).collect()
    });
    let author = match batch.authors()[row] {
        Author::Student => "student",
        Author::Label => "label",
        Author::Teacher => "teacher",
    };
    let finish = match batch.finishes()[row] {
        Finish::Eos => "eos",
        Finish::Stop => "stop",
        Finish::Length => "length",
    };
    Ok(DumpedRollout {
        step,
        row,
        group: batch.groups().group_of()[row],
        source: batch.sources()[row].as_str().to_owned(),
        author: author.to_owned(),
        prompt: tokenizer.decode(&prompt_ids)?,
        response: tokenizer.decode(&response_ids)?,
        finish: finish.to_owned(),
        reward: batch.rewards()[row],
        prompt_ids,
        response_ids,
        mask: of(scored.mask(), row),
        sampler_logprobs: of(batch.sampler_logprobs(), row),
        student_logprobs,
        teacher_logprobs,
        signal,
        advantages: of(advantages, row),
    })
}

fn of<T: Clone>(stream: &Ragged<T>, row: usize) -> Vec<T> {
    stream.row(row).unwrap_or_default().to_vec()
}
