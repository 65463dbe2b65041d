use candle_core::{DType, Tensor};

use super::{Arg, Gpu, Grid, Module, accumulator, empty, launch, launch::module, suffix};
use crate::Result;

static MODULE: Module = module!("rms_norm");

const OP: &str = "rms_norm";

/// Rows whose part of the weight's gradient one block sums.
const ROWS_PER_BLOCK: usize = 32;

/// The norm of `x`, or of `x + delta`; then also that sum.
pub(crate) fn forward(
    gpu: &Gpu,
    x: &Tensor,
    delta: Option<&Tensor>,
    weight: &Tensor,
    eps: f64,
) -> Result<(Option<Tensor>, Tensor)> {
    let width = weight.elem_count();
    let rows = x.elem_count() / width.max(1);
    let out = empty(x.shape(), x.dtype(), x.device())?;
    let sum = delta.map(|_| empty(x.shape(), x.dtype(), x.device())).transpose()?;
    let kernel = format!("rms_norm_{}", suffix(OP, "x", x.dtype())?);
    let args = [
        Arg::Read(x),
        Arg::Maybe(delta),
        Arg::Read(weight),
        sum.as_ref().map_or(Arg::Maybe(None), Arg::Write),
        Arg::Write(&out),
        Arg::Int(width),
        Arg::Float(eps),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::rows(rows, width), &args)?;
    Ok((sum, out))
}

/// Gradients of `x` and `weight`; all contiguous.
pub(crate) fn backward(
    gpu: &Gpu,
    (x, weight): (&Tensor, &Tensor),
    dy: &Tensor,
    residual: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let width = weight.elem_count();
    let rows = x.elem_count() / width.max(1);
    let dx = empty(x.shape(), x.dtype(), x.device())?;
    let blocks = rows.div_ceil(ROWS_PER_BLOCK);
    let parts = empty((blocks, width), accumulator(x.dtype()), x.device())?;
    let kernel = format!("rms_norm_backward_{}", suffix(OP, "x", x.dtype())?);
    let args = [
        Arg::Read(x),
        Arg::Read(weight),
        Arg::Read(dy),
        Arg::Maybe(residual),
        Arg::Write(&dx),
        Arg::Write(&parts),
        Arg::Int(rows),
        Arg::Int(width),
        Arg::Float(eps),
        Arg::Int(ROWS_PER_BLOCK),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::rows(blocks, width), &args)?;
    Ok((dx, sum_columns(gpu, &parts, 0, width, x.dtype())?))
}

/// Sums over rows, first to last, of columns `first..first + width` of `parts`.
pub(super) fn sum_columns(
    gpu: &Gpu,
    parts: &Tensor,
    first: usize,
    width: usize,
    dtype: DType,
) -> Result<Tensor> {
    let (n, stride) = parts.dims2()?;
    let out = empty(width, dtype, parts.device())?;
    let kernel = format!("sum_columns_{}", suffix(OP, "weight", dtype)?);
    let args = [
        Arg::Read(parts),
        Arg::Write(&out),
        Arg::Int(n),
        Arg::Int(width),
        Arg::Int(stride),
        Arg::Int(first),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::values(width), &args)?;
    Ok(out)
}
