//! Values that a forward keeps in a narrower dtype than the CPU computes in.

use candle_core::{DType, Tensor};

use crate::{Error, Result, gpu};

/// Passes if `tensor` may meet the stored values of `stored`: it has their dtype, or on the CPU that
/// in which they are computed. A GPU's kernels compute in that which they are given.
pub(crate) fn check_partner(
    op: &'static str,
    what: &'static str,
    tensor: &Tensor,
    stored: &Tensor,
) -> Result<()> {
    check_dtype(op, what, tensor.dtype(), stored)
}

/// [`check_partner`] of a tensor of this dtype.
pub(crate) fn check_dtype(
    op: &'static str,
    what: &'static str,
    got: DType,
    stored: &Tensor,
) -> Result<()> {
    let own = stored.dtype();
    let narrow = matches!(own, DType::BF16 | DType::F16) && gpu::of(stored).is_none();
    if got == own || narrow && got == DType::F32 {
        return Ok(());
    }
    Err(Error::DType { op, what, got, remedy: "give all tensors one dtype" })
}
