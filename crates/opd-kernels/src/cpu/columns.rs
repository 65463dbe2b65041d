use candle_core::{CpuStorage, Layout, Shape, Tensor, WithDType};

use crate::Result;

/// `N` statistics of each row, stored as `[N, T]`, so that each statistic is contiguous.
pub(crate) struct Columns<T, const N: usize> {
    values: Vec<T>,
    rows: usize,
}

impl<T: WithDType + Default, const N: usize> Columns<T, N> {
    /// Zeros for `rows` rows.
    pub(crate) fn new(rows: usize) -> Self {
        Self { values: vec![T::default(); N * rows], rows }
    }

    /// The statistics of rows `first..`.
    pub(crate) fn set(&mut self, first: usize, statistics: impl IntoIterator<Item = [T; N]>) {
        for (i, statistics) in statistics.into_iter().enumerate() {
            for (k, value) in statistics.into_iter().enumerate() {
                self.values[k * self.rows + first + i] = value;
            }
        }
    }

    /// As a tensor `[N, T]`.
    pub(crate) fn into_tensor(self) -> Result<Tensor> {
        super::tensor(self.values, (N, self.rows))
    }

    /// As the result of an op.
    pub(crate) fn into_storage(self) -> (CpuStorage, Shape) {
        (T::to_cpu_storage_owned(self.values), Shape::from((N, self.rows)))
    }
}

/// `N` statistics of each row, read from `[N, T]`.
#[derive(Clone, Copy)]
pub(crate) struct ColumnsView<'a, T, const N: usize> {
    values: &'a [T],
    rows: usize,
}

impl<'a, T: Copy, const N: usize> ColumnsView<'a, T, N> {
    /// `values` is `[N, T]`.
    pub(crate) fn new(values: &'a [T]) -> Self {
        Self { values, rows: values.len() / N }
    }

    /// The statistics of row `row`.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> [T; N] {
        std::array::from_fn(|k| self.values[k * self.rows + row])
    }
}

/// The values of an op's contiguous argument.
pub(crate) fn argument<'a, T: WithDType>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let values = T::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(candle_core::Error::RequiresContiguous { op }.into()),
    }
}
