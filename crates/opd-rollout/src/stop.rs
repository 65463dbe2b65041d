use std::{fmt, sync::Arc};

use opd_models::Tokenizer;

use crate::{Error, Result};

/// Tokens that may stand for no text of their own: parts of a character, special tokens.
const SILENT: usize = 8;

/// Texts that end a response.
///
/// The tokens that complete such a text are part of the response; [`StopStrings::trim`] takes the
/// text off what is read from it.
#[derive(Clone)]
pub struct StopStrings {
    texts: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    longest: usize,
}

impl fmt::Debug for StopStrings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StopStrings").field(&self.texts).finish()
    }
}

impl StopStrings {
    /// Stops at any of `texts`, as `tokenizer` writes them.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if one is empty.
    pub fn new(texts: Vec<String>, tokenizer: Arc<Tokenizer>) -> Result<Self> {
        if texts.iter().any(String::is_empty) {
            let (what, expected) = ("a stop string", "at least one character");
            return Err(Error::Setting { what, expected, got: "\"\"".into() });
        }
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { texts, tokenizer, longest })
    }

    /// Whether a response holds one of the texts, if it held none before its last token.
    pub(crate) fn completed(&self, response: &[u32]) -> Result<bool> {
        let tail = response.len().saturating_sub(self.longest + SILENT);
        let text = self.tokenizer.decode(&response[tail..])?;
        Ok(self.texts.iter().any(|stop| text.contains(stop)))
    }

    /// What stands before the first of the texts; all of `text` if there is none.
    pub fn trim<'a>(&self, text: &'a str) -> &'a str {
        let first = self.texts.iter().filter_map(|stop| text.find(stop)).min();
        &text[..first.unwrap_or(text.len())]
    }
}
