use clap::Args;
use opd_train::config::Schedule;
use serde::Serialize;

use crate::{config::choices, flags::positive};

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Optimizer")]
pub(super) struct OptimizerFlags {
    /// Peak learning rate of AdamW
    #[arg(long, value_name = "X", value_parser = positive)]
    lr: Option<f64>,
    /// Updates over which the learning rate rises from 0
    #[arg(long, value_name = "N")]
    lr_warmup: Option<u64>,
    /// The same as a fraction of the schedule
    #[arg(long, value_name = "X")]
    lr_warmup_fraction: Option<f64>,
    /// What the learning rate does after that
    #[arg(long, value_name = "NAME", value_parser = choices::<Schedule>())]
    lr_schedule: Option<Schedule>,
    /// Updates that the schedule spans; the whole run without
    #[arg(long, value_name = "N")]
    lr_decay_iters: Option<u64>,
    /// The schedule ends at this fraction of --lr
    #[arg(long, value_name = "X")]
    min_lr_ratio: Option<f64>,
    /// Decay of AdamW's first moment
    #[arg(long, value_name = "X")]
    adam_beta1: Option<f64>,
    /// Decay of AdamW's second moment
    #[arg(long, value_name = "X")]
    adam_beta2: Option<f64>,
    /// Added to the root of AdamW's second moment
    #[arg(long, value_name = "X", value_parser = positive)]
    adam_eps: Option<f64>,
    /// Decoupled weight decay
    #[arg(long, value_name = "X")]
    weight_decay: Option<f64>,
    /// Scale gradients down to this norm; 0 leaves them as they are
    #[arg(long, value_name = "NORM")]
    clip_grad: Option<f64>,
    /// Updates per step, each on an equal part of the batch
    #[arg(long, value_name = "N")]
    updates_per_batch: Option<usize>,
    /// Tokens of one forward and backward, prompts included; bounds the memory
    #[arg(long, value_name = "TOKENS")]
    token_budget: Option<usize>,
    /// Forwards and backwards side by side, each with gradients of its own: faster for small
    /// models, whose single operations are too short to share among threads
    #[arg(long, value_name = "N")]
    micro_batches_at_once: Option<usize>,
    /// Compute each layer twice and keep less of it; without, where layers would keep more than
    /// 2 GiB
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    activation_checkpointing: Option<bool>,
}
