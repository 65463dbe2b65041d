//! Every flag of slime's that the modules beside this one read, and those of the tables.

use crate::slime::table;

/// Flags of slime's that are put into others.
const READ: &[&str] = &[
    "load",
    "save",
    "rollout-seed",
    "num-rollout",
    "num-epoch",
    "global-batch-size",
    "num-steps-per-rollout",
    "over-sampling-batch-size",
    "use-dynamic-batch-size",
    "max-tokens-per-gpu",
    "balance-by-flops",
    "custom-rm-path",
    "custom-reward-post-process-path",
    "disable-grpo-std-normalization",
    "disable-rewards-normalization",
    "use-kl-loss",
    "use-rollout-logprobs",
    "use-tis",
    "custom-tis-function-path",
    "use-opsm",
    "loss-type",
    "calculate-per-token-loss",
    "optimizer",
    "lr-decay-style",
    "lr-warmup-iters",
    "min-lr",
    "wandb-mode",
    "wandb-key",
    "wandb-host",
    "wandb-dir",
    "wandb-run-id",
    "save-debug-rollout-data",
    "dump-details",
];

/// Names that are understood beside our own.
pub(super) fn known() -> impl Iterator<Item = &'static str> {
    READ.iter().copied().chain(table::names())
}
