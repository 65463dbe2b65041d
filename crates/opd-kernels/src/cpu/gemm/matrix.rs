use std::{marker::PhantomData, ops::Range};

/// A strided matrix that is read.
///
/// Element `(i, j)` is `values[i * row_stride + j * col_stride]`; a stride may be 0.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows x cols` elements of `values` at these strides.
    ///
    /// # Panics
    ///
    /// If the last element lies outside `values`: the kernels rely on it.
    #[inline]
    pub(crate) fn new(
        values: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        assert!(extent(rows, cols, row_stride, col_stride) <= values.len(), "matrix ends outside");
        Self { values, rows, cols, row_stride, col_stride }
    }

    /// Rows back to back.
    #[inline]
    pub(crate) fn row_major(values: &'a [T], rows: usize, cols: usize) -> Self {
        Self::new(values, rows, cols, cols, 1)
    }

    /// The transpose; nothing moves.
    #[inline]
    pub(crate) fn t(self) -> Self {
        let Self { values, rows, cols, row_stride, col_stride } = self;
        Self { values, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Some rows and columns; nothing moves.
    ///
    /// # Panics
    ///
    /// If they are not inside.
    pub(super) fn part(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && cols.end <= self.cols, "a part outside");
        let first = rows.start * self.row_stride + cols.start * self.col_stride;
        let values = self.values.get(first..).unwrap_or(&[]);
        Self::new(values, rows.len(), cols.len(), self.row_stride, self.col_stride)
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    #[inline]
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    #[inline]
    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    #[inline]
    pub(super) fn col_stride(&self) -> usize {
        self.col_stride
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *const T {
        self.values.as_ptr()
    }

    /// What the matrix is cut from.
    #[inline]
    pub(super) fn values(&self) -> &'a [T] {
        self.values
    }
}

/// A matrix that is written: columns are adjacent, rows `row_stride` apart.
pub(crate) struct MatrixMut<'a, T> {
    values: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<'a, T> MatrixMut<'a, T> {
    /// `rows x cols` elements of `values`, rows `row_stride` apart.
    ///
    /// # Panics
    ///
    /// If rows overlap, or the last element lies outside `values`: the kernels rely on it.
    #[inline]
    pub(crate) fn new(values: &'a mut [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        // SAFETY: the borrow is exclusive.
        unsafe { Self::from_raw(values.as_mut_ptr(), values.len(), rows, cols, row_stride) }
    }

    /// [`MatrixMut::new`] within the `len` values at `values`, of which those between the rows may
    /// be somebody else's.
    ///
    /// # Safety
    ///
    /// The matrix's own values may be written for as long as the result lives, by nobody else.
    ///
    /// # Panics
    ///
    /// As [`MatrixMut::new`].
    #[inline]
    pub(crate) unsafe fn from_raw(
        values: *mut T,
        len: usize,
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> Self {
        assert!(rows <= 1 || row_stride >= cols, "rows overlap");
        assert!(extent(rows, cols, row_stride, 1) <= len, "matrix ends outside");
        Self { values, rows, cols, row_stride, borrow: PhantomData }
    }

    /// The same matrix for a shorter time.
    #[inline]
    pub(crate) fn reborrow(&mut self) -> MatrixMut<'_, T> {
        MatrixMut { borrow: PhantomData, ..*self }
    }

    /// Rows back to back.
    #[inline]
    pub(crate) fn row_major(values: &'a mut [T], rows: usize, cols: usize) -> Self {
        Self::new(values, rows, cols, cols)
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    #[inline]
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    #[inline]
    pub(super) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(super) fn fill(&mut self, value: T)
    where
        T: Copy,
    {
        for row in 0..self.rows {
            for col in 0..self.cols {
                // SAFETY: `MatrixMut::new` checked that (row, col) is inside; this borrow alone
                // may write.
                unsafe { *self.values.add(row * self.row_stride + col) = value }
            }
        }
    }

    #[inline]
    pub(super) fn as_mut_ptr(&mut self) -> *mut T {
        self.values
    }
}

/// A new vector of `rows x cols` values, rows back to back.
///
/// `write` must write all of them and read none.
pub(super) fn collect<T>(rows: usize, cols: usize, write: impl FnOnce(MatrixMut<'_, T>)) -> Vec<T> {
    let len = rows * cols;
    let mut values = Vec::with_capacity(len);
    write(MatrixMut {
        values: values.as_mut_ptr(),
        rows,
        cols,
        row_stride: cols,
        borrow: PhantomData,
    });
    // SAFETY: the capacity is `len`, and `write` has written all of it.
    unsafe { values.set_len(len) };
    values
}

/// One more than the highest index of a `rows x cols` matrix; 0 if it is empty.
fn extent(rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> usize {
    if rows == 0 || cols == 0 {
        return 0;
    }
    let last = (rows - 1)
        .checked_mul(row_stride)
        .zip((cols - 1).checked_mul(col_stride))
        .and_then(|(row, col)| row.checked_add(col)?.checked_add(1));
    last.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Matrix, MatrixMut};

    #[test]
    fn the_last_element_may_touch_the_end() {
        let values = [0.0f32; 11];
        Matrix::new(&values, 3, 3, 4, 1);
        Matrix::new(&values, 0, 9, 100, 100);
        MatrixMut::new(&mut values.clone(), 3, 3, 4);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_matrix_past_the_end_is_refused() {
        Matrix::new(&[0.0f32; 10], 3, 3, 4, 1);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn an_extent_that_overflows_is_refused() {
        Matrix::new(&[0.0f32; 10], 3, 2, usize::MAX / 2, 1);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_are_refused() {
        MatrixMut::new(&mut [0.0f32; 10], 3, 3, 2);
    }
}
