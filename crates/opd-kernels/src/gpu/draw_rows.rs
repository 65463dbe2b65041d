use candle_core::{DType, Tensor};

use super::{Arg, Gpu, Grid, Module, empty, launch, launch::module, suffix};
use crate::{Error, Result, draw::BLOCK};

static MODULE: Module = module!("draw_rows");

/// Sums of weights, of [`BLOCK`] logits each, that a block of threads has room for.
const MOST_PARTS: usize = (96 << 10) / size_of::<f64>();

/// A token of each contiguous row `[T, V]`, drawn by its number of 0..1, or the likeliest of each; `None`
/// where the row is no distribution. The ids come back from the device.
pub(crate) fn forward(
    gpu: &Gpu,
    op: &'static str,
    logits: &Tensor,
    drawn: Option<(f64, &[f64])>,
) -> Result<Vec<Option<u32>>> {
    let (rows, width) = logits.dims2()?;
    let parts = width.div_ceil(BLOCK);
    if parts > MOST_PARTS {
        let expected = format!("[T, at most {}]", MOST_PARTS * BLOCK);
        return Err(Error::Shape { op, what: "logits", expected, got: vec![rows, width] });
    }
    let device = logits.device();
    let temperature = drawn.map_or(0.0, |(temperature, _)| temperature);
    let uniforms = drawn.map(|(_, uniforms)| Tensor::from_slice(uniforms, rows, device));
    let uniforms = uniforms.transpose()?;
    let ids = empty(rows, DType::U32, device)?;
    let kernel = format!("draw_rows_{}", suffix(op, "logits", logits.dtype())?);
    let grid = Grid { shared: parts * size_of::<f64>(), ..Grid::rows(rows, width) };
    let args = [
        Arg::Read(logits),
        Arg::Maybe(uniforms.as_ref()),
        Arg::Write(&ids),
        Arg::Int(width),
        Arg::Float(temperature),
    ];
    launch(gpu, op, &MODULE, &kernel, grid, &args)?;
    let ids: Vec<u32> = ids.to_vec1()?;
    Ok(ids.into_iter().map(|id| (id != u32::MAX).then_some(id)).collect())
}
