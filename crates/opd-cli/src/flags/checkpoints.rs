use clap::Args;
use opd_train::config::StopAction;
use serde::Serialize;

use crate::config::choices;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Checkpoints and stop rules")]
pub(super) struct CheckpointFlags {
    /// Steps between checkpoints; 0 for none but the last
    #[arg(long, value_name = "N")]
    save_interval: Option<u64>,
    /// Checkpoints that are kept, beside the best
    #[arg(long, value_name = "N")]
    keep_last: Option<usize>,
    /// Bytes of one weight file, beyond which weights are cut into several
    #[arg(long, value_name = "BYTES")]
    max_shard_bytes: Option<u64>,
    /// What to do when the KL explodes, or the entropy or the length collapses
    #[arg(long, value_name = "ACTION", value_parser = choices::<StopAction>())]
    stop_action: Option<StopAction>,
}
