use minijinja::{Value, value::ValueKind};

/// What a chat template is given beside the messages.
#[derive(Clone, Debug)]
pub struct TemplateOptions {
    pub(super) tools: Value,
    pub(super) documents: Value,
    pub(super) variables: Vec<(String, Value)>,
    /// Whether the text ends where the model's answer begins.
    pub add_generation_prompt: bool,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        let none = Value::from(());
        let variables = Vec::new();
        Self { tools: none.clone(), documents: none, variables, add_generation_prompt: true }
    }
}

impl TemplateOptions {
    /// Whether the text ends where the model's answer begins.
    #[must_use]
    pub fn with_generation_prompt(mut self, add: bool) -> Self {
        self.add_generation_prompt = add;
        self
    }

    /// With tools: a JSON list.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn with_tools(mut self, json: &str) -> Result<Self, String> {
        self.tools = list(json)?;
        Ok(self)
    }

    /// With documents: a JSON list.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn with_documents(mut self, json: &str) -> Result<Self, String> {
        self.documents = list(json)?;
        Ok(self)
    }

    /// With variables of the template's own, as `{"enable_thinking": false}`: a JSON object.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn with_variables(mut self, json: &str) -> Result<Self, String> {
        let held = read(json)?;
        if held.kind() != ValueKind::Map {
            return Err("expected a JSON object".to_owned());
        }
        for name in held.try_iter().map_err(|error| error.to_string())? {
            let value = held.get_item(&name).map_err(|error| error.to_string())?;
            self.variables.push((name.to_string(), value));
        }
        Ok(self)
    }
}

fn list(json: &str) -> Result<Value, String> {
    let value = read(json)?;
    match value.kind() {
        ValueKind::Seq => Ok(value),
        _ => Err("expected a JSON list".to_owned()),
    }
}

fn read(json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}
