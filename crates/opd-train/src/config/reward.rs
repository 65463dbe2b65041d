use serde::{Deserialize, Serialize};

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
}

/// Who judges responses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardConfig {
    /// The rule (`--rm-type`).
    #[serde(rename = "type")]
    pub kind: RewardKind,
}
