use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Supervised fine-tuning, mixed into any loss")]
pub(super) struct SftFlags {
    /// Weight of the cross-entropy of labels; 0 mixes nothing in
    #[arg(long, value_name = "X")]
    sft_coef: Option<f64>,
    /// Labels per step
    #[arg(long, value_name = "N")]
    sft_batch_size: Option<usize>,
    /// Prompts and labels: JSONL as --prompt-data, which it is without
    #[arg(long, value_name = "FILE")]
    sft_data: Option<PathBuf>,
}
