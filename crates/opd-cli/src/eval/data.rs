//! Which prompts are asked, and what is right.

use std::path::{Path, PathBuf};

use clap::{Args, value_parser};
use opd_data::DataPath;
use opd_models::ChatTemplate;
use opd_train::{PromptReader, config::DataConfig};

use super::{
    ids,
    question::{self, Origin, Question, Right},
};
use crate::{model::Model, records::bad_line};

#[derive(Args, Clone, Debug)]
pub(super) struct DataFlags {
    /// Prompts with their right answers: JSONL, one object a line, or Parquet; FILE@[a:b] takes rows
    /// a (from 0) up to b. May be given several times: each file has a result of its own, too
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// Take this many prompts from the start of the data [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_prompts: Option<u32>,
    /// Field of the prompt: a text, or a list of messages; a.b is field b of the object a
    #[arg(long, value_name = "KEY", default_value = "prompt")]
    input_key: String,
    /// Field of the right answer's text
    #[arg(long, value_name = "KEY", default_value = "label")]
    label_key: String,
    /// Field of the tools that the chat template is given
    #[arg(long, value_name = "KEY", default_value = "tools")]
    tool_key: String,
    /// Write prompts into the model's chat template, as a user's first message unless they are lists
    /// of messages
    #[arg(long)]
    apply_chat_template: bool,
    /// Variables of the chat template, as '{"enable_thinking": false}'
    #[arg(long, value_name = "JSON", requires = "apply_chat_template")]
    apply_chat_template_kwargs: Option<String>,
}

impl DataFlags {
    /// The files as they were named.
    pub(super) fn names(&self) -> Vec<String> {
        self.data.iter().map(|path| path.display().to_string()).collect()
    }

    /// The questions of all files, one file after another.
    pub(super) fn read(&self, model: &Model) -> anyhow::Result<Vec<Question>> {
        let limit = self.max_prompts.map_or(usize::MAX, |n| n as usize);
        let mut questions: Vec<Question> = Vec::new();
        for (file, named) in self.data.iter().enumerate() {
            let left = limit - questions.len();
            if left == 0 {
                break;
            }
            let before = questions.last().map_or(0, |last| last.index + 1);
            let (path, origin) = (DataPath::of(named), Origin { file, before });
            let read = match ids::holds_ids(&path)? {
                true => ids::read(&path, origin, model, left)?,
                false => self.texts(named, origin, model, left)?,
            };
            questions.extend(read);
        }
        Ok(questions)
    }

    /// The first `limit` questions of a file of texts or messages.
    fn texts(
        &self,
        path: &Path,
        origin: Origin,
        model: &Model,
        limit: usize,
    ) -> anyhow::Result<Vec<Question>> {
        let data = DataConfig {
            input_key: self.input_key.clone(),
            label_key: self.label_key.clone(),
            tool_key: self.tool_key.clone(),
            chat_template: self.apply_chat_template,
            chat_template_kwargs: self.apply_chat_template_kwargs.clone(),
            ..DataConfig::default()
        };
        let template =
            self.apply_chat_template.then(|| ChatTemplate::load(model.dir())).transpose()?;
        let reader =
            PromptReader::of(&data, model.tokenizer()?, template.as_ref(), model.lm.config(), 0)?;
        // Room for an answer is looked at below.
        let reader = PromptReader { context: usize::MAX, ..reader };
        // Rows beyond the limit are not read where that can be.
        let first: PathBuf = match (self.max_prompts, path.to_str()) {
            (Some(_), Some(_)) => DataPath::of(path).first(limit as u64).to_string().into(),
            _ => path.to_owned(),
        };
        let prompts = reader.read(&[first])?;
        let mut questions = Vec::new();
        for i in 0..prompts.len().min(limit) {
            let (Some(prompt), Some((file, row))) = (prompts.get(i)?, prompts.place(i)) else {
                break;
            };
            let bad = |what: String| bad_line(file, row as usize, what);
            question::check(&prompt.tokens, model).map_err(bad)?;
            let example = prompt.example;
            let label = example.label.ok_or_else(|| {
                bad(format!(
                    "field `{}` is missing; it holds the right answer: name it with --label-key",
                    self.label_key
                ))
            })?;
            let source = example.source.as_str().to_owned();
            let answer = Right::Text { prompt: example.prompt, label, source };
            questions.push(origin.question(row, prompt.tokens, answer));
        }
        Ok(questions)
    }
}
