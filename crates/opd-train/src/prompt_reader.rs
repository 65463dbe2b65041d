use std::{collections::BTreeSet, path::Path};

use opd_data::{BadRows, Example, Fields, PromptSet, TokenSpool};
use opd_models::{ChatTemplate, Message, ModelConfig, TemplateOptions, Tokenizer};

use crate::{
    Error, Result, TokenizedPrompts, config::DataConfig, prompts::Record,
    teacher_prompts::teacher_prompt, written::Cutter,
};

/// How rows become the token ids of prompts.
#[derive(Clone, Debug)]
pub struct PromptReader<'a> {
    /// Which fields are read.
    pub fields: Fields,
    /// The student's.
    pub tokenizer: &'a Tokenizer,
    /// What writes prompts, lists of messages as they are and texts as a user's first message;
    /// without it prompts are texts as they stand.
    pub template: Option<(&'a ChatTemplate, TemplateOptions)>,
    /// What becomes of rows that cannot be used.
    pub bad_rows: BadRows,
    /// Rows with more tokens are dropped.
    pub max_prompt_tokens: Option<usize>,
    /// What the teacher is asked: the field of the row for `Some(None)`, or a template with
    /// `{prompt}` and `{label}`.
    pub teacher: Option<Option<&'a str>>,
    /// Whether a row that lacks what the teacher is to be told is a bad one.
    pub teacher_required: bool,
    /// Longest prompt and response together.
    pub context: usize,
    /// Tokens that are left for the response.
    pub response: usize,
    /// Tokens that end an answer.
    pub ends: Vec<String>,
}

impl<'a> PromptReader<'a> {
    /// Texts of the default fields, every one with room for `response` tokens behind it.
    pub fn new(tokenizer: &'a Tokenizer, model: &ModelConfig, response: usize) -> Self {
        Self {
            fields: Fields::default(),
            tokenizer,
            template: None,
            bad_rows: BadRows::Fail,
            max_prompt_tokens: None,
            teacher: None,
            teacher_required: false,
            context: model.context,
            response,
            ends: model.eos_token_ids.iter().filter_map(|id| tokenizer.token(*id)).collect(),
        }
    }

    /// As a configuration has it; `template` is the student's, which is read only where the
    /// configuration asks for it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for variables of the template that are no JSON object.
    pub fn of(
        data: &DataConfig,
        tokenizer: &'a Tokenizer,
        template: Option<&'a ChatTemplate>,
        model: &ModelConfig,
        response: usize,
    ) -> Result<Self> {
        let options = data.template_options()?;
        Ok(Self {
            fields: data.fields(),
            template: template.filter(|_| data.chat_template).map(|template| (template, options)),
            bad_rows: data.bad_rows,
            max_prompt_tokens: data.max_prompt_tokens,
            ..Self::new(tokenizer, model, response)
        })
    }

    /// Reads and tokenises every row of the files, or of slices `FILE@[a:b]` of them, as one set.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] naming file and line.
    pub fn read<P: AsRef<Path>>(&self, paths: &[P]) -> Result<TokenizedPrompts> {
        let mut records = TokenSpool::new()?;
        let (mut longest, mut sources, mut failed) = (0, BTreeSet::new(), None);
        let set = PromptSet::open_and(paths, &self.fields, self.bad_rows, |example| {
            let Some(record) = self.record(example)? else { return Ok(false) };
            let lengths = [Some(&record.tokens), record.teacher_tokens.as_ref()];
            longest = lengths.into_iter().flatten().map(Vec::len).fold(longest, usize::max);
            sources.insert(example.source.clone());
            if let Err(error) = records.push(&record.list()) {
                failed.get_or_insert(error);
            }
            Ok(true)
        })?;
        match failed {
            Some(error) => Err(Error::from(error)),
            None => Ok(TokenizedPrompts::new(set, records.finish()?, longest, sources)),
        }
    }

    /// The ids of a row; `None` if it is dropped.
    fn record(&self, example: &Example) -> std::result::Result<Option<Record>, String> {
        let (tokens, written) = match &self.template {
            None if example.turns.is_empty() => {
                (self.tokenizer.encode(&example.prompt).map_err(|e| e.to_string())?, None)
            }
            None => {
                return Err("the prompt is a list of messages, which the student's chat template \
                            writes; add --apply-chat-template (data.chat_template), or name a \
                            field of text with --input-key"
                    .to_owned());
            }
            Some((template, options)) => self.chat(example, template, options)?,
        };
        let length = tokens.len();
        if length == 0 {
            return Err("the prompt has no tokens; a model needs at least one".to_owned());
        }
        if self.max_prompt_tokens.is_some_and(|most| length > most) {
            return Ok(None);
        }
        let (response, context) = (self.response, self.context);
        if length + response > context {
            return Err(format!(
                "the prompt has {length} tokens; with {response} for the response the model's \
                 context of {context} is exceeded; drop it, lower rollout.max_response_tokens, or \
                 drop long prompts with --rollout-max-prompt-len"
            ));
        }
        let teacher_tokens = match self.teacher {
            None => None,
            Some(template) => self.teacher_tokens(example, template)?,
        };
        Ok(Some(Record { tokens, teacher_tokens, written }))
    }

    /// What a chat template makes of a row.
    fn chat(
        &self,
        example: &Example,
        template: &ChatTemplate,
        options: &TemplateOptions,
    ) -> std::result::Result<(Vec<u32>, Option<crate::Written>), String> {
        let (messages, options) = (messages(example)?, with_tools(example, options)?);
        let answered = example.turns.last().is_some_and(|turn| turn.role == "assistant");
        if answered && example.label.is_none() {
            let ends = self.ends.clone();
            let cutter = Cutter { tokenizer: self.tokenizer, template, ends };
            let (prompt, written) = cutter.cut(&example.turns, &messages, &options)?;
            return Ok((prompt, Some(written)));
        }
        let text = template.render_with(&messages, &options).map_err(|e| e.to_string())?;
        Ok((self.tokenizer.encode_continuation(&text).map_err(|e| e.to_string())?, None))
    }

    /// What the teacher is asked in place of the prompt; a chat template writes it in place of a
    /// conversation's last message.
    fn teacher_tokens(
        &self,
        example: &Example,
        template: Option<&str>,
    ) -> std::result::Result<Option<Vec<u32>>, String> {
        let Some(text) = teacher_prompt(example, template) else {
            return match self.teacher_required {
                false => Ok(None),
                true => Err("the prompt has nothing to tell the teacher: its row lacks the field \
                             of distillation.prompt_key, or the label that \
                             distillation.prompt_template names; add it, or drop \
                             --opd-teacher-prompt-key or --opd-teacher-prompt-template"
                    .to_owned()),
            };
        };
        let ids = match &self.template {
            None => self.tokenizer.encode(&text),
            Some((chat, options)) => {
                let mut asked = messages(example)?;
                asked.pop();
                asked.push(Message::user(&text));
                let options = with_tools(example, options)?;
                let text = chat.render_with(&asked, &options).map_err(|e| e.to_string())?;
                self.tokenizer.encode_continuation(&text)
            }
        };
        Ok(Some(ids.map_err(|e| e.to_string())?).filter(|ids| !ids.is_empty()))
    }
}

/// The messages of a row: its own, or its text as a user's.
fn messages(example: &Example) -> std::result::Result<Vec<Message>, String> {
    if example.turns.is_empty() {
        return Ok(vec![Message::user(&example.prompt)]);
    }
    example.turns.iter().map(|turn| Message::from_json(&turn.json)).collect()
}

fn with_tools(
    example: &Example,
    options: &TemplateOptions,
) -> std::result::Result<TemplateOptions, String> {
    match &example.tools {
        Some(tools) => options.clone().with_tools(tools),
        None => Ok(options.clone()),
    }
}
