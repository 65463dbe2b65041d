use candle_core::Tensor;

use super::{Arg, Gpu, Grid, Module, empty, launch, launch::module, suffix};
use crate::{Error, Result};

static MODULE: Module = module!("support_rows");

const OP: &str = "linear_support_logprobs";

/// Entropy, maximum, log-sum: they follow the log-probs of a row.
const EXTRA: usize = 3;

/// Most ids of a row; as in the kernels.
const MOST_IDS: usize = 1024;

/// Statistics `[T, k + 3]` of rows of logits in f32 from their `ids` `[T, k]`; all contiguous.
pub(crate) fn forward(
    gpu: &Gpu,
    logits: &Tensor,
    ids: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let ((rows, width), k) = (logits.dims2()?, ids.dims()[1]);
    if k > MOST_IDS {
        let (what, expected) = ("ids of a row", "at most 1024 on a GPU");
        return Err(Error::Setting { op: OP, what, expected, got: k as f64 });
    }
    let out = empty((rows, k + EXTRA), logits.dtype(), logits.device())?;
    let kernel = format!("support_forward_{}", suffix(OP, "logits", logits.dtype())?);
    let args = [
        Arg::Read(logits),
        Arg::Read(ids),
        Arg::Write(&out),
        Arg::Int(width),
        Arg::Int(k),
        Arg::Float(temperature),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::rows(rows, width), &args)?;
    Ok(out)
}

/// Gradient of the logits, into `out`, which may share their memory.
pub(crate) fn backward(
    gpu: &Gpu,
    (logits, ids): (&Tensor, &Tensor),
    saved: &Tensor,
    upstream: &Tensor,
    out: &Tensor,
    temperature: f64,
) -> Result<()> {
    let ((rows, width), k) = (logits.dims2()?, ids.dims()[1]);
    let from = suffix(OP, "logits", logits.dtype())?;
    let kernel = match logits.dtype() == out.dtype() {
        true => format!("support_backward_{from}"),
        false => format!("support_backward_{from}_{}", suffix(OP, "out", out.dtype())?),
    };
    let args = [
        Arg::Read(logits),
        Arg::Read(ids),
        Arg::Read(saved),
        Arg::Read(upstream),
        Arg::Write(out),
        Arg::Int(width),
        Arg::Int(k),
        Arg::Float(temperature),
    ];
    launch(gpu, OP, &MODULE, &kernel, Grid::rows(rows, width), &args)
}
