use serde::{Deserialize, Serialize};

/// What a run is called at Weights & Biases; its file is written, and never sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WandbConfig {
    /// Project; `uncategorized` there without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Runs of one group are shown together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// User or team; whoever uploads without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
}
