/// A product of two matrices, by which index is summed over: the three of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `a b^T`
    RowsByRows,
    /// `a b`
    RowsByColumns,
    /// `a^T b`
    ColumnsByColumns,
}
