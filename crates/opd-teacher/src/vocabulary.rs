use std::{collections::HashMap, path::Path};

use opd_models::{Tokenizer, eos_token_ids};

use crate::{Error, Result};

/// A tokenizer and the ids that end a response.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// Ids that end a response; the first is the one that is asked for.
    pub end: Vec<u32>,
}

impl Vocabulary {
    /// Reads `tokenizer.json` of a model directory, and `eos_token_id` of its
    /// `generation_config.json` or `config.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Model`] for a file that cannot be read, [`Error::NoEnd`] where neither file names an id.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let end = eos_token_ids(dir)?;
        if end.is_empty() {
            return Err(Error::NoEnd { dir: dir.to_owned() });
        }
        Ok(Self { tokenizer: Tokenizer::load(dir)?, end })
    }

    /// The id of the same text in `theirs` for each id below `size`; no id of theirs twice. The
    /// ids that end a response are counterparts.
    ///
    /// Parts of characters, special tokens and second spellings of a text have none.
    pub fn counterparts(&self, theirs: &Self, size: usize) -> Vec<Option<u32>> {
        let mut ids: HashMap<String, u32> = HashMap::new();
        for (id, text) in theirs.texts(theirs.tokenizer.size()) {
            ids.entry(text).or_insert(id);
        }
        let mut counterparts = vec![None; size];
        for (id, text) in self.texts(size) {
            counterparts[id as usize] = ids.remove(&text);
        }
        if let (Some(&end), Some(their_end)) = (self.end.first(), theirs.end.first()) {
            for counterpart in &mut counterparts {
                *counterpart = counterpart.filter(|id| id != their_end);
            }
            if let Some(counterpart) = counterparts.get_mut(end as usize) {
                *counterpart = Some(*their_end);
            }
        }
        counterparts
    }

    /// What each id below `size` adds to a text that has begun, if it is text.
    fn texts(&self, size: usize) -> Vec<(u32, String)> {
        let ids = 0..size as u32;
        let text = |before: &[u32], id: u32| {
            let spelled = self.tokenizer.spell(before, &[id]);
            (!spelled.text.is_empty()).then_some((id, spelled.text))
        };
        let Some((begun, _)) = ids.clone().find_map(|id| text(&[], id)) else { return Vec::new() };
        ids.filter_map(|id| text(&[begun], id)).collect()
    }
}
