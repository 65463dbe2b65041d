use candle_core::{DType, Tensor};

use super::{Arg, Gpu, Grid, address, launch, token_rows::MODULE};
use crate::{Error, Result};

/// Passes if every one of the contiguous `ids` is below `limit`.
///
/// A kernel finds the first that is not; one number comes back from the device.
pub(crate) fn check_ids(gpu: &Gpu, op: &'static str, ids: &Tensor, limit: usize) -> Result<()> {
    match first_outside(gpu, op, ids, limit)? {
        None => Ok(()),
        Some((position, id)) => Err(Error::TokenId { op, position, id, vocab: limit }),
    }
}

/// Place and value of the first of the contiguous `ids` that is not below `limit`.
pub(crate) fn first_outside(
    gpu: &Gpu,
    op: &'static str,
    ids: &Tensor,
    limit: usize,
) -> Result<Option<(usize, u32)>> {
    let first = address::empty(1, DType::U32, ids.device())?;
    let limit = limit.min(u32::MAX as usize);
    let args = [Arg::Read(ids), Arg::Int(ids.elem_count()), Arg::Int(limit), Arg::Write(&first)];
    launch(gpu, op, &MODULE, "first_outside", Grid::one(512), &args)?;
    let position = first.to_vec1::<u32>()?.first().copied().unwrap_or(u32::MAX) as usize;
    if position >= ids.elem_count() {
        return Ok(None);
    }
    let id = ids.flatten_all()?.narrow(0, position, 1)?.to_vec1::<u32>()?;
    Ok(Some((position, id.first().copied().unwrap_or(u32::MAX))))
}
