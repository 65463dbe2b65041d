/// Names of the fields of a row; a name with dots reaches into objects: `reward_model.ground_truth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Field of the prompt (`--input-key`): a text, or a list of messages.
    pub input: String,
    /// Field of the label (`--label-key`), which a row may lack.
    pub label: String,
    /// Field of what the teacher is asked instead of the prompt, which a row may lack.
    pub teacher_prompt: Option<String>,
    /// Fields that may say where a prompt came from; the first that a row has counts.
    pub source: Vec<String>,
    /// Field of the tools (`--tool-key`), which a row may lack.
    pub tools: String,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            input: "prompt".into(),
            label: "label".into(),
            teacher_prompt: None,
            source: ["source", "data_source"].map(Into::into).into(),
            tools: "tools".into(),
        }
    }
}

impl Fields {
    /// Whether a top-level field of a file is read.
    pub(crate) fn reads(&self, column: &str) -> bool {
        let names = [&self.input, &self.label, &self.tools];
        let names = names.into_iter().chain(&self.teacher_prompt).chain(&self.source);
        names.into_iter().any(|name| reaches_into(name, column))
    }
}

/// Whether a name is that of a column, or of something within it.
pub(crate) fn reaches_into(name: &str, column: &str) -> bool {
    name.strip_prefix(column).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
