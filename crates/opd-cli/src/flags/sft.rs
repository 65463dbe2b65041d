use std::path::PathBuf;

use clap::Args;
use opd_train::config::SftConfig;

use crate::flags::{set, set_some};

#[derive(Args, Clone, Debug)]
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

impl SftFlags {
    pub(super) fn apply(&self, sft: &mut SftConfig) {
        set(&mut sft.coef, &self.sft_coef);
        set(&mut sft.prompts, &self.sft_batch_size);
        set_some(&mut sft.data, &self.sft_data);
    }
}
