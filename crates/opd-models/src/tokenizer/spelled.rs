use super::Tokenizer;
use crate::Result;

/// What a decoder writes for bytes that are no UTF-8.
const INVALID: char = '\u{fffd}';

/// The text of some ids, and where it can be cut between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelled {
    /// The text, as far as the ids spell one: up to bytes that are no UTF-8 (or U+FFFD, which
    /// decoders write for them), or a special token.
    pub text: String,
    /// Places of the text, in order, at which a token ends: `(tokens, bytes)` before each. A
    /// token that ends inside a character is cut from the next one nowhere.
    pub cuts: Vec<(usize, usize)>,
}

impl Tokenizer {
    /// Spells `ids`, which go on after `context`.
    ///
    /// Special tokens have no text: in the context they are left out, among `ids` the text ends
    /// at the first.
    pub fn spell(&self, context: &[u32], ids: &[u32]) -> Spelled {
        let mut stream = self.inner.decode_stream(true);
        for &id in context {
            // What cannot be decoded here is no part of the text.
            let _ = stream.step(id);
        }
        let mut spelled = Spelled::default();
        for (i, &id) in ids.iter().enumerate() {
            if self.is_special(id) {
                break;
            }
            match stream.step(id) {
                Ok(Some(text)) if text.contains(INVALID) => break,
                Ok(Some(text)) => {
                    spelled.text.push_str(&text);
                    spelled.cuts.push((i + 1, spelled.text.len()));
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
        spelled
    }

    /// Whether an id is of a special token, which stands for no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.get_added_vocabulary().is_special_token(&self.token(id).unwrap_or_default())
    }

    /// Ids of `prompt` and of the `response` that follows it, cut between the two.
    ///
    /// They are cut as one text where a token ends between them, and each by itself where one
    /// would reach across.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`](crate::Error::Tokenizer).
    pub fn encode_pair(&self, prompt: &str, response: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let mut ids = self.encode(&format!("{prompt}{response}"))?;
        let apart = self.encode(prompt)?;
        if ids.starts_with(&apart) {
            let rest = ids.split_off(apart.len());
            return Ok((ids, rest));
        }
        Ok((apart, self.encode_continuation(response)?))
    }
}
