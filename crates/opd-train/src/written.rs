use std::ops::Range;

use opd_data::Turn;
use opd_models::{ChatTemplate, Message, TemplateOptions, Tokenizer};

/// What follows a prompt in a conversation: answers, and what others say between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Token ids from the first answer to the end of the last.
    pub response: Vec<u32>,
    /// Which of them the assistant wrote.
    pub mask: Vec<bool>,
}

/// Marks an id that the assistant wrote.
const MARK: u32 = 1 << 31;

impl Written {
    /// Ids with their masks as the highest bit.
    pub(crate) fn marked(&self) -> Vec<u32> {
        let pairs = self.response.iter().zip(&self.mask);
        pairs.map(|(&id, &own)| if own { id | MARK } else { id }).collect()
    }

    pub(crate) fn from_marked(marked: &[u32]) -> Self {
        Self {
            response: marked.iter().map(|id| id & !MARK).collect(),
            mask: marked.iter().map(|id| id & MARK != 0).collect(),
        }
    }
}

/// Cuts conversations into a prompt and what is learned from.
pub(crate) struct Cutter<'a> {
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) template: &'a ChatTemplate,
    /// Tokens that end an answer.
    pub(crate) ends: Vec<String>,
}

impl Cutter<'_> {
    /// The ids before the first answer, and those from there to the end of the last one.
    ///
    /// The whole conversation is written once. An answer starts where the text of the turns before
    /// it, with the template's prompt for an answer, ends; it ends with its end token, or where the
    /// text up to it does. A turn with `"step_loss_mask": 0` is not learned from.
    pub(crate) fn cut(
        &self,
        turns: &[Turn],
        messages: &[Message],
        options: &TemplateOptions,
    ) -> Result<(Vec<u32>, Written), String> {
        let text = |n: usize, prompt: bool| {
            let options = options.clone().with_generation_prompt(prompt);
            self.template.render_with(&messages[..n], &options).map_err(|e| e.to_string())
        };
        let whole = text(turns.len(), false)?;
        let (mut first, mut own) = (None, Vec::new());
        for (i, turn) in turns.iter().enumerate().filter(|(_, turn)| turn.role == "assistant") {
            let before = text(i, true)?;
            if !whole.starts_with(&before) {
                return Err(format!(
                    "the chat template writes what stands before answer {i} otherwise once \
                     it is answered, so that it cannot be learned from; give it a row of its own"
                ));
            }
            let start = before.len();
            first = first.or(Some(start));
            let end =
                self.ends.iter().filter_map(|end| Some(whole[start..].find(end)? + end.len()));
            let end = match end.min() {
                Some(length) => start + length,
                None => text(i + 1, false)?.len().clamp(start, whole.len()),
            };
            if !left_out(turn) && whole.is_char_boundary(end) {
                own.push(start..end);
            }
        }
        let first = first.ok_or("the conversation has no answer")?;
        self.split(&whole, first, &own)
    }

    fn split(
        &self,
        whole: &str,
        first: usize,
        own: &[Range<usize>],
    ) -> Result<(Vec<u32>, Written), String> {
        let ids = self.tokenizer.encode_spans(whole).map_err(|error| error.to_string())?;
        let within = |span: &Range<usize>| {
            own.iter().any(|own| own.start <= span.start && span.end <= own.end)
        };
        let at = ids.iter().position(|(_, span)| span.start >= first).unwrap_or(ids.len());
        let (prompt, rest) = ids.split_at(at);
        let n = rest.iter().rposition(|(_, span)| within(span)).map_or(0, |last| last + 1);
        if n == 0 {
            return Err("the conversation has no answer to learn from".to_owned());
        }
        let written = Written {
            response: rest[..n].iter().map(|(id, _)| *id).collect(),
            mask: rest[..n].iter().map(|(_, span)| within(span)).collect(),
        };
        Ok((prompt.iter().map(|(id, _)| *id).collect(), written))
    }
}

/// Whether a turn says that it is not learned from.
fn left_out(turn: &Turn) -> bool {
    let said: Option<serde_json::Value> = serde_json::from_str(&turn.json).ok();
    said.is_some_and(|said| said["step_loss_mask"] == 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PLAIN: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ '<eos>' if m.role != 'system' }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

    /// Thoughts of earlier answers are dropped, and the last answer always has one, as Qwen3 does it.
    const THINKING: &str = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' and loop.last %}<t>{{ m.thought or '' }}</t>{% endif %}{{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

    /// Answers that are cut from other text where they are followed.
    const CHANGING: &str = "{% for m in messages %}{{ m.content if loop.last else m.role }}{% endfor %}{% if add_generation_prompt %}>{% endif %}";

    fn cut(template: &str, turns: &[Turn]) -> Result<(String, String, Vec<String>), String> {
        let dir = tempfile::tempdir().unwrap();
        opd_testkit::write_byte_level(dir.path(), &[("e", "d"), ("o", "s")]);
        fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
        let tokenizer = Tokenizer::load(dir.path()).unwrap();
        let template = ChatTemplate::load(dir.path()).unwrap();
        let messages: Vec<Message> =
            turns.iter().map(|turn| Message::from_json(&turn.json).unwrap()).collect();
        let ends = vec!["<eos>".to_owned()];
        let cutter = Cutter { tokenizer: &tokenizer, template: &template, ends };
        let (prompt, written) = cutter.cut(turns, &messages, &TemplateOptions::default())?;
        assert_eq!(Written::from_marked(&written.marked()), written);
        let text = |ids: &[u32]| {
            let tokens = ids.iter().map(|id| match id {
                0 => "<eos>".to_owned(),
                id => tokenizer.decode(&[*id]).unwrap(),
            });
            tokens.collect::<String>()
        };
        let runs = written.response.iter().zip(&written.mask);
        let mut own = vec![Vec::new()];
        for (id, learned) in runs {
            match learned {
                true => own.last_mut().unwrap().push(*id),
                false if !own.last().unwrap().is_empty() => own.push(Vec::new()),
                false => {}
            }
        }
        let own = own.iter().filter(|ids| !ids.is_empty()).map(|ids| text(ids)).collect();
        Ok((text(&prompt), text(&written.response), own))
    }

    fn conversation() -> Vec<Turn> {
        [
            ("system", "s"),
            ("user", "one"),
            ("assistant", "eins"),
            ("tool", "t"),
            ("assistant", "ended"),
            ("user", "two?"),
            ("assistant", "zwei os"),
        ]
        .map(|(role, text)| Turn::new(role, text))
        .into()
    }

    #[test]
    fn every_answer_is_learned_from_and_nothing_else() {
        let (prompt, response, own) = cut(PLAIN, &conversation()).unwrap();
        assert_eq!(prompt, "[system]s\n[user]one<eos>\n[assistant]");
        assert_eq!(own, ["eins<eos>", "ended<eos>", "zwei os<eos>"]);
        assert!(response.starts_with("eins<eos>\n[tool]t<eos>\n[assistant]ended<eos>"));
        assert!(response.ends_with("[assistant]zwei os<eos>"));
    }

    #[test]
    fn a_template_may_drop_what_was_thought_before() {
        let (prompt, _, own) = cut(THINKING, &conversation()).unwrap();
        assert_eq!(prompt, "[system]s<eos>\n[user]one<eos>\n[assistant]");
        assert_eq!(own, ["eins<eos>", "ended<eos>", "<t></t>zwei os<eos>"]);
    }

    #[test]
    fn a_turn_may_be_left_out() {
        let mut turns = conversation();
        turns[4].json = r#"{"role": "assistant", "content": "ended", "step_loss_mask": 0}"#.into();
        let (.., own) = cut(PLAIN, &turns).unwrap();
        assert_eq!(own, ["eins<eos>", "zwei os<eos>"]);
    }

    #[test]
    fn what_cannot_be_cut_says_why() {
        let error = cut(CHANGING, &conversation()).unwrap_err();
        assert!(error.contains("before answer 2 otherwise"), "{error}");
        let error = cut(PLAIN, &conversation()[..2]).unwrap_err();
        assert_eq!(error, "the conversation has no answer");
    }
}
