use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

/// Without any of them all weights are trained.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "LoRA")]
pub(super) struct LoraFlags {
    /// Train adapters of this rank instead of the weights
    #[arg(long, value_name = "N")]
    lora_rank: Option<usize>,
    /// An adapter's product is multiplied by this over the rank; 32 without
    #[arg(long, value_name = "X")]
    lora_alpha: Option<f64>,
    /// Layers that have an adapter: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj,
    /// down_proj, or all-linear for all, as without
    #[arg(long, value_name = "NAMES", value_delimiter = ',', num_args = 1..)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lora_target_modules: Vec<String>,
    /// Divide alpha by the root of the rank (rsLoRA)
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    lora_rslora: Option<bool>,
    /// Start from the adapters of this directory, in the format of peft
    #[arg(long, value_name = "DIR")]
    lora_adapter: Option<PathBuf>,
}
