mod bounds;
mod guards;
mod message;
mod methods;
mod options;
mod python;
mod strftime;

use std::path::{Path, PathBuf};

use minijinja::{Environment, ErrorKind, Value, syntax::SyntaxConfig};

pub use self::{message::Message, options::TemplateOptions};
use crate::{Error, Result, files::ModelFiles};

/// Steps of the template engine; a template that takes more is refused.
const FUEL: u64 = 2_000_000;

/// Nesting of blocks and macro calls.
const DEPTH: usize = 128;

/// Name of the template for conversations with tools, where a model has several.
const WITH_TOOLS: &str = "tool_use";

/// Special tokens that a template is given, by their names in `tokenizer_config.json`.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"];

/// How a model's prompts are written: the Jinja template of its directory.
///
/// `chat_template.jinja`, or `chat_template` of `tokenizer_config.json`, which may be a text or a
/// list of named ones: then `tool_use` is taken for conversations with tools, and `default`
/// otherwise. The template is given what transformers gives it: `messages`, `tools`, `documents`,
/// `add_generation_prompt`, the special tokens that the model has, further variables,
/// `raise_exception`, `strftime_now` and `tojson`. It is not trusted: its steps, its nesting and its
/// memory are bounded, and it can read nothing.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    /// Names and texts.
    sources: Vec<(String, String)>,
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
        let special = SPECIAL.into_iter().filter_map(|name| {
            let token = &config[name];
            let text = token.as_str().or_else(|| token["content"].as_str())?;
            Some((name, text.to_owned()))
        });
        let (path, sources) = match files.read("chat_template.jinja")? {
            Some((own, source)) => {
                let source = String::from_utf8_lossy(&source).into_owned();
                (own, vec![("default".to_owned(), source)])
            }
            None => (path.clone(), in_config(&config["chat_template"])),
        };
        if sources.is_empty() {
            let what = "the model has no chat template: neither chat_template.jinja nor \
                        `chat_template` in tokenizer_config.json; a base model is prompted without \
                        one (drop --apply-chat-template)";
            return Err(bad(what.to_owned()));
        }
        let guarded = |(name, source): (String, String)| {
            let source = guards::guarded(&tracked(&source))?;
            Ok((name, source))
        };
        let sources = sources.into_iter().map(guarded).collect::<std::result::Result<_, _>>();
        let sources =
            sources.map_err(|what: String| Error::ChatTemplate { path: path.clone(), what })?;
        let template = Self { path, sources, special: special.collect() };
        template.environment().map(drop)?;
        Ok(template)
    }

    /// The text of a conversation, up to where the model's answer begins.
    ///
    /// # Errors
    ///
    /// [`Error::ChatTemplate`] with what the template said.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        self.render_with(messages, &TemplateOptions::default())
    }

    /// The text of a conversation, with tools, documents and variables of the user's.
    ///
    /// # Errors
    ///
    /// [`Error::ChatTemplate`] with what the template said.
    pub fn render_with(&self, messages: &[Message], options: &TemplateOptions) -> Result<String> {
        let environment = self.environment()?;
        let template =
            environment.get_template(self.chosen(options)).map_err(|error| self.bad(&error))?;
        let special = self.special.iter().map(|(name, token)| (*name, Value::from(token.as_str())));
        let messages: Vec<Value> = messages.iter().map(Message::value).collect();
        let given = [
            ("messages", messages.into()),
            ("tools", options.tools.clone()),
            ("documents", options.documents.clone()),
            ("add_generation_prompt", Value::from(options.add_generation_prompt)),
        ];
        let variables = options.variables.iter().map(|(name, value)| (&**name, value.clone()));
        let context = Value::from_pairs(given.into_iter().chain(special).chain(variables));
        template.render(context).map_err(|error| self.bad(&error))
    }

    /// Which of several templates is for a conversation.
    fn chosen(&self, options: &TemplateOptions) -> &str {
        let has = |wanted: &str| self.sources.iter().any(|(name, _)| name == wanted);
        let names = [WITH_TOOLS, "default"].into_iter();
        let mut names = names.skip(usize::from(!options.tools.is_true()));
        let first = || self.sources.first().map_or("default", |(name, _)| name);
        names.find(|name| has(name)).unwrap_or_else(first)
    }

    /// The template as transformers sets Jinja up.
    fn environment(&self) -> Result<Environment<'_>> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| self.bad(&error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_unknown_method_callback(methods::call);
        environment.set_formatter(|out, _, value| {
            out.write_str(&python::text(value)?).map_err(minijinja::Error::from)
        });
        environment.add_filter("tojson", python::tojson);
        environment.add_function("strftime_now", strftime::now);
        environment.add_function(
            "raise_exception",
            |what: Value| -> std::result::Result<(), minijinja::Error> {
                Err(minijinja::Error::new(
                    ErrorKind::InvalidOperation,
                    python::text(&what)?.into_owned(),
                ))
            },
        );
        bounds::add(&mut environment);
        for (name, source) in &self.sources {
            environment.add_template(name, source).map_err(|error| self.bad(&error))?;
        }
        Ok(environment)
    }

    fn bad(&self, error: &minijinja::Error) -> Error {
        let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
        let what = error.detail().map_or_else(|| error.to_string(), str::to_owned);
        Error::ChatTemplate { path: self.path.clone(), what: format!("{line}{what}") }
    }
}

/// The templates of `tokenizer_config.json`, by name.
fn in_config(held: &serde_json::Value) -> Vec<(String, String)> {
    if let Some(source) = held.as_str() {
        return vec![("default".to_owned(), source.to_owned())];
    }
    let named = held.as_array().into_iter().flatten().filter_map(|entry| {
        Some((entry["name"].as_str()?.to_owned(), entry["template"].as_str()?.to_owned()))
    });
    named.collect()
}

/// `{% generation %}` of transformers marks the assistant's words; nothing is written for it.
fn tracked(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, behind) = tag.split_at(end);
        let name = tag.trim_matches(['{', '%', '}', '-', '+', ' ', '\n']);
        match name {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = behind;
    }
    out + rest
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

    #[test]
    fn tools_take_the_template_for_tools() {
        let list = serde_json::json!([
            { "name": "default", "template": "plain{{ bos_token }}{{ eos_token is defined }}" },
            { "name": "tool_use", "template": "{{ tools | length }} tools, {{ who }}" },
        ]);
        let dir = directory(&[("tokenizer_config.json", &config(list))]);
        let template = ChatTemplate::load(dir.path()).unwrap();
        let messages = [Message::user("x")];
        assert_eq!(template.render(&messages).unwrap(), "plain<s>False");
        let tools = TemplateOptions::default().with_tools("[{}, {}]").unwrap();
        let options = tools.with_variables(r#"{"who": "me"}"#).unwrap();
        assert_eq!(template.render_with(&messages, &options).unwrap(), "2 tools, me");
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        // str() and json.dumps(.., ensure_ascii=False) of Python 3.11.
        let source = "{{ none }} {{ true }} {{ 1.0 }} {{ [1, 'a', none, {'k': \"it's\"}] }} {{ absent }}|\
                      {{ {'b': [1.5, true], 'a': '<é>'} | tojson }} {{ [1, {}] | tojson(indent=2) }}";
        let dir = directory(&[("chat_template.jinja", source)]);
        let rendered = ChatTemplate::load(dir.path()).unwrap().render(&[]).unwrap();
        assert_eq!(
            rendered,
            "None True 1.0 [1, 'a', None, {'k': \"it's\"}] |{\"b\": [1.5, true], \"a\": \"<é>\"} [\n  1,\n  {}\n]"
        );
    }

    #[test]
    fn the_tag_for_generations_writes_nothing() {
        let source = "{% for m in messages %}\n    {%- generation -%} {{ m.content }} {%- endgeneration %}\n{% endfor %}.";
        let dir = directory(&[("chat_template.jinja", source)]);
        let template = ChatTemplate::load(dir.path()).unwrap();
        assert_eq!(template.render(&[Message::user("a"), Message::user("b")]).unwrap(), "ab.");
    }

    #[test]
    fn the_time_is_written_by_its_format() {
        let dir = directory(&[("chat_template.jinja", "{{ strftime_now('%Y') }}")]);
        let year = ChatTemplate::load(dir.path()).unwrap().render(&[]).unwrap();
        assert!(year.len() == 4 && year.starts_with("20"), "{year}");
        let dir = directory(&[("chat_template.jinja", "{{ strftime_now('%Q') }}")]);
        let error = ChatTemplate::load(dir.path()).unwrap().render(&[]).unwrap_err();
        assert!(error.to_string().contains("%Q"), "{error}");
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
            (CHATML, Message::new("judge", ""), "unknown role judge"),
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
