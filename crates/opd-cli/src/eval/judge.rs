use std::path::PathBuf;

use clap::Args;
use opd_reward::Reward;
use opd_train::config::{RewardConfig, RewardKind};

use crate::{config::choices, failure::Failure};

/// Who judges texts.
#[derive(Args, Clone, Debug)]
pub(super) struct JudgeFlags {
    /// The rule that judges answers by the right one, as in `opd train`
    #[arg(
        long,
        value_name = "NAME",
        default_value = "exact_match",
        value_parser = choices::<RewardKind>()
    )]
    rm_type: RewardKind,
    /// Regular expression of --rm-type regex
    #[arg(long, value_name = "REGEX")]
    rm_pattern: Option<String>,
    /// Server of --rm-type remote_rm: the whole address that answers are posted to; may be given
    /// several times
    #[arg(long, value_name = "URL")]
    reward_url: Vec<String>,
    /// Environment variable of that server's bearer key
    #[arg(long, value_name = "NAME")]
    reward_api_key_env: Option<String>,
    /// File of that server's bearer key
    #[arg(long, value_name = "FILE")]
    reward_api_key_file: Option<PathBuf>,
}

impl JudgeFlags {
    /// The judge that is named.
    pub(super) fn build(&self, seed: u64) -> anyhow::Result<Box<dyn Reward>> {
        let config = RewardConfig {
            kind: self.rm_type,
            pattern: self.rm_pattern.clone(),
            urls: self.reward_url.clone(),
            api_key_env: self.reward_api_key_env.clone(),
            api_key_file: self.reward_api_key_file.clone(),
        };
        config.validate().map_err(|error| Failure::usage(error.to_string()))?;
        Ok(config.build(seed)?)
    }
}
