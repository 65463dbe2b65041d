//! What is compared: one entry per objective, as changes to the default job.

use opd_train::config::{EstimatorKind, LossKind, OldLogprobs, ResponseSource, TrainConfig};

/// An objective of the comparison.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Names its runs' directories, and the row on the command line.
    pub(crate) slug: &'static str,
    /// In the table.
    pub(crate) name: &'static str,
    /// Peak learning rate.
    pub(crate) lr: f64,
    /// What it changes of the default job.
    pub(crate) change: fn(&mut TrainConfig),
}

/// Every row, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    Row {
        slug: "sft",
        name: "SFT on labels",
        lr: 5e-4,
        change: |config| {
            labels(config);
            config.objective.loss = LossKind::Sft;
        },
    },
    Row {
        slug: "seq-kd",
        name: "seq-KD: SFT on the teacher's samples",
        lr: 5e-4,
        change: |config| {
            config.rollout.responses = ResponseSource::Teacher;
            config.objective.loss = LossKind::Sft;
        },
    },
    Row {
        slug: "gkd-0",
        name: "GKD beta 0: forward KL",
        lr: 5e-4,
        change: |config| jsd(config, 0.0),
    },
    Row { slug: "gkd-0.5", name: "GKD beta 0.5", lr: 5e-4, change: |config| jsd(config, 0.5) },
    Row {
        slug: "gkd-1",
        name: "GKD beta 1: reverse KL, whole vocabulary",
        lr: 5e-4,
        change: |config| jsd(config, 1.0),
    },
    Row {
        slug: "minillm",
        name: "MiniLLM",
        lr: 5e-4,
        change: |config| {
            config.objective.loss = LossKind::MiniLlm;
            config.rollout.teacher_mixed_alpha = 0.2;
            config.objective.old_logprobs = OldLogprobs::Recompute;
        },
    },
    Row { slug: "opd", name: "reverse KL, sampled (OPD)", lr: 5e-4, change: |_| {} },
    Row {
        slug: "opd-grpo",
        name: "OPD + GRPO",
        lr: 5e-4,
        change: |config| config.objective.estimator = EstimatorKind::Grpo,
    },
    Row {
        slug: "opd-ppo",
        name: "OPD + PPO",
        lr: 5e-4,
        change: |config| {
            config.objective.estimator = EstimatorKind::Ppo;
            config.objective.critic.lr = Some(1e-3);
        },
    },
    Row {
        slug: "grpo",
        name: "GRPO alone",
        lr: 5e-4,
        change: |config| {
            config.distillation = None;
            config.objective.estimator = EstimatorKind::Grpo;
            config.objective.loss = LossKind::PpoClip;
        },
    },
];

/// As many response tokens a step as the other rows have: one label for each of as many prompts
/// as they sample responses.
fn labels(config: &mut TrainConfig) {
    config.rollout.responses = ResponseSource::Label;
    config.rollout.prompts *= config.rollout.samples_per_prompt;
    config.rollout.samples_per_prompt = 1;
}

/// The generalised Jensen-Shannon divergence on the student's own samples.
fn jsd(config: &mut TrainConfig, beta: f64) {
    config.objective.loss = LossKind::Jsd;
    config.objective.jsd_beta = beta;
}
