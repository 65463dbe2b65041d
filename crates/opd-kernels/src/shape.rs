use candle_core::Tensor;

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
