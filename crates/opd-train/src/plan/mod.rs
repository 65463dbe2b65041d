//! What a run takes of memory, from its settings and the models' `config.json` alone.

mod models;
mod phases;

use std::ops::Range;

use opd_models::Checkpointing;

use self::{models::Models, phases::Phases};
use crate::{Result, config::TrainConfig};

/// What settings do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Threads that compute.
    pub threads: usize,
}

/// Something that takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// Bytes of it.
    pub bytes: u64,
}

/// An estimate of what a run takes of memory: what is held from the first update on, and what
/// each phase of a step adds to it.
///
/// ```text
/// peak = held + largest phase
/// ```
///
/// Prompts are taken to have the assumed length and responses to reach the limit. In bytes;
/// `benches/plan.py` prints estimates beside measured peaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is held through all phases.
    pub held: Vec<Part>,
    /// Generation: keys and values, logits of running sequences.
    pub rollout: Vec<Part>,
    /// Scores of teacher, start policy and student.
    pub score: Vec<Part>,
    /// Forward and backward.
    pub update: Vec<Part>,
    /// Tokens of the largest micro-batch.
    pub micro_batch: usize,
    /// Tokens of an update, shared prompts counted once.
    pub batch: usize,
    /// Whether layers are computed twice.
    pub checkpointing: Checkpointing,
}

impl Plan {
    /// The plan of a run with these settings.
    ///
    /// # Errors
    ///
    /// If a model's `config.json` cannot be read.
    pub fn new(config: &TrainConfig, assumed: Assumed) -> Result<Self> {
        let models = Models::read(config)?;
        let phases = Phases { config, assumed, models: &models };
        Ok(phases.plan(config.optimizer.token_budget))
    }

    /// The plan with the largest token budget whose peak is at most `memory` bytes; `None` if
    /// not even one sequence fits. Where all of an update fits, that is the budget.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn largest(config: &TrainConfig, assumed: Assumed, memory: u64) -> Result<Option<Self>> {
        let models = Models::read(config)?;
        let phases = Phases { config, assumed, models: &models };
        let whole = phases.plan(usize::MAX).batch;
        // A larger budget takes more, but for the one from which on layers are computed twice.
        let turn = first(1..whole + 1, |budget| {
            phases.plan(budget).checkpointing == Checkpointing::PerLayer
        });
        for budgets in [turn..whole + 1, 1..turn] {
            let start = budgets.start;
            let over = first(budgets, |budget| phases.plan(budget).peak() > memory);
            if over > start {
                return Ok(Some(phases.plan(over - 1)));
            }
        }
        Ok(None)
    }

    /// Bytes of the fullest moment.
    pub fn peak(&self) -> u64 {
        let phases = [&self.rollout, &self.score, &self.update];
        sum(&self.held) + phases.into_iter().map(|phase| sum(phase)).max().unwrap_or(0)
    }
}

fn sum(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.bytes).sum()
}

/// The first number of `range` from which on `holds` does; its end if it never does.
fn first(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end.max(range.start));
    while low < high {
        let middle = low + (high - low) / 2;
        match holds(middle) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    low
}
