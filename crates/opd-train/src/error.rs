use std::path::PathBuf;

/// Why a run cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),

    /// The run's directory.
    #[error(transparent)]
    Run(#[from] crate::run::Error),

    /// A model.
    #[error(transparent)]
    Model(#[from] opd_models::Error),

    /// Prompt files.
    #[error(transparent)]
    Data(#[from] opd_data::Error),

    /// Sampling.
    #[error(transparent)]
    Rollout(#[from] opd_rollout::Error),

    /// A judge of responses.
    #[error(transparent)]
    Reward(#[from] opd_reward::Error),

    /// A batch or the teacher's answer.
    #[error(transparent)]
    Batch(#[from] opd_batch::Error),

    /// An estimator.
    #[error(transparent)]
    Advantage(#[from] opd_advantage::Error),

    /// A loss or objective.
    #[error(transparent)]
    Loss(#[from] opd_loss::Error),

    /// The teacher's set-up.
    #[error(transparent)]
    Teacher(#[from] opd_teacher::Error),

    /// A kernel.
    #[error(transparent)]
    Kernel(#[from] opd_kernels::Error),

    /// candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// Training went wrong at a step; nothing of that step was kept.
    #[error("step {step}, {phase}: stopped before the weights were changed")]
    Step {
        /// The step, from 1.
        step: u64,
        /// `rollout`, `score`, `update`, ..
        phase: &'static str,
        /// What was found.
        #[source]
        source: Box<Self>,
    },

    /// Weights that are NaN or infinite are behind another error.
    #[error("the weights of `{name}` are not finite: they are damaged, or training diverged")]
    Weights {
        /// The parameter.
        name: String,
        /// How it showed.
        #[source]
        source: Box<Self>,
    },

    /// The observer asked to leave while prompts were being answered.
    #[error("interrupted during an evaluation")]
    Interrupted,

    /// Too many tokens without a teacher's score.
    #[error(
        "{missing} of {tokens} response tokens ({:.1}%) have no score by the teacher, and distillation.max_missing allows {:.1}%; look at the teacher's server, then go on with --resume (or raise --opd-missing-max)",
        100.0 * *missing as f64 / *tokens as f64,
        100.0 * limit
    )]
    MissingScores {
        /// Tokens without a score.
        missing: usize,
        /// Response tokens of the batch.
        tokens: usize,
        /// `distillation.max_missing`.
        limit: f64,
    },

    /// A key for a teacher's server.
    #[error(transparent)]
    Http(#[from] opd_http::Error),

    /// A stop rule fired.
    #[error("step {step}: {what}; the run is stopped because stop.action is `stop`")]
    Stopped {
        /// The step, from 1.
        step: u64,
        /// Which rule, and the numbers.
        what: String,
    },

    /// A prompt whose label is to be learned from has none.
    #[error(
        "the prompt {prompt:?} has no label, and `rollout.responses = \"label\"` learns from labels; give it one in the prompt file (see --label-key), or use --responses student"
    )]
    NoLabel {
        /// The prompt's text.
        prompt: String,
    },

    /// A checkpoint's own file is unusable.
    #[error("{}: {what}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl Error {
    /// Says at which step and phase an error arose.
    pub(crate) fn at(step: u64, phase: &'static str) -> impl Fn(Self) -> Self {
        move |source| Self::Step { step, phase, source: Box::new(source) }
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
