use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, prompt_files::PromptFile, report::Evaluation, run::StepMetrics,
    showcase::Showcase,
};

/// File of a checkpoint that holds what is neither weights nor moments.
pub(crate) const STATE: &str = "trainer_state.json";

/// File of a checkpoint that holds AdamW's moments.
pub(crate) const OPTIMIZER: &str = "optimizer.safetensors";

/// Directory of a checkpoint that holds the critic and its moments.
pub(crate) const CRITIC: &str = "critic";

/// Where a run stands, beside its weights and moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrainerState {
    /// Completed steps.
    pub(crate) step: u64,
    /// Optimizer updates made.
    pub(crate) updates: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) seconds_training: f64,
    pub(crate) seconds_total: f64,
    /// What the table says of the student before training, and of the teacher.
    pub(crate) evaluations: Vec<Evaluation>,
    pub(crate) showcase_before: Showcase,
    /// What is learned from; empty in checkpoints of versions that did not write it.
    #[serde(default)]
    pub(crate) prompt_files: Vec<PromptFile>,
    /// Metrics of the last step, if the run was left before the evaluation that belongs to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unevaluated: Option<StepMetrics>,
}

impl TrainerState {
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join(STATE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::State { path: path.clone(), what: error.to_string() })?;
        fs::write(&path, text + "\n")
            .map_err(|source| crate::run::Error::writing(&path, source).into())
    }

    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(STATE);
        let bad = |what: String| Error::State { path: path.clone(), what };
        let text = fs::read_to_string(&path).map_err(|error| bad(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
    }
}
