mod spelled;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

pub use self::spelled::Spelled;
use crate::{Error, Result, files::ModelFiles};

/// The `tokenizer.json` of a model directory.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    path: PathBuf,
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Whether a model has a tokenizer: `tokenizer.json` of a directory, or a vocabulary in its
    /// GGUF file.
    pub fn exists(path: impl AsRef<Path>) -> bool {
        // What cannot be read is not missing: loading will say what is wrong with it.
        Self::file(path).map_or(true, |found| found.is_some())
    }

    /// The content of a model's `tokenizer.json`, or the one that its GGUF file stands for; `None`
    /// if it has none.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::load`].
    pub fn file(path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        let found = ModelFiles::open(path.as_ref())?.read("tokenizer.json")?;
        Ok(found.map(|(_, content)| content))
    }

    /// Reads `tokenizer.json` from a model directory, or the tokenizer of a GGUF file.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] or [`Error::Gguf`], naming the file.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let files = ModelFiles::open(dir.as_ref())?;
        let Some((path, content)) = files.read("tokenizer.json")? else {
            let path = files.place("tokenizer.json");
            let what = "there is no such file; copy it from the model's repository".to_owned();
            return Err(Error::Tokenizer { path, what });
        };
        match tokenizers::Tokenizer::from_bytes(content) {
            Ok(inner) => Ok(Self { path, inner }),
            Err(error) => Err(Error::Tokenizer { path, what: error.to_string() }),
        }
    }

    /// Token ids of a text, with the special tokens that the tokenizer's template adds.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.inner
            .encode(text, true)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(self.bad())
    }

    /// Token ids of a text that goes on after another one: no special tokens are added.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`].
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.inner
            .encode(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(self.bad())
    }

    /// The same with the bytes of the text that each id stands for.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`].
    pub fn encode_spans(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>> {
        let encoding = self.inner.encode(text, false).map_err(self.bad())?;
        let spans = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(spans).collect())
    }

    /// Text of token ids, without special tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(self.bad())
    }

    /// The token of an id as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// One more than the greatest id.
    pub fn size(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Passes if `other` gives every token of either vocabulary the same id.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] naming the first token on which they differ.
    pub fn check_same(&self, other: &Self) -> Result<()> {
        let sorted = |tokenizer: &Self| -> BTreeMap<String, u32> {
            tokenizer.inner.get_vocab(true).into_iter().collect()
        };
        let (mine, theirs) = (sorted(self), sorted(other));
        let differing = mine.iter().find(|(token, id)| theirs.get(*token) != Some(id));
        let extra = theirs.iter().find(|(token, _)| !mine.contains_key(*token));
        let Some((token, _)) = differing.or(extra) else { return Ok(()) };
        let say = |id: Option<&u32>| id.map_or("no id".to_owned(), |id| format!("id {id}"));
        let what = format!(
            "another tokenizer than {}: token {token:?} has {} there and {} here; teacher and student must share one tokenizer",
            self.path.display(),
            say(mine.get(token)),
            say(theirs.get(token)),
        );
        Err(Error::Tokenizer { path: other.path.clone(), what })
    }

    fn bad(&self) -> impl Fn(tokenizers::Error) -> Error + '_ {
        |error| Error::Tokenizer { path: self.path.clone(), what: error.to_string() }
    }
}
