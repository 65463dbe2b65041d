use candle_core::Tensor;

use super::{Arg, Gpu, Grid, Module, empty, launch, launch::module, suffix};
use crate::Result;

static MODULE: Module = module!("scans");

const THREADS: usize = 128;

/// Discounted sums of contiguous `rewards` within rows, or with `baselines` advantages and returns.
pub(crate) fn run(
    gpu: &Gpu,
    op: &'static str,
    rewards: &Tensor,
    baselines: Option<&Tensor>,
    starts: &[usize],
    (gamma, discount): (f64, f64),
) -> Result<(Tensor, Option<Tensor>)> {
    let rows = starts.len().saturating_sub(1);
    let fresh = || empty(rewards.shape(), rewards.dtype(), rewards.device());
    let (out, returns) = (fresh()?, baselines.map(|_| fresh()).transpose()?);
    let starts: Vec<u32> = starts.iter().map(|&start| start as u32).collect();
    let n = starts.len();
    let starts = Tensor::from_vec(starts, n, rewards.device())?;
    let kernel = format!("scan_rows_{}", suffix(op, "rewards", rewards.dtype())?);
    let args = [
        Arg::Read(rewards),
        Arg::Maybe(baselines),
        Arg::Read(&starts),
        Arg::Write(&out),
        returns.as_ref().map_or(Arg::Maybe(None), Arg::Write),
        Arg::Int(rows),
        Arg::Float(gamma),
        Arg::Float(discount),
    ];
    let blocks = (rows.div_ceil(THREADS / 32), 1);
    launch(gpu, op, &MODULE, &kernel, Grid { blocks, threads: THREADS, shared: 0 }, &args)?;
    Ok((out, returns))
}
