//! Names of the metrics that [`crate::report`] knows how to draw.
//!
//! Any other key may be written too; the report shows it among the rest. A key with `/`
//! shares a chart with those of the same part before the `/`.

/// Mean over trained tokens of `old_logprob - teacher_logprob`, nats.
pub const REVERSE_KL: &str = "reverse_kl";
/// Mean entropy of the student over trained tokens, nats.
pub const ENTROPY: &str = "entropy";
/// Mean `exp(student_logprob - old_logprob)` over trained tokens.
pub const RATIO_MEAN: &str = "ratio/mean";
/// Least ratio of the step.
pub const RATIO_MIN: &str = "ratio/min";
/// Greatest ratio of the step.
pub const RATIO_MAX: &str = "ratio/max";
/// Mean `|exp(student_logprob - sampler_logprob) - 1|` over trained tokens of the student's, before the
/// step's first update: what tells the sampler's kernels from those of training.
pub const SAMPLER_ERROR_MEAN: &str = "sampler_error/mean";
/// Greatest of them.
pub const SAMPLER_ERROR_MAX: &str = "sampler_error/max";
/// Mean number of response tokens.
pub const RESPONSE_LENGTH_MEAN: &str = "response_length/mean";
/// Number of tokens of the longest response.
pub const RESPONSE_LENGTH_MAX: &str = "response_length/max";
/// Learning rate of the step's last update.
pub const LEARNING_RATE: &str = "learning_rate";
/// Norm of the gradient before clipping.
pub const GRAD_NORM: &str = "grad_norm";
/// Mean task reward of the step's rollouts.
pub const REWARD: &str = "reward";
/// Loss of the step's last update.
pub const LOSS: &str = "loss";
/// Fraction of response tokens without a teacher's score.
pub const TEACHER_MISSING: &str = "teacher/missing";
/// Fraction of response tokens for which a teacher with another tokenizer has no counterpart.
pub const TEACHER_UNALIGNED: &str = "teacher/unaligned";
/// Mean weight of the trained tokens by `distillation.prefix_ratio`, 0 to 1.
pub const PREFIX_WEIGHT: &str = "teacher/prefix_weight";
/// Fraction, 0 to 1, of held-out prompts answered rightly; only on steps with an evaluation.
pub const PASS_AT_1: &str = "eval/pass_at_1";

/// Prefix of every key whose value depends on the clock: seconds of a phase
/// (`seconds/rollout`) and rates (`seconds/tokens_per_second`).
///
/// What is left without them is bit-identical between runs of one seed.
pub const SECONDS: &str = "seconds/";
/// Seconds of a whole step, which are the sum of its phases and more.
pub const SECONDS_STEP: &str = "seconds/step";
/// Ending of the keys under [`SECONDS`] that are rates and no durations.
pub const PER_SECOND: &str = "_per_second";
