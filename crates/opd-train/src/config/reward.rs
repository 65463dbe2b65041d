use std::path::PathBuf;

use opd_reward::Pattern;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The rule that judges a response by the prompt's label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardKind {
    /// 1 if the response is the label, surrounding white space aside.
    #[default]
    ExactMatch,
    /// Harmonic mean of precision and recall of the label's words, as in SQuAD; for pass@1 more than
    /// half of it is right.
    F1,
    /// 1 if the last `\boxed{..}` is the label, mathematically; else 0.
    Math,
    /// The same behind the end of the thinking, without which it is 0.
    Deepscaler,
    /// 1 if what stands behind the last `Answer:` is the label, mathematically; else -1.
    Dapo,
    /// 1 if what stands behind the last `####` is the label, mathematically; else 0.
    Gsm8k,
    /// 1 if `pattern` matches, and its group `answer`, if it has one, holds the label; else 0.
    Regex,
    /// What the server at `urls` says.
    RemoteRm,
}

/// Who judges responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// The rule (`--rm-type`).
    #[serde(rename = "type")]
    pub kind: RewardKind,
    /// Regular expression of the rule `regex`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Servers of the rule `remote_rm`: the whole addresses that responses are posted to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Environment variable of the servers' bearer key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// File of the servers' bearer key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
}

impl RewardConfig {
    /// Passes if the rule has what it needs, and nothing is named that it does not read.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] naming the setting and the remedy.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let conflict =
            |what: &str, remedy| Err(ConfigError::Conflict { what: what.into(), remedy });
        let (regex, remote) = (self.kind == RewardKind::Regex, self.kind == RewardKind::RemoteRm);
        match &self.pattern {
            None if regex => {
                let remedy = "name the pattern with --rm-pattern REGEX";
                return Err(ConfigError::Missing { key: "reward.pattern", remedy });
            }
            Some(_) if !regex => {
                let remedy = "add --rm-type regex, or drop --rm-pattern";
                return conflict("reward.pattern is read by the rule regex alone", remedy);
            }
            Some(pattern) => {
                if let Err(error) = Pattern::new(pattern) {
                    return Err(ConfigError::Conflict {
                        what: error.to_string(),
                        remedy: "mend --rm-pattern; its syntax is that of the regex crate",
                    });
                }
            }
            None => {}
        }
        if remote && self.urls.is_empty() {
            let remedy =
                "name the server that judges with --reward-url URL (--rm-url names a teacher's)";
            return Err(ConfigError::Missing { key: "reward.urls", remedy });
        }
        let keyed = self.api_key_env.is_some() || self.api_key_file.is_some();
        if !remote && (!self.urls.is_empty() || keyed) {
            let remedy = "add --rm-type remote_rm, or drop --reward-url and its key";
            return conflict("reward.urls is read by the rule remote_rm alone", remedy);
        }
        if self.api_key_env.is_some() && self.api_key_file.is_some() {
            return conflict(
                "reward.api_key_env and reward.api_key_file are both set",
                "keep one of --reward-api-key-env and --reward-api-key-file",
            );
        }
        Ok(())
    }
}
