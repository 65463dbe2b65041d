use candle_core::{DType, Tensor};

use crate::{Error, Result};

/// Passes if `tensor` has these dimensions; `expected` says them in words.
pub(crate) fn expect(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor,
    dims: &[usize],
    expected: &str,
) -> Result<()> {
    if tensor.dims() == dims {
        return Ok(());
    }
    let expected = format!("{expected} = {dims:?}");
    Err(Error::Shape { op, what, expected, got: tensor.dims().to_vec() })
}

/// Rows and width of a tensor whose last dimension is the row.
pub(crate) fn rows_of(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor,
) -> Result<(usize, usize)> {
    match tensor.dims() {
        [] => Err(Error::Shape { op, what, expected: "at least [width]".into(), got: vec![] }),
        [rows @ .., width] => Ok((rows.iter().product(), *width)),
    }
}

/// Passes if `tensor` has the dtype of its partner.
pub(crate) fn same_dtype(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor,
    dtype: DType,
) -> Result<()> {
    if tensor.dtype() == dtype {
        return Ok(());
    }
    let (got, remedy) = (tensor.dtype(), "give all tensors one dtype");
    Err(Error::DType { op, what, got, remedy })
}

/// Passes if `tensor` holds u32 numbers.
pub(crate) fn indices(op: &'static str, what: &'static str, tensor: &Tensor) -> Result<()> {
    match tensor.dtype() {
        DType::U32 => Ok(()),
        got => Err(Error::DType { op, what, got, remedy: "convert it to u32" }),
    }
}

/// Passes if `changed` has a storage of its own: an op that writes one tensor while it reads
/// another of the same storage would wait for itself.
pub(crate) fn distinct(
    op: &'static str,
    (changed, tensor): (&'static str, &Tensor),
    others: &[(&'static str, &Tensor)],
) -> Result<()> {
    let storage = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0).addr();
    match others.iter().find(|(_, other)| storage(other) == storage(tensor)) {
        None => Ok(()),
        Some((other, _)) => Err(Error::Shared { op, changed, other }),
    }
}
