use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// One message of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// `system`, `user`, `assistant`, `tool`, ..
    pub role: String,
    /// What was said, as far as it is text.
    pub text: String,
    /// The whole message as JSON, with the order of its fields.
    pub json: String,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

impl Turn {
    /// A message of a role and a text.
    pub fn new(role: &str, text: &str) -> Self {
        let json = serde_json::json!({ "role": role, "content": text }).to_string();
        Self { role: role.to_owned(), text: text.to_owned(), json }
    }

    /// A message as JSON; what is wrong with it otherwise.
    pub(crate) fn read(raw: &RawValue) -> Result<Self, String> {
        let said: Message = serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
        let text = match &said.content {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Array(parts) => {
                let text = |part: &Value| match part {
                    Value::String(text) => Some(text.clone()),
                    part => part.get("text").and_then(Value::as_str).map(str::to_owned),
                };
                parts.iter().filter_map(text).collect::<Vec<_>>().concat()
            }
            other => return Err(format!("`content` must be a text or a list, got {other}")),
        };
        Ok(Self { role: said.role, text, json: raw.get().to_owned() })
    }
}
