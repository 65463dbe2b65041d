use candle_core::{Device, Tensor};

use super::{Arg, Gpu, Grid, Module, accumulator, empty, launch, launch::module, suffix};
use crate::{Error, Heads, Result, Spans};

static MODULE: Module = module!("attention");

const OP: &str = "attention";

/// Vectors of a block, one for each warp; as in the kernels.
const VECTORS: usize = 8;
const WARP: usize = 32;

/// Most values of a head: 32 lanes hold 8 each. The backward's blocks then take 48.2 KiB of shared memory.
const MOST_DIM: usize = 256;

/// Where the blocks of the kernels find their rows.
struct Plan {
    /// `[n, 6]`: the spans.
    spans: Tensor,
    /// `[n, 2]`: span and first vector of each block over queries.
    tiles: Tensor,
    n_tiles: usize,
}

impl Plan {
    fn new(spans: &Spans, heads: Heads, device: &Device) -> Result<Self> {
        let group = heads.heads / heads.kv_heads;
        let mut numbers = Vec::with_capacity(6 * spans.spans().len());
        let mut tiles = Vec::new();
        for (i, span) in spans.spans().iter().enumerate() {
            for range in [&span.queries, &span.prefix, &span.keys] {
                numbers.extend([range.start as u32, range.len() as u32]);
            }
            let vectors = span.queries.len() * group;
            tiles.extend((0..vectors).step_by(VECTORS).flat_map(|first| [i as u32, first as u32]));
        }
        let n_tiles = tiles.len() / 2;
        Ok(Self { spans: table(numbers, device)?, tiles: table(tiles, device)?, n_tiles })
    }

    fn grid(&self, heads: Heads, shared: usize) -> Grid {
        Grid { blocks: (self.n_tiles, heads.kv_heads), threads: VECTORS * WARP, shared }
    }
}

fn table(numbers: Vec<u32>, device: &Device) -> Result<Tensor> {
    let n = numbers.len();
    Ok(Tensor::from_vec(numbers, n, device)?)
}

/// Bytes of a tile of 32 rows and of `vectors` vectors for each warp.
fn shared(heads: Heads, vectors: usize, size: usize) -> usize {
    let dim = heads.head_dim;
    (WARP * (dim + 1) + vectors * VECTORS * dim) * size
}

fn check_dim(heads: Heads) -> Result<()> {
    if heads.head_dim <= MOST_DIM {
        return Ok(());
    }
    let (what, expected) = ("head_dim", "at most 256 on a GPU");
    Err(Error::Setting { op: OP, what, expected, got: heads.head_dim as f64 })
}

/// `out` `[Tq, heads, head_dim]` and `lse` `[Tq, heads]` in f32; rows of the inputs may be strided.
pub(crate) fn forward(
    gpu: &Gpu,
    [q, k, v]: [&Tensor; 3],
    spans: &Spans,
    heads: Heads,
) -> Result<(Tensor, Tensor)> {
    check_dim(heads)?;
    let Heads { heads: n_heads, kv_heads, head_dim } = heads;
    let (rows, device, dtype) = (spans.n_queries(), q.device(), accumulator(q.dtype()));
    // Rows that no span queries are 0.
    let out = Tensor::zeros((rows, n_heads, head_dim), q.dtype(), device)?;
    let lse = Tensor::zeros((rows, n_heads), dtype, device)?;
    let plan = Plan::new(spans, heads, device)?;
    let kernel = format!("attention_{}", suffix(OP, "q", q.dtype())?);
    let mut args = Vec::new();
    for rows in [q, k, v] {
        args.extend([Arg::Read(rows), Arg::Int(rows.stride()[0])]);
    }
    let more = [
        Arg::Read(&plan.spans),
        Arg::Read(&plan.tiles),
        Arg::Write(&out),
        Arg::Write(&lse),
        Arg::Int(n_heads),
        Arg::Int(kv_heads),
        Arg::Int(head_dim),
    ];
    args.extend(more);
    let grid = plan.grid(heads, shared(heads, 1, dtype.size_in_bytes()));
    launch(gpu, OP, &MODULE, &kernel, grid, &args)?;
    Ok((out, lse))
}

/// For each block of [`VECTORS`] key rows, the spans that may read one of them.
fn readers(spans: &Spans) -> (Vec<u32>, Vec<u32>) {
    let mut of_block: Vec<Vec<[u32; 2]>> = vec![Vec::new(); spans.n_keys().div_ceil(VECTORS)];
    for (i, span) in spans.spans().iter().enumerate() {
        for (part, range) in [(0, &span.prefix), (1, &span.keys)] {
            if range.is_empty() || span.queries.is_empty() {
                continue;
            }
            for block in &mut of_block[range.start / VECTORS..=(range.end - 1) / VECTORS] {
                block.push([i as u32, part]);
            }
        }
    }
    let mut starts = vec![0];
    let mut all = Vec::new();
    for block in of_block {
        all.extend(block.into_iter().flatten());
        starts.push((all.len() / 2) as u32);
    }
    (starts, all)
}

/// Gradient of contiguous fused rows `qkv`, from contiguous `out`, `lse` and `dout`.
pub(crate) fn backward(
    gpu: &Gpu,
    qkv: &Tensor,
    heads: Heads,
    spans: &Spans,
    [out, lse, dout]: [&Tensor; 3],
) -> Result<Tensor> {
    check_dim(heads)?;
    let Heads { heads: n_heads, kv_heads, head_dim } = heads;
    let (device, dtype) = (qkv.device(), accumulator(qkv.dtype()));
    let name = suffix(OP, "qkv", qkv.dtype())?;
    let n = spans.n_queries() * n_heads;
    let delta = empty(n, dtype, device)?;
    let args =
        [Arg::Read(out), Arg::Read(dout), Arg::Write(&delta), Arg::Int(n), Arg::Int(head_dim)];
    let grid = Grid { blocks: (n.div_ceil(4), 1), threads: 4 * WARP, shared: 0 };
    launch(gpu, OP, &MODULE, &format!("attention_delta_{name}"), grid, &args)?;

    // Rows that no span queries have gradient 0.
    let dqkv = qkv.zeros_like()?;
    let plan = Plan::new(spans, heads, device)?;
    let sizes = [Arg::Int(n_heads), Arg::Int(kv_heads), Arg::Int(head_dim)];
    let mut args = vec![
        Arg::Read(qkv),
        Arg::Read(dout),
        Arg::Read(lse),
        Arg::Read(&delta),
        Arg::Read(&plan.spans),
        Arg::Read(&plan.tiles),
        Arg::Write(&dqkv),
    ];
    args.extend(sizes);
    let bytes = shared(heads, 2, dtype.size_in_bytes());
    let kernel = format!("attention_queries_{name}");
    launch(gpu, OP, &MODULE, &kernel, plan.grid(heads, bytes), &args)?;

    let (starts, readers) = readers(spans);
    let blocks = (starts.len() - 1, kv_heads);
    let (starts, readers) = (table(starts, device)?, table(readers, device)?);
    let mut args = vec![
        Arg::Read(qkv),
        Arg::Read(dout),
        Arg::Read(lse),
        Arg::Read(&delta),
        Arg::Read(&plan.spans),
        Arg::Read(&starts),
        Arg::Read(&readers),
        Arg::Write(&dqkv),
        Arg::Int(spans.n_keys()),
    ];
    args.extend(sizes);
    let grid = Grid { blocks, threads: VECTORS * WARP, shared: bytes };
    launch(gpu, OP, &MODULE, &format!("attention_keys_{name}"), grid, &args)?;
    Ok(dqkv)
}
