use std::ops::Range;

/// A part of a matrix of logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) rows: Range<usize>,
    /// Adjacent ids of the vocabulary, from the start of a [`BLOCK`](super::softmax::BLOCK) on.
    pub(crate) ids: Range<usize>,
}

impl Part {
    /// Whole rows over `vocab` ids.
    pub(crate) fn of_rows(rows: Range<usize>, vocab: usize) -> Self {
        Self { rows, ids: 0..vocab }
    }
}
