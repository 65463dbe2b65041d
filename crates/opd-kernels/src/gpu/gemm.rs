use candle_core::{DType, Tensor};

use super::{Gpu, address};
use crate::{Error, Result, form::Form};

/// What BLAS is told: it knows matrices by columns, so `c = a b` by rows is `c^T = b^T a^T`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    /// Whether the first operand (`b`) and the second (`a`) are turned.
    pub(super) turned: [bool; 2],
    /// Rows and columns of `c^T`, and the index that is summed over.
    pub(super) sizes: [usize; 3],
    /// Distances between columns of `b`, `a` and `c`.
    pub(super) strides: [usize; 3],
}

impl Form {
    fn call(self, a: (usize, usize), b: (usize, usize)) -> Call {
        let (m, k, n, turned) = match self {
            Self::RowsByRows => (a.0, a.1, b.0, [true, false]),
            Self::RowsByColumns => (a.0, a.1, b.1, [false, false]),
            Self::ColumnsByColumns => (a.1, a.0, b.1, [false, true]),
        };
        Call { turned, sizes: [n, m, k], strides: [b.1, a.1, n] }
    }
}

/// Sets contiguous `c` to the product of contiguous `a` and `b`, or adds it with `add`, with sums in
/// f32. `a` and `b` have one dtype; `c` has the same, or f32.
pub(crate) fn product(
    gpu: &Gpu,
    op: &'static str,
    form: Form,
    (a, b): (&Tensor, &Tensor),
    c: &Tensor,
    add: bool,
) -> Result<()> {
    let call = form.call(a.dims2()?, b.dims2()?);
    let [n, m, k] = call.sizes;
    if n == 0 || m == 0 || (k == 0 && add) {
        return Ok(());
    }
    if c.dtype() != a.dtype() && c.dtype() != DType::F32 {
        let remedy = "give the product the operands' dtype, or f32";
        return Err(Error::DType { op, what: "product", got: c.dtype(), remedy });
    }
    let (from, to) = ([address::read(op, b)?, address::read(op, a)?], address::write(op, c)?);
    let dtypes = (a.dtype(), c.dtype());
    match gpu {
        #[cfg(feature = "cuda")]
        Gpu::Cuda(device) => super::cuda::gemm(op, device, call, dtypes, (from, to), add),
        #[cfg(any(test, feature = "cuda-host"))]
        Gpu::Host(_) => super::host::gemm(op, call, dtypes, (from, to), add),
        #[cfg(not(any(test, feature = "cuda", feature = "cuda-host")))]
        _ => match *gpu {},
    }
}
