use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A line of `opd score` or `opd generate`: token ids or text.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    tokens: Option<Vec<u32>>,
    prompt_len: Option<usize>,
    prompt: Option<String>,
    response: Option<String>,
    /// Copied through, byte for byte.
    #[serde(default, deserialize_with = "raw")]
    pub(crate) id: Option<Box<RawValue>>,
}

/// What a row holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Text<'a> {
    /// Token ids, with the length of the prompt where it is given.
    Ids { tokens: &'a [u32], prompt_len: Option<usize> },
    /// Text, with a response where there is one.
    Words { prompt: &'a str, response: Option<&'a str> },
}

impl Row {
    /// Which of the two it is.
    pub(crate) fn text(&self) -> Result<Text<'_>, String> {
        match (&self.tokens, &self.prompt) {
            (Some(tokens), None) if tokens.is_empty() => {
                Err("`tokens` is empty; a model needs at least one".to_owned())
            }
            (Some(tokens), None) => Ok(Text::Ids { tokens, prompt_len: self.prompt_len }),
            (None, Some(prompt)) if prompt.is_empty() => Err("`prompt` is empty".to_owned()),
            (None, Some(prompt)) => Ok(Text::Words { prompt, response: self.response.as_deref() }),
            (Some(_), Some(_)) => Err("both `tokens` and `prompt`; give one of them".to_owned()),
            (None, None) => {
                Err("neither `tokens` (token ids) nor `prompt` (text); give one of them".to_owned())
            }
        }
    }
}

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}
