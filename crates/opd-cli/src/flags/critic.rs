use std::path::PathBuf;

use clap::Args;
use opd_train::config::CriticKind;
use serde::Serialize;

use crate::{config::choices, flags::positive};

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Critic of --advantage-estimator ppo")]
pub(super) struct CriticFlags {
    /// A head on the student's hidden states, or a model of its own
    #[arg(long, value_name = "NAME", value_parser = choices::<CriticKind>())]
    critic: Option<CriticKind>,
    /// Directory that the critic starts from, such as `critic` of another run; without, a fresh
    /// head, on the student's weights
    #[arg(long, value_name = "DIR")]
    critic_load: Option<PathBuf>,
    /// Peak learning rate of the critic; --lr without
    #[arg(long, value_name = "X", value_parser = positive)]
    critic_lr: Option<f64>,
    /// How far a value may move from that of the rollout before the move stops paying
    #[arg(long, value_name = "X")]
    value_clip: Option<f64>,
    /// Weight of the value loss in the student's own gradient, for --critic head; 0 trains the
    /// head alone
    #[arg(long, value_name = "X")]
    value_loss_coef: Option<f64>,
}
