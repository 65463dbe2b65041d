use crate::{Error, Result, Rows};

/// One `T` per token: packed values plus their [`Rows`].
///
/// Streams of one batch share their rows, so that a value can never meet the value of
/// another token; misaligned streams are an error, not a broadcast.
///
/// ```
/// use opd_batch::Ragged;
///
/// let logprobs = Ragged::from_rows([vec![-0.1, -0.7], vec![], vec![-2.3]]);
/// assert_eq!(logprobs.values(), [-0.1, -0.7, -2.3]);
/// assert_eq!(logprobs.iter().map(<[_]>::len).collect::<Vec<_>>(), [2, 0, 1]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Ragged<T> {
    rows: Rows,
    values: Vec<T>,
}

impl<T> Ragged<T> {
    /// Cuts packed `values` into `rows`; `what` names the stream in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if `values` does not hold `rows.n_tokens()` values.
    pub fn new(what: &'static str, rows: Rows, values: Vec<T>) -> Result<Self> {
        let (expected, got) = (rows.n_tokens(), values.len());
        if got != expected {
            return Err(Error::Length { what, expected, got });
        }
        Ok(Self { rows, values })
    }

    /// Packs one `Vec` per row.
    pub fn from_rows(rows: impl IntoIterator<Item = Vec<T>>) -> Self {
        let mut values = Vec::new();
        let mut lengths = Vec::new();
        for row in rows {
            lengths.push(row.len());
            values.extend(row);
        }
        Self { rows: Rows::from_lengths(lengths), values }
    }

    /// The same value for every token.
    pub fn filled(rows: Rows, value: T) -> Self
    where
        T: Clone,
    {
        let values = vec![value; rows.n_tokens()];
        Self { rows, values }
    }

    /// Row boundaries; clone them to build a stream with the same rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// All values, `[T]`, rows back to back.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// All values, to be changed in place; the rows stay.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// All values, given up.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    /// Values of row `row`, or `None` beyond the last.
    pub fn row(&self, row: usize) -> Option<&[T]> {
        self.rows.range(row).map(|range| &self.values[range])
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[T]> {
        self.rows.ranges().map(|range| &self.values[range])
    }

    /// A value from each value, in the same rows.
    pub fn map<U>(&self, f: impl FnMut(&T) -> U) -> Ragged<U> {
        Ragged { rows: self.rows.clone(), values: self.values.iter().map(f).collect() }
    }

    /// Combines two streams token by token; `what` names `other` in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] if the two do not share row boundaries.
    pub fn zip_with<U, V>(
        &self,
        other: &Ragged<U>,
        what: &'static str,
        mut f: impl FnMut(&T, &U) -> V,
    ) -> Result<Ragged<V>> {
        other.check_rows(&self.rows, what)?;
        let pairs = self.values.iter().zip(&other.values);
        Ok(Ragged { rows: self.rows.clone(), values: pairs.map(|(a, b)| f(a, b)).collect() })
    }

    /// The given rows, in the given order.
    ///
    /// # Errors
    ///
    /// [`Error::RowIndex`] if there is no such row.
    pub fn select(&self, rows: &[usize]) -> Result<Self>
    where
        T: Clone,
    {
        let n_rows = self.rows.n_rows();
        let mut values = Vec::new();
        let mut lengths = Vec::with_capacity(rows.len());
        for &row in rows {
            let row = self.row(row).ok_or(Error::RowIndex { row, n_rows })?;
            values.extend_from_slice(row);
            lengths.push(row.len());
        }
        Ok(Self { rows: Rows::from_lengths(lengths), values })
    }

    /// Passes if this stream has these row boundaries.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] naming `what` if it has others.
    pub fn check_rows(&self, rows: &Rows, what: &'static str) -> Result<()> {
        if self.rows == *rows { Ok(()) } else { Err(Error::Rows { what }) }
    }
}

impl Ragged<f32> {
    /// Passes if every value is finite.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`] with the row and token of the first value that is not.
    pub fn check_finite(&self, what: &'static str) -> Result<()> {
        match self.values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let (row, token) = self.rows.locate(at).unwrap_or_default();
                Err(Error::NotFinite { what, row, token, value: self.values[at] })
            }
        }
    }
}
