use clap::Args;
use opd_train::config::WandbConfig;
use serde::Serialize;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Metrics")]
pub(super) struct LoggingFlags {
    /// Write an offline run of Weights & Biases, too, for `wandb sync` to upload
    #[arg(long)]
    #[serde(skip)]
    use_wandb: bool,
    /// Its project
    #[arg(long, value_name = "NAME")]
    wandb_project: Option<String>,
    /// Its group of runs
    #[arg(long, value_name = "NAME")]
    wandb_group: Option<String>,
    /// Whose it is: a user or a team
    #[arg(long, value_name = "NAME")]
    wandb_team: Option<String>,
}

impl LoggingFlags {
    /// Makes room for the given flags.
    pub(super) fn prepare(&self, wandb: &mut Option<WandbConfig>) {
        if self.use_wandb {
            wandb.get_or_insert_default();
        }
    }
}
