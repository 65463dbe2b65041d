use minijinja::Value;

/// One message of a conversation, with all its fields.
///
/// ```
/// use opd_models::Message;
///
/// let said = Message::user("2 + 2?");
/// let called = Message::from_json(r#"{"role": "assistant", "tool_calls": []}"#)?;
/// assert_eq!((said.role(), called.role()), ("user".into(), "assistant".into()));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Message(Value);

impl Message {
    /// A message of the user's.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A message of a role: `system`, `user`, `assistant`.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        let content: String = content.into();
        Self(Value::from_pairs([("role", Value::from(role)), ("content", Value::from(content))]))
    }

    /// A message as a JSON object, whose fields keep their order.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value.get_attr("role") {
            Ok(role) if role.as_str().is_some() => Ok(Self(value)),
            _ => Err("a message must be an object with a text as `role`".to_owned()),
        }
    }

    /// Who speaks.
    pub fn role(&self) -> String {
        self.0.get_attr("role").map(|role| role.to_string()).unwrap_or_default()
    }

    pub(super) fn value(&self) -> Value {
        self.0.clone()
    }
}
