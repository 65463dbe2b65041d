use candle_core::{DType, Tensor};

use super::{Arg, Gpu, Grid, Module, accumulator, empty, launch, launch::module, suffix};
use crate::{Result, cpu::token_rows::STATISTICS};

pub(super) static MODULE: Module = module!("token_rows");

const OP: &str = "token_logprobs";

/// Statistics `[5, T]` of contiguous rows `[T, V]`, in f32: log-prob of the id, log-sum-exp,
/// entropy (0 where it is not wanted), maximum, log-sum.
pub(super) fn forward(
    gpu: &Gpu,
    logits: &Tensor,
    ids: &Tensor,
    temperature: f64,
    entropy: bool,
) -> Result<Tensor> {
    let (rows, width) = logits.dims2()?;
    let kernel = format!("token_rows_forward_{}", suffix(OP, "logits", logits.dtype())?);
    let out = empty((STATISTICS, rows), accumulator(logits.dtype()), logits.device())?;
    let args = [
        Arg::Read(logits),
        Arg::Read(ids),
        Arg::Write(&out),
        Arg::Int(rows),
        Arg::Int(width),
        Arg::Float(temperature),
        Arg::Int(usize::from(entropy)),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::rows(rows, width), &args)?;
    Ok(out)
}

/// Gradient of the logits from contiguous statistics and their gradients `[5, T]`, into `out`,
/// which may share its memory with `logits`.
pub(super) fn backward(
    gpu: &Gpu,
    (logits, ids): (&Tensor, &Tensor),
    saved: &Tensor,
    upstream: &Tensor,
    out: &Tensor,
    temperature: f64,
) -> Result<()> {
    let (rows, width) = logits.dims2()?;
    let (from, to) = (suffix(OP, "logits", logits.dtype())?, suffix(OP, "out", out.dtype())?);
    let kernel = match logits.dtype() == out.dtype() {
        true => format!("token_rows_backward_{from}"),
        false => format!("token_rows_backward_{from}_{to}"),
    };
    debug_assert!(logits.dtype() == out.dtype() || logits.dtype() == DType::F32);
    let args = [
        Arg::Read(logits),
        Arg::Read(ids),
        Arg::Read(saved),
        Arg::Read(upstream),
        Arg::Write(out),
        Arg::Int(rows),
        Arg::Int(width),
        Arg::Float(temperature),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::rows(rows, width), &args)
}
