use candle_core::Tensor;

use super::{Arg, Gpu, Grid, Module, check_ids, empty, launch, launch::module, suffix};
use crate::Result;

static MODULE: Module = module!("rows");

/// Threads of a block: the ids that one looks through at a time.
const THREADS: usize = 256;

fn grid(rows: usize) -> Grid {
    Grid { blocks: (rows, 1), threads: THREADS, shared: 0 }
}

/// Rows `ids` of a contiguous `[V, H]`.
pub(crate) fn gather(gpu: &Gpu, op: &'static str, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let (vocab, width) = table.dims2()?;
    check_ids(gpu, op, ids, vocab)?;
    let n = ids.elem_count();
    let out = empty((n, width), table.dtype(), table.device())?;
    let name = format!("gather_rows_{}", suffix(op, "weight", table.dtype())?);
    let args = [Arg::Read(table), Arg::Read(ids), Arg::Write(&out), Arg::Int(width)];
    launch(gpu, op, &MODULE, &name, grid(n), &args)?;
    Ok(out)
}

/// Adds row `t` of contiguous `rows` to row `ids[t]` of `sums`, in the order of `t`.
pub(crate) fn scatter_add(
    gpu: &Gpu,
    op: &'static str,
    sums: &Tensor,
    ids: &Tensor,
    rows: &Tensor,
) -> Result<()> {
    let (vocab, width) = sums.dims2()?;
    check_ids(gpu, op, ids, vocab)?;
    let n = ids.elem_count();
    let name = format!("scatter_add_rows_{}", suffix(op, "sums", sums.dtype())?);
    let args = [Arg::Write(sums), Arg::Read(ids), Arg::Read(rows), Arg::Int(n), Arg::Int(width)];
    launch(gpu, op, &MODULE, &name, grid(n), &args)
}

/// Copies row `i` of `source`, whose rows are `stride` values apart, over row `rows[i]` of `cache`,
/// rows of `width` values. All `rows` exist.
pub(crate) fn write(
    gpu: &Gpu,
    op: &'static str,
    cache: &Tensor,
    rows: &[usize],
    source: &Tensor,
    width: usize,
) -> Result<()> {
    let numbers: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    let numbers = Tensor::from_vec(numbers, rows.len(), cache.device())?;
    let name = format!("write_rows_{}", suffix(op, "cache", cache.dtype())?);
    let stride = source.stride().first().copied().unwrap_or(0);
    let args = [
        Arg::Write(cache),
        Arg::Read(&numbers),
        Arg::Read(source),
        Arg::Int(rows.len()),
        Arg::Int(width),
        Arg::Int(stride),
    ];
    launch(gpu, op, &MODULE, &name, grid(rows.len()), &args)
}
