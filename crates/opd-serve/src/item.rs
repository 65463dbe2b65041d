/// A sequence to be scored, and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The sequence, at least one token, each within the vocabulary.
    pub tokens: Vec<u32>,
    /// Tokens behind this place are scored: `start + 1 ..`; nothing where it is the last.
    pub start: usize,
    /// Logits are divided by this before the softmax; above 0.
    pub temperature: f32,
    /// Likeliest ids wanted per scored token.
    pub top: usize,
    /// Further ids whose log-probs are wanted per scored token.
    pub named: NamedIds,
    /// Whether the rank of each scored token is wanted.
    pub rank: bool,
    /// What is wanted of the position behind the last token.
    pub next: NextToken,
}

impl Item {
    /// Number of scored tokens.
    pub fn n_scored(&self) -> usize {
        self.tokens.len().saturating_sub(self.start + 1)
    }

    /// Tokens that a forward must read: none that predicts nothing wanted.
    pub(crate) fn fed(&self) -> &[u32] {
        match (&self.next, self.n_scored()) {
            (NextToken::Ignored, 0) => &[],
            (NextToken::Ignored, _) => &self.tokens[..self.tokens.len() - 1],
            _ => &self.tokens,
        }
    }

    /// The first token that is asked what follows it; the number of tokens if none is.
    pub(crate) fn first_asked(&self) -> usize {
        match (&self.next, self.n_scored()) {
            (NextToken::Ignored, 0) => self.tokens.len(),
            (_, 0) => self.tokens.len() - 1,
            _ => self.start,
        }
    }

    /// Ids wanted of scored token `j`, from 0.
    pub(crate) fn named_at(&self, j: usize) -> &[u32] {
        match &self.named {
            NamedIds::None => &[],
            NamedIds::Same(ids) => ids,
            NamedIds::PerToken(lists) => lists.get(j).map_or(&[], Vec::as_slice),
        }
    }

    /// Ids wanted of the position behind the last token.
    pub(crate) fn named_next(&self) -> &[u32] {
        match &self.named {
            NamedIds::Same(ids) => ids,
            _ => &[],
        }
    }
}

/// Ids that a caller names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamedIds {
    /// None.
    #[default]
    None,
    /// The same ids for every token.
    Same(Vec<u32>),
    /// One list for each scored token.
    PerToken(Vec<Vec<u32>>),
}

/// What is wanted of the position behind the last token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum NextToken {
    /// Nothing: the last token is not computed.
    #[default]
    Ignored,
    /// Its likeliest and named ids.
    Distribution,
    /// The likeliest token, ties by the lowest id.
    Greedy,
    /// A draw from the softmax at the item's temperature.
    Random {
        /// Only the likeliest ids are drawn; 0 for all.
        top_k: usize,
        /// Only the likeliest ids that together reach this probability are drawn.
        top_p: f64,
        /// Only ids of at least this times the likeliest one's probability are drawn.
        min_p: f64,
        /// Fixes the draw.
        seed: u64,
    },
}

/// Log-probs (nats) of one position.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Of the token that stands there, or was drawn.
    pub logprob: f32,
    /// Its rank, if wanted.
    pub rank: Option<usize>,
    /// Of the ids that the item names.
    pub named: Vec<f32>,
    /// The likeliest ids, likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// What became of an [`Item`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// One per scored token.
    pub positions: Vec<Position>,
    /// The next token and its position, if wanted; no token for [`NextToken::Distribution`].
    pub next: Option<(Option<u32>, Position)>,
    /// Tokens that were computed for another sequence.
    pub shared: usize,
}
