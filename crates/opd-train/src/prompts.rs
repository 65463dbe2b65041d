use std::{collections::BTreeSet, path::Path, sync::Arc};

use opd_batch::Source;
use opd_data::{BadRow, Example, Fields, PromptSet, TokenSpool, UsedRows};
use opd_models::{ModelConfig, Tokenizer};

use crate::{PromptReader, Result, written::Written};

/// A prompt with its token ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// What the file says.
    pub example: Example,
    /// Token ids that the student is asked.
    pub tokens: Vec<u32>,
    /// Token ids that the teacher is asked, where these are others.
    pub teacher_tokens: Option<Vec<u32>>,
    /// What follows in a conversation that ends with an answer.
    pub written: Option<Written>,
}

/// Prompt files and the token ids of each prompt, on the disk; clones share them.
#[derive(Clone, Debug)]
pub struct TokenizedPrompts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    set: PromptSet,
    /// [`Record`]s.
    records: TokenSpool,
    longest: usize,
    sources: BTreeSet<Source>,
}

impl TokenizedPrompts {
    /// Reads and tokenises a file of texts; every prompt must leave room for `response` tokens.
    /// [`PromptReader`] has more to choose.
    ///
    /// # Errors
    ///
    /// Those of [`PromptReader::read`].
    pub fn load(
        path: &Path,
        fields: &Fields,
        tokenizer: &Tokenizer,
        model: &ModelConfig,
        response: usize,
    ) -> Result<Self> {
        let reader = PromptReader::new(tokenizer, model, response);
        PromptReader { fields: fields.clone(), ..reader }.read(&[path])
    }

    pub(crate) fn new(
        set: PromptSet,
        records: TokenSpool,
        longest: usize,
        sources: BTreeSet<Source>,
    ) -> Self {
        Self(Arc::new(Inner { set, records, longest, sources }))
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.0.set.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.set.is_empty()
    }

    /// A prompt, read anew; `None` beyond the last.
    ///
    /// # Errors
    ///
    /// [`Error::Data`](crate::Error::Data) if a file was changed since.
    pub fn get(&self, index: usize) -> Result<Option<Prompt>> {
        let example = self.0.set.get(index)?;
        let record = self.0.records.get(index)?;
        Ok(example.zip(record).map(|(example, record)| Record::read(&record).prompt(example)))
    }

    /// Several prompts, without those beyond the last.
    ///
    /// # Errors
    ///
    /// Those of [`Self::get`].
    pub fn get_all(&self, indices: impl IntoIterator<Item = usize>) -> Result<Vec<Prompt>> {
        indices.into_iter().filter_map(|index| self.get(index).transpose()).collect()
    }

    /// Where the prompts come from, each once.
    pub fn sources(&self) -> impl Iterator<Item = Source> + '_ {
        self.0.sources.iter().cloned()
    }

    /// Which prompts step `step` (from 0) takes.
    pub fn batch(&self, seed: u64, step: u64, n: usize) -> Vec<usize> {
        self.0.set.batch(seed, step, n)
    }

    /// The same in the order of the rows, file after file.
    pub fn in_order(&self, step: u64, n: usize) -> Vec<usize> {
        self.0.set.in_order(step, n)
    }

    /// Which rows of each file are used, in the order of the files.
    pub fn files(&self) -> &[UsedRows] {
        self.0.set.files()
    }

    /// Where a prompt stands: its file, and its line or row from 1; `None` beyond the last.
    pub fn place(&self, index: usize) -> Option<(&Path, u64)> {
        self.0.set.place(index)
    }

    /// Tokens of the longest prompt, the teacher's included.
    pub fn longest(&self) -> usize {
        self.0.longest
    }

    /// Bad rows that were left out, and rows that were too long for `data.max_prompt_tokens`.
    pub fn left_out(&self) -> (u64, u64) {
        (self.0.set.n_bad(), self.0.set.n_dropped())
    }

    /// The first of the bad rows.
    pub fn bad(&self) -> &[BadRow] {
        self.0.set.bad()
    }
}

/// The ids of a prompt as one list: three lists, each behind its length and one more, or 0 for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Record {
    pub(crate) tokens: Vec<u32>,
    pub(crate) teacher_tokens: Option<Vec<u32>>,
    pub(crate) written: Option<Written>,
}

impl Record {
    pub(crate) fn list(&self) -> Vec<u32> {
        let marked = self.written.as_ref().map(Written::marked);
        let mut list = Vec::new();
        for part in [Some(&self.tokens), self.teacher_tokens.as_ref(), marked.as_ref()] {
            list.push(part.map_or(0, |part| part.len() as u32 + 1));
            list.extend(part.into_iter().flatten());
        }
        list
    }

    fn read(mut list: &[u32]) -> Self {
        let tokens = part(&mut list).unwrap_or_default();
        let teacher_tokens = part(&mut list);
        let written = part(&mut list).map(|marked| Written::from_marked(&marked));
        Self { tokens, teacher_tokens, written }
    }

    fn prompt(self, example: Example) -> Prompt {
        let Self { tokens, teacher_tokens, written } = self;
        Prompt { example, tokens, teacher_tokens, written }
    }
}

/// Takes the next part of a record.
fn part(list: &mut &[u32]) -> Option<Vec<u32>> {
    let (&n, rest) = list.split_first()?;
    let n = (n as usize).saturating_sub(1);
    let (part, behind) = rest.split_at_checked(n)?;
    let is_there = list[0] > 0;
    *list = behind;
    is_there.then(|| part.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let written = Written { response: vec![7, 8, 9], mask: vec![true, false, true] };
        for teacher_tokens in [None, Some(vec![]), Some(vec![3, 4])] {
            for written in [None, Some(written.clone())] {
                let tokens = vec![1, 2];
                let record = Record { tokens, teacher_tokens: teacher_tokens.clone(), written };
                assert_eq!(Record::read(&record.list()), record);
            }
        }
    }
}
