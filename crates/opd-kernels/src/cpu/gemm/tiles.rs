use std::ops::Range;

use super::{Matrix, buffer::with_buffer};
use crate::{
    EncodedMatrix, Products,
    cpu::{Stored, View},
    encoded::PackedValues,
};

/// A matrix `[N, K]` whose values are made in f32 when they are read, a part at a time.
pub(crate) trait Tiles: Sync {
    /// `[N, K]`.
    fn shape(&self) -> [usize; 2];

    /// Values of some rows and columns, rows back to back.
    ///
    /// # Panics
    ///
    /// If they are not inside, or `out` has another length.
    fn decode(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]);

    /// What these products read without decoding anything, if it is held so.
    fn as_read(&self, _: Products) -> Option<PackedValues> {
        None
    }
}

impl Tiles for EncodedMatrix {
    fn shape(&self) -> [usize; 2] {
        *self.dims()
    }

    fn decode(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        EncodedMatrix::decode(self, rows, columns, out);
    }

    fn as_read(&self, products: Products) -> Option<PackedValues> {
        EncodedMatrix::as_read(self, products)
    }
}

impl<S: Stored<Wide = f32>> Tiles for Matrix<'_, S> {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.cols()]
    }

    fn decode(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let part = self.part(rows, columns);
        assert_eq!(out.len(), part.rows() * part.cols(), "values of a part");
        if out.is_empty() {
            return;
        }
        let (values, row_stride, col_stride) =
            (part.values(), part.row_stride(), part.col_stride());
        let (rows, cols) = (part.rows(), part.cols());
        match (row_stride, col_stride) {
            (_, 1) => {
                for (i, out) in out.chunks_exact_mut(cols).enumerate() {
                    S::widen(&values[i * row_stride..][..cols], out);
                }
            }
            (1, _) => with_buffer(rows, |column: &mut [f32]| {
                for j in 0..cols {
                    S::widen(&values[j * col_stride..][..rows], column);
                    for (i, value) in column.iter().enumerate() {
                        out[i * cols + j] = *value;
                    }
                }
            }),
            _ => {
                for (at, out) in out.iter_mut().enumerate() {
                    let from = at / cols * row_stride + at % cols * col_stride;
                    S::widen(&values[from..=from], std::slice::from_mut(out));
                }
            }
        }
    }
}

/// Adjacent rows of a matrix.
pub(crate) struct RowTiles<'a> {
    pub(crate) of: &'a dyn Tiles,
    pub(crate) rows: Range<usize>,
}

impl Tiles for RowTiles<'_> {
    fn shape(&self) -> [usize; 2] {
        let [_, columns] = self.of.shape();
        [self.rows.len(), columns]
    }

    fn decode(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let first = self.rows.start;
        self.of.decode(first + rows.start..first + rows.end, columns, out);
    }

    fn as_read(&self, products: Products) -> Option<PackedValues> {
        let [rows, _] = self.of.shape();
        if self.rows == (0..rows) { self.of.as_read(products) } else { None }
    }
}

/// The values of a tensor `[N, K]` whose rows are back to back.
pub(crate) struct TensorTiles<'a, S> {
    pub(crate) values: View<'a, S>,
    pub(crate) shape: [usize; 2],
}

impl<S: Stored<Wide = f32>> Tiles for TensorTiles<'_, S> {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }

    fn decode(&self, rows: Range<usize>, columns: Range<usize>, out: &mut [f32]) {
        let [n, k] = self.shape;
        Tiles::decode(&Matrix::row_major(&self.values, n, k), rows, columns, out);
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{Matrix, Tiles};

    #[test]
    fn parts_of_every_layout_are_the_same_values() {
        let (rows, cols) = (5, 7);
        let value = |i: usize, j: usize| f16::from_f32((10 * i + j) as f32);
        let at = |strides: (usize, usize)| {
            let mut values = vec![f16::NAN; rows * 20 + cols * 20];
            for i in 0..rows {
                for j in 0..cols {
                    values[i * strides.0 + j * strides.1] = value(i, j);
                }
            }
            values
        };
        for strides in [(cols, 1), (9, 1), (1, rows), (1, 6), (16, 2)] {
            let values = at(strides);
            let matrix = Matrix::new(&values, rows, cols, strides.0, strides.1);
            let mut out = vec![0.0; 2 * 3];
            matrix.decode(2..4, 4..7, &mut out);
            assert_eq!(out, [24.0, 25.0, 26.0, 34.0, 35.0, 36.0], "{strides:?}");
            assert_eq!(matrix.shape(), [rows, cols]);
        }
    }
}
