use std::path::{Path, PathBuf};

use opd_data::{BadRows, DataFiles, DataPath, Fields};
use opd_models::TemplateOptions;
use serde::{Deserialize, Serialize};

use super::{ConfigError, error::at_least_one};

/// Prompt files: JSONL, one object a line, or Parquet; `FILE@[a:b]` takes some rows of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Prompts that the student is trained on; several files are read one after another as one data
    /// set.
    pub train: DataFiles,
    /// Held-out prompts of the before / after / teacher table; none is evaluated without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<PathBuf>,
    /// Held-out prompts evaluated during training; none is evaluated without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    /// Further held-out prompts that are evaluated during training; each file's name without its
    /// ending names its metrics.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eval_sets: Vec<PathBuf>,
    /// Field of the prompt.
    pub input_key: String,
    /// Field of the right answer.
    pub label_key: String,
    /// Field of the tools that a chat template is given.
    pub tool_key: String,
    /// Whether prompts are written into the student's chat template.
    pub chat_template: bool,
    /// Variables of the chat template, as a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template_kwargs: Option<String>,
    /// Prompts with more tokens are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_prompt_tokens: Option<usize>,
    /// What becomes of rows that cannot be used.
    pub bad_rows: BadRows,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            train: DataFiles::default(),
            test: None,
            validation: None,
            eval_sets: Vec::new(),
            input_key: "prompt".into(),
            label_key: "label".into(),
            tool_key: "tools".into(),
            chat_template: false,
            chat_template_kwargs: None,
            max_prompt_tokens: None,
            bad_rows: BadRows::Fail,
        }
    }
}

impl DataConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let nameless = |path: &PathBuf| path.as_os_str().is_empty();
        if self.train.is_empty() || self.train.paths().iter().any(nameless) {
            let remedy = "name a JSONL or Parquet file of prompts with --prompt-data FILE";
            return Err(ConfigError::Missing { key: "data.train", remedy });
        }
        if let Some(n) = self.max_prompt_tokens {
            at_least_one("data.max_prompt_tokens", n as u64)?;
        }
        if self.chat_template_kwargs.is_some() && !self.chat_template {
            return Err(ConfigError::Conflict {
                what: "data.chat_template_kwargs is read by the chat template alone".into(),
                remedy: "add --apply-chat-template, or drop --apply-chat-template-kwargs",
            });
        }
        self.template_options().map(drop)
    }

    /// The further held-out files, each with a name of its own: `aime` of `aime.jsonl`, `aime-2` where
    /// another one has it.
    pub(crate) fn named_eval_sets(&self) -> Vec<(String, &Path)> {
        let mut named: Vec<(String, &Path)> = Vec::new();
        for path in &self.eval_sets {
            let file = DataPath::of(path).file;
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let taken = |name: &str| named.iter().any(|(held, _)| held == name);
            let mut numbered = (2..).map(|n| format!("{stem}-{n}"));
            let name = match taken(&stem) {
                true => numbered.find(|name| !taken(name)).unwrap_or_default(),
                false => stem,
            };
            named.push((name, path));
        }
        named
    }

    /// The fields that are read.
    pub(crate) fn fields(&self) -> Fields {
        let (input, label) = (self.input_key.clone(), self.label_key.clone());
        Fields { input, label, tools: self.tool_key.clone(), ..Fields::default() }
    }

    /// What a chat template is given.
    pub(crate) fn template_options(&self) -> Result<TemplateOptions, ConfigError> {
        let options = TemplateOptions::default();
        let Some(json) = &self.chat_template_kwargs else { return Ok(options) };
        options.with_variables(json).map_err(|error| ConfigError::Conflict {
            what: format!("data.chat_template_kwargs is no JSON object: {error}"),
            remedy: "write it as '{\"enable_thinking\": false}'",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_has_a_name_of_its_own() {
        let files = ["a/aime.jsonl", "b/aime.parquet@[:5]", "c/math.jsonl", "aime"];
        let data = DataConfig { eval_sets: files.map(Into::into).into(), ..DataConfig::default() };
        let names: Vec<String> = data.named_eval_sets().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["aime", "aime-2", "math", "aime-3"]);
    }
}
