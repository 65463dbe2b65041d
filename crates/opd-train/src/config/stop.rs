use serde::{Deserialize, Serialize};

/// What a stop rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopAction {
    /// Says so and goes on.
    #[default]
    Warn,
    /// Saves and ends the run with an error.
    Stop,
    /// Nothing.
    Off,
}

/// Rules that notice a run going wrong. Each compares the mean of the last `window` steps with
/// that of the first `window`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StopConfig {
    /// What a rule that fires does.
    pub action: StopAction,
    /// Steps per mean.
    pub window: usize,
    /// Fires if the reverse KL exceeds this many times its start (and 0.1 nats).
    pub kl_explosion: f64,
    /// Fires if the entropy falls under this fraction of its start while the reverse KL does
    /// not fall.
    pub entropy_collapse: f64,
    /// Fires if the mean response length leaves its start by this factor, either way.
    pub length_collapse: f64,
}

impl Default for StopConfig {
    fn default() -> Self {
        Self {
            action: StopAction::Warn,
            window: 10,
            kl_explosion: 5.0,
            entropy_collapse: 0.1,
            length_collapse: 4.0,
        }
    }
}
