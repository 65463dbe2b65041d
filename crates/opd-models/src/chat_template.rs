use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, files::ModelFiles};

/// Steps of the template engine; a template that takes more is refused.
const FUEL: u64 = 2_000_000;

/// Nesting of blocks and macro calls.
const DEPTH: usize = 128;

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// A message of the user's.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user".into(), content: content.into() }
    }
}

/// How a model's prompts are written: the Jinja template of its directory.
///
/// `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`, which may be a text or a
/// list of named ones (then `default` is taken). The template is given `messages`,
/// `add_generation_prompt` and the special tokens of `tokenizer_config.json`; it is not trusted,
/// and may neither loop for ever nor read anything.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    special: Vec<(&'static str, String)>,
}

impl ChatTemplate {
    /// Reads the template of a model directory.
    ///
    /// # Errors
    ///
    /// [`Error::ChatTemplate`] naming the file, if there is none or it is malformed.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let files = ModelFiles::open(dir.as_ref())?;
        let config = files.object("tokenizer_config.json")?;
        let path = match &config {
            Some((path, _)) => path.clone(),
            None => files.place("tokenizer_config.json"),
        };
        let config = serde_json::Value::from(config.map(|(_, config)| config).unwrap_or_default());
        let bad = |what: String| Error::ChatTemplate { path: path.clone(), what };
        let special = ["bos_token", "eos_token", "pad_token", "unk_token"].map(|name| {
            let token = &config[name];
            let text = token.as_str().or_else(|| token["content"].as_str());
            (name, text.unwrap_or_default().to_owned())
        });
        let (path, source) = match files.read("chat_template.jinja")? {
            Some((own, source)) => (own, Some(String::from_utf8_lossy(&source).into_owned())),
            None => (path.clone(), in_config(&config["chat_template"])),
        };
        let what = "the model has no chat template: neither chat_template.jinja nor \
                    `chat_template` in tokenizer_config.json; a base model is prompted without \
                    one (drop --apply-chat-template)";
        let source = source.ok_or_else(|| bad(what.to_owned()))?;
        let template = Self { path, source, special: special.into() };
        template.environment().map(drop)?;
        Ok(template)
    }

    /// The text of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    ///
    /// [`Error::ChatTemplate`] with what the template said.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        let environment = self.environment()?;
        let template = environment.get_template("chat").map_err(|error| self.bad(&error))?;
        let special = self.special.iter().map(|(name, token)| (*name, Value::from(token.as_str())));
        let messages = messages.iter().map(|Message { role, content }| {
            Value::from_pairs([("role", role.as_str()), ("content", content.as_str())])
        });
        let given = [
            ("messages", messages.collect::<Vec<_>>().into()),
            ("add_generation_prompt", Value::from(true)),
        ];
        let context = Value::from_pairs(given.into_iter().chain(special));
        template.render(context).map_err(|error| self.bad(&error))
    }

    /// The template as transformers sets Jinja up.
    fn environment(&self) -> Result<Environment<'_>> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| self.bad(&error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |what: String| -> std::result::Result<(), _> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, what))
        });
        environment.add_template("chat", &self.source).map_err(|error| self.bad(&error))?;
        Ok(environment)
    }

    fn bad(&self, error: &minijinja::Error) -> Error {
        let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
        let what = error.detail().map_or_else(|| error.to_string(), str::to_owned);
        Error::ChatTemplate { path: self.path.clone(), what: format!("{line}{what}") }
    }
}

/// The template of `tokenizer_config.json`.
fn in_config(held: &serde_json::Value) -> Option<String> {
    if let Some(source) = held.as_str() {
        return Some(source.to_owned());
    }
    let named = held.as_array()?.iter().find(|entry| entry["name"] == "default")?;
    named["template"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// ChatML as a template that uses what real ones use.
    const CHATML: &str = "{%- for message in messages %}
    {%- if message.role not in ['user', 'system', 'assistant'] %}
        {{- raise_exception('unknown role ' + message.role) }}
    {%- endif %}
{{- '<|im_start|>' + message['role'] + '\\n' + message.content.strip() + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}";

    const RENDERED: &str = "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n";

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn config(template: serde_json::Value) -> String {
        serde_json::json!({ "chat_template": template, "bos_token": { "content": "<s>" } })
            .to_string()
    }

    #[test]
    fn every_place_of_a_template_is_read() {
        let other = [serde_json::json!({ "name": "tool_use", "template": "no" })];
        let list =
            other.into_iter().chain([serde_json::json!({ "name": "default", "template": CHATML })]);
        for files in [
            vec![("chat_template.jinja", CHATML.to_owned())],
            vec![("tokenizer_config.json", config(CHATML.into()))],
            vec![("tokenizer_config.json", config(list.collect()))],
            vec![
                ("chat_template.jinja", CHATML.to_owned()),
                ("tokenizer_config.json", config("no".into())),
            ],
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
            let template = ChatTemplate::load(directory(&files).path()).unwrap();
            assert_eq!(template.render(&[Message::user(" 2 + 2? ")]).unwrap(), RENDERED);
        }
        let bos = config("{{ bos_token }}{{ messages | length }}".into());
        let dir = directory(&[("tokenizer_config.json", &bos)]);
        let rendered = ChatTemplate::load(dir.path()).unwrap().render(&[Message::user("x")]);
        assert_eq!(rendered.unwrap(), "<s>1");
    }

    #[test]
    fn what_cannot_be_rendered_says_why() {
        let none = ChatTemplate::load(directory(&[]).path()).unwrap_err().to_string();
        assert!(
            none.contains("no chat template") && none.contains("drop --apply-chat-template"),
            "{none}"
        );
        let broken = directory(&[("chat_template.jinja", "{% if %}")]);
        let broken = ChatTemplate::load(broken.path()).unwrap_err().to_string();
        assert!(broken.contains("chat_template.jinja: line 1: "), "{broken}");
        let cases = [
            (CHATML, Message { role: "judge".into(), content: "".into() }, "unknown role judge"),
            (
                "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}",
                Message::user(""),
                "fuel",
            ),
        ];
        for (source, message, expected) in cases {
            let dir = directory(&[("chat_template.jinja", source)]);
            let error = ChatTemplate::load(dir.path()).unwrap().render(&[message]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
