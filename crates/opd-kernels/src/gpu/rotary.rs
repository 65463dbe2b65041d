use candle_core::Tensor;

use super::{
    Arg, Gpu, Grid, Module, accumulator, empty, ids::first_outside, launch, launch::module,
    rms_norm::sum_columns, suffix,
};
use crate::{Error, Heads, Result};

static MODULE: Module = module!("rotate_heads");

const OP: &str = "rotate_heads";

/// Threads of a block: one warp for each head.
const THREADS: usize = 128;
const WARPS: usize = THREADS / 32;

/// Heads of which one warp of the backward takes the gradient, one after the other.
const HEADS_PER_WARP: usize = 64;

/// What [`rotate_heads`](crate::rotate_heads) reads; all contiguous.
pub(crate) struct Rotation<'a> {
    pub(crate) qkv: &'a Tensor,
    pub(crate) heads: Heads,
    /// Weights of the query and the key norm, and epsilon.
    pub(crate) norms: Option<(&'a Tensor, &'a Tensor, f64)>,
    pub(crate) cos: &'a Tensor,
    pub(crate) sin: &'a Tensor,
    pub(crate) positions: &'a Tensor,
}

impl Rotation<'_> {
    fn rows(&self) -> usize {
        self.positions.elem_count()
    }

    fn args(&self) -> Vec<Arg<'_>> {
        let Heads { heads, kv_heads, head_dim } = self.heads;
        vec![
            Arg::Read(self.qkv),
            Arg::Maybe(self.norms.map(|(query, ..)| query)),
            Arg::Maybe(self.norms.map(|(_, key, _)| key)),
            Arg::Read(self.cos),
            Arg::Read(self.sin),
            Arg::Read(self.positions),
            Arg::Int(self.rows()),
            Arg::Int(heads),
            Arg::Int(kv_heads),
            Arg::Int(head_dim),
            Arg::Float(self.norms.map_or(0.0, |(.., eps)| eps)),
        ]
    }

    /// Passes if every position is in the table.
    fn check(&self, gpu: &Gpu) -> Result<()> {
        let len = self.cos.dims()[0];
        match first_outside(gpu, OP, self.positions, len)? {
            None => Ok(()),
            Some((index, got)) => {
                Err(Error::Index { op: OP, what: "position", index, got: got as usize, len })
            }
        }
    }

    /// `[T, total, head_dim]`.
    pub(crate) fn forward(&self, gpu: &Gpu) -> Result<Tensor> {
        self.check(gpu)?;
        let (rows, total) = (self.rows(), self.heads.total());
        let dims = (rows, total, self.heads.head_dim);
        let out = empty(dims, self.qkv.dtype(), self.qkv.device())?;
        let kernel = format!("rotate_heads_{}", suffix(OP, "qkv", self.qkv.dtype())?);
        let mut args = self.args();
        args.push(Arg::Write(&out));
        let blocks = ((rows * total).div_ceil(WARPS), 1);
        launch(gpu, OP, &MODULE, &kernel, Grid { blocks, threads: THREADS, shared: 0 }, &args)?;
        Ok(out)
    }

    /// Gradients of `qkv` `[T, total * head_dim]` and of the norms' weights.
    pub(crate) fn backward(
        &self,
        gpu: &Gpu,
        dy: &Tensor,
    ) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
        self.check(gpu)?;
        let (rows, total, dim) = (self.rows(), self.heads.total(), self.heads.head_dim);
        let (dtype, device) = (self.qkv.dtype(), self.qkv.device());
        let dqkv = empty((rows, total * dim), dtype, device)?;
        let blocks = (rows * total).div_ceil(WARPS * HEADS_PER_WARP);
        let parts = empty((blocks * WARPS, 2 * dim), accumulator(dtype), device)?;
        let kernel = format!("rotate_heads_backward_{}", suffix(OP, "qkv", dtype)?);
        let mut args = self.args();
        let more = [Arg::Read(dy), Arg::Write(&dqkv), Arg::Write(&parts)];
        args.extend(more);
        args.push(Arg::Int(HEADS_PER_WARP));
        let grid = Grid { blocks: (blocks, 1), threads: THREADS, shared: 0 };
        launch(gpu, OP, &MODULE, &kernel, grid, &args)?;
        let norms = match self.norms {
            None => None,
            Some(_) => Some((
                sum_columns(gpu, &parts, 0, dim, dtype)?,
                sum_columns(gpu, &parts, dim, dim, dtype)?,
            )),
        };
        Ok((dqkv, norms))
    }
}
