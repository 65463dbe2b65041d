use std::path::Path;

use crate::{
    report::{Evaluation, Who},
    run::StepMetrics,
};

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Models and data are in memory.
    Loaded {
        /// The student's directory.
        student: &'a str,
        /// The teacher's name.
        teacher: Option<&'a str>,
        /// Values in the student's weights.
        parameters: usize,
        /// Values that are trained: all of them, or those of its adapters.
        trained: usize,
    },
    /// The run goes on after this step.
    Resumed {
        /// Completed steps.
        step: u64,
    },
    /// Held-out prompts are about to be answered.
    EvaluationStarted {
        /// By whom.
        who: Who,
        /// How many.
        prompts: usize,
    },
    /// Some of them are.
    EvaluationProgress {
        /// Answers so far.
        done: usize,
        /// Answers in all.
        of: usize,
    },
    /// All of them are.
    Evaluated {
        /// By whom.
        who: Who,
        /// How well.
        evaluation: &'a Evaluation,
    },
    /// A step is complete.
    Step {
        /// Its metrics.
        metrics: &'a StepMetrics,
        /// Steps of the run.
        steps: u64,
    },
    /// A checkpoint is on disk.
    Saved {
        /// Where.
        path: &'a Path,
    },
    /// Something looks wrong.
    Warning {
        /// What, and what to do.
        message: &'a str,
    },
}

/// Follows a run, and may end it.
pub trait Observer {
    /// Called as things happen.
    fn event(&mut self, event: Event<'_>);

    /// Whether the run is to save a checkpoint and leave; asked after every step, and now and then
    /// while prompts are answered.
    fn interrupted(&self) -> bool {
        false
    }
}

/// An observer that looks away.
impl Observer for () {
    fn event(&mut self, _: Event<'_>) {}
}
