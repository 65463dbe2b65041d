use std::{ops::Range, sync::Arc};

/// Row boundaries, shared by every stream over the same tokens.
///
/// Holds `n_rows + 1` offsets that start at 0 and never decrease. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows(Arc<[usize]>);

impl Rows {
    /// Boundaries of rows with these lengths; a length may be 0.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let ends = lengths.into_iter().map(|length| {
            end += length;
            end
        });
        Self(std::iter::once(0).chain(ends).collect())
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.0.len() - 1
    }

    /// Number of tokens in all rows together.
    pub fn n_tokens(&self) -> usize {
        self.0[self.n_rows()]
    }

    /// Where each row lies in the packed values.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + '_ {
        self.0.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// Number of tokens of each row.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.ranges().map(|range| range.len())
    }

    /// Where row `row` lies, or `None` beyond the last.
    pub fn range(&self, row: usize) -> Option<Range<usize>> {
        Some(*self.0.get(row)?..*self.0.get(row + 1)?)
    }

    /// Row and place within it of the packed token `token`, or `None` beyond the last.
    pub fn locate(&self, token: usize) -> Option<(usize, usize)> {
        if token >= self.n_tokens() {
            return None;
        }
        let row = self.0.partition_point(|&offset| offset <= token) - 1;
        Some((row, token - self.0[row]))
    }
}
