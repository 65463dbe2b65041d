use opd_batch::ScoredSequence;

use crate::{Error, Result};

/// What a server takes: it may refuse anything else, or die of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Tokens of the longest sequence, prompt and response together, if it is known.
    pub longest: Option<usize>,
    /// Ids are below this, if it is known.
    pub vocab_size: Option<usize>,
}

impl Limits {
    /// Passes if every sequence may be sent.
    pub(crate) fn check(&self, teacher: &str, sequences: &[ScoredSequence<'_>]) -> Result<()> {
        let teacher = || teacher.to_owned();
        for (row, sequence) in sequences.iter().enumerate() {
            if sequence.response.is_empty() {
                continue;
            }
            if sequence.prompt.is_empty() {
                return Err(Error::EmptyPrompt { teacher: teacher(), row });
            }
            let length = sequence.prompt.len() + sequence.response.len();
            if let Some(longest) = self.longest.filter(|&longest| length > longest) {
                return Err(Error::TooLong { teacher: teacher(), row, length, longest });
            }
            let Some(vocab_size) = self.vocab_size else { continue };
            let mut tokens = sequence.prompt.iter().chain(sequence.response).enumerate();
            if let Some((place, &id)) = tokens.find(|(_, id)| **id as usize >= vocab_size) {
                return Err(Error::TokenId { teacher: teacher(), row, place, id, vocab_size });
            }
        }
        Ok(())
    }
}
