use candle_core::{DType, Tensor};

use super::{
    Arg, Gpu, Grid, Module, accumulator, empty, launch, launch::module, suffix, token_rows,
};
use crate::{Error, Result, Softmax, TokenOptions, cpu::token_rows::STATISTICS};

static MODULE: Module = module!("score_rows");

/// Most further ids of a row; as in the kernels.
const MOST_IDS: usize = 1024;

/// What is asked of rows of a tensor on a GPU.
#[derive(Debug)]
pub(crate) struct Asked {
    op: &'static str,
    /// `[T]`.
    ids: Tensor,
    /// `[T, k]`: before the forward the named ids, then also the likeliest; `None` for none.
    further: Option<Tensor>,
    found: usize,
    softmax: Softmax,
    entropy: bool,
}

impl Asked {
    /// Of contiguous checked `ids` and options; checks the named ids.
    pub(crate) fn new(
        gpu: &Gpu,
        op: &'static str,
        ids: Tensor,
        options: &TokenOptions<'_>,
        width: usize,
    ) -> Result<Self> {
        let (found, all) = (options.found(), options.found() + options.n_named());
        if all > MOST_IDS {
            let (what, expected) = ("named and likeliest ids of a row", "at most 1024 on a GPU");
            return Err(Error::Setting { op, what, expected, got: all as f64 });
        }
        let further = options.device_named(gpu, op, width)?;
        let &TokenOptions { softmax, entropy, .. } = options;
        Ok(Self { op, ids, further, found, softmax, entropy })
    }

    /// The ids and the further ids of `n` rows from `first` on.
    fn of_rows(&self, first: usize, n: usize) -> Result<(Tensor, Option<Tensor>)> {
        let further = self.further.as_ref().map(|further| further.narrow(0, first, n));
        Ok((self.ids.narrow(0, first, n)?, further.transpose()?))
    }

    /// Values `[5 + k, n]` and likeliest ids `[n, found]` of contiguous rows `first..`.
    pub(crate) fn forward(
        &self,
        gpu: &Gpu,
        logits: &Tensor,
        first: usize,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let (ids, named) = self.of_rows(first, logits.dims()[0])?;
        let beside = (named.as_ref(), self.found);
        forward(gpu, self.op, (logits, &ids), beside, self.softmax, self.entropy)
    }

    /// What the backward asks, from the likeliest ids of all rows.
    pub(crate) fn with_found(self, found: Option<&Tensor>) -> Result<Self> {
        let further = match (self.further, found) {
            (Some(named), Some(found)) => Some(Tensor::cat(&[&named, found], 1)?.contiguous()?),
            (named, found) => named.or(found.cloned()),
        };
        Ok(Self { further, ..self })
    }

    /// Gradient of the logits of rows `first..` from the values and their gradients `[5 + k, T]` of all
    /// rows, into `out`, which may share its memory with `logits`.
    pub(crate) fn backward(
        &self,
        gpu: &Gpu,
        logits: &Tensor,
        first: usize,
        (values, upstream): (&Tensor, &Tensor),
        out: &Tensor,
    ) -> Result<()> {
        let rows = logits.dims()[0];
        let of_rows = |all: &Tensor| all.narrow(1, first, rows)?.contiguous();
        let statistics = (&of_rows(values)?, &of_rows(upstream)?);
        let (ids, further) = self.of_rows(first, rows)?;
        let place = (logits, &ids);
        backward(gpu, self.op, place, further.as_ref(), statistics, out, self.softmax)
    }
}

/// The cap as kernels take it: 0 stands for none.
fn cap(softmax: Softmax) -> f64 {
    softmax.soft_cap.unwrap_or(0.0)
}

/// Values `[5 + k, T]` of contiguous rows `[T, V]`, in f32: log-prob of the id, log-sum-exp, entropy (0 where
/// it is not wanted), maximum, log-sum, log-probs of the named ids `[T, n]` and of the likeliest, whose ids
/// are `[T, found]`.
pub(crate) fn forward(
    gpu: &Gpu,
    op: &'static str,
    (logits, ids): (&Tensor, &Tensor),
    (named, found): (Option<&Tensor>, usize),
    softmax: Softmax,
    entropy: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    let n_named = named.map_or(0, |named| named.dims()[1]);
    if n_named + found == 0 && softmax.soft_cap.is_none() {
        return Ok((token_rows::forward(gpu, logits, ids, softmax.temperature, entropy)?, None));
    }
    let (rows, width) = logits.dims2()?;
    let (dtype, device) = (logits.dtype(), logits.device());
    let out = empty((STATISTICS + n_named + found, rows), accumulator(dtype), device)?;
    let likeliest = (found > 0).then(|| empty((rows, found), DType::U32, device)).transpose()?;
    let args = [
        Arg::Read(logits),
        Arg::Read(ids),
        Arg::Maybe(named),
        Arg::Write(&out),
        likeliest.as_ref().map_or(Arg::Maybe(None), Arg::Write),
        Arg::Int(rows),
        Arg::Int(width),
        Arg::Int(n_named),
        Arg::Int(found),
        Arg::Float(softmax.temperature),
        Arg::Float(cap(softmax)),
    ];
    let kernel = format!("score_rows_forward_{}", suffix(op, "logits", dtype)?);
    launch(gpu, op, &MODULE, &kernel, Grid::rows(rows, width), &args)?;
    Ok((out, likeliest))
}

/// Gradient of the logits from contiguous values and their gradients `[5 + k, T]`, into `out`, which may share
/// its memory with `logits`. `further` is `[T, k]`.
pub(crate) fn backward(
    gpu: &Gpu,
    op: &'static str,
    (logits, ids): (&Tensor, &Tensor),
    further: Option<&Tensor>,
    (saved, upstream): (&Tensor, &Tensor),
    out: &Tensor,
    softmax: Softmax,
) -> Result<()> {
    if further.is_none() && softmax.soft_cap.is_none() {
        let temperature = softmax.temperature;
        return token_rows::backward(gpu, (logits, ids), saved, upstream, out, temperature);
    }
    let (rows, width) = logits.dims2()?;
    let (from, to) = (suffix(op, "logits", logits.dtype())?, suffix(op, "out", out.dtype())?);
    let kernel = match logits.dtype() == out.dtype() {
        true => format!("score_rows_backward_{from}"),
        false => format!("score_rows_backward_{from}_{to}"),
    };
    let args = [
        Arg::Read(logits),
        Arg::Read(ids),
        Arg::Maybe(further),
        Arg::Read(saved),
        Arg::Read(upstream),
        Arg::Write(out),
        Arg::Int(rows),
        Arg::Int(width),
        Arg::Int(further.map_or(0, |further| further.dims()[1])),
        Arg::Float(softmax.temperature),
        Arg::Float(cap(softmax)),
    ];
    launch(gpu, op, &MODULE, &kernel, Grid::rows(rows, width), &args)
}
