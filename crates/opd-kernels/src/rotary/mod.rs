mod rows;
mod table;

use candle_core::{D, Tensor};

use self::rows::{row_backward, row_forward};
pub use self::table::RotaryTable;
use crate::{
    Error, Result,
    cpu::{self, Element, Stored, by_stored, dispatch, with_rooms},
    gpu::{self, rotary::Rotation},
    shape, stored,
};

const OP: &str = "rotate_heads";

/// How the rows of a fused query-key-value projection are cut into heads.
///
/// A row holds `heads` queries, `kv_heads` keys, then `kv_heads` values of `head_dim` each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Values per head; even.
    pub head_dim: usize,
}

impl Heads {
    /// Heads in one fused row.
    pub fn total(&self) -> usize {
        self.heads + 2 * self.kv_heads
    }
}

/// RMS norm of each query and key head (Qwen3): weights `[head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct HeadNorms<'a> {
    /// Weight of the query norm.
    pub query: &'a Tensor,
    /// Weight of the key norm.
    pub key: &'a Tensor,
    /// Added to the mean square.
    pub eps: f64,
}

/// Gradients of [`rotate_heads`].
#[derive(Debug)]
pub struct RotateHeadsGradients {
    /// With respect to `qkv`.
    pub qkv: Tensor,
    /// With respect to the query and key norms' weights, if there are norms.
    pub norms: Option<(Tensor, Tensor)>,
}

/// Norms (where given) and rotates the queries and keys of a fused projection; values pass.
///
/// `qkv` is `[T, total * head_dim]`, `positions` `[T]` (u32); the result is
/// `[T, total, head_dim]`, of the dtype of the table: that of `qkv`, or on the CPU f32 for values that
/// were stored in bf16 or f16. Those are computed in f32 and rounded once. Rotation pairs value `i`
/// with value `i + head_dim / 2`:
///
/// ```text
/// y_i = x_i cos - x_{i+h} sin,   y_{i+h} = x_{i+h} cos + x_i sin,   h = head_dim / 2
/// ```
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], or [`Error::Index`] for a position beyond the table.
///
/// Source: Su et al. 2021, <https://arxiv.org/abs/2104.09864>.
pub fn rotate_heads(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<HeadNorms<'_>>,
    table: &RotaryTable,
    positions: &Tensor,
) -> Result<Tensor> {
    check(qkv, heads, norms, table, positions)?;
    let (qkv, positions) = (qkv.contiguous()?, positions.contiguous()?);
    let norms = norms.map(Contiguous::new).transpose()?;
    if let Some(gpu) = gpu::of(&qkv) {
        return rotation(&qkv, heads, norms.as_ref(), table, &positions).forward(&gpu);
    }
    let own = table.cos().dtype() == qkv.dtype();
    by_stored!(OP, qkv, S => match own {
        true => forward::<S, S>(&qkv, heads, norms.as_ref(), table, &positions),
        false => forward::<S, <S as Stored>::Wide>(&qkv, heads, norms.as_ref(), table, &positions),
    })
}

/// From values stored as `S` to values stored as `O`, which is also the dtype of table and norms.
fn forward<S: Stored, O: Stored<Wide = S::Wide>>(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<&Contiguous>,
    table: &RotaryTable,
    positions: &Tensor,
) -> Result<Tensor> {
    let rows = qkv.dims()[0];
    let input = cpu::view::<S>(OP, qkv)?;
    let (cos, sin) = (cpu::view::<O>(OP, table.cos())?, cpu::view::<O>(OP, table.sin())?);
    let positions = cpu::view::<u32>(OP, positions)?;
    check_positions(&positions, table)?;
    let norms = norms.map(Contiguous::widened::<O>).transpose()?;
    let norms = norms.as_ref().map(|(q, k, eps)| (&**q, &**k, *eps));
    let (dim, width) = (heads.head_dim, heads.total() * heads.head_dim);
    let (input, cos, sin): (&[S], &[O], &[O]) = (&input, &cos, &sin);
    let positions: &[u32] = &positions;
    let mut out = vec![O::default(); rows * width];
    cpu::for_rows(&mut out, width, |first, rows| {
        with_rooms::<S, 1, _>(width, |[input_room]| {
            with_rooms::<O, 3, _>(width, |[out_room, cos_room, sin_room]| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                            let from = (first + i) * width;
                            let x = S::read(&input[from..][..width], input_room);
                            let at = positions[first + i] as usize * (dim / 2);
                            let cos = O::read(&cos[at..][..dim / 2], cos_room);
                            let sin = O::read(&sin[at..][..dim / 2], sin_room);
                            O::write(
                                row,
                                out_room,
                                #[inline(always)]
                                |y| row_forward(y, x, heads, norms, cos, sin),
                            );
                        }
                    },
                );
            });
        });
    });
    cpu::tensor(out, (rows, heads.total(), dim))
}

/// Gradients of [`rotate_heads`] from the gradient `dy` of its result,
/// `[T, total, head_dim]`.
///
/// # Errors
///
/// As [`rotate_heads`].
pub fn rotate_heads_backward(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<HeadNorms<'_>>,
    table: &RotaryTable,
    positions: &Tensor,
    dy: &Tensor,
) -> Result<RotateHeadsGradients> {
    let rows = check(qkv, heads, norms, table, positions)?;
    shape::expect(OP, "dy", dy, &[rows, heads.total(), heads.head_dim], "[T, total, head_dim]")?;
    shape::same_dtype(OP, "dy", dy, table.cos().dtype())?;
    let (qkv, positions, dy) = (qkv.contiguous()?, positions.contiguous()?, dy.contiguous()?);
    let norms = norms.map(Contiguous::new).transpose()?;
    if let Some(gpu) = gpu::of(&qkv) {
        let rotation = rotation(&qkv, heads, norms.as_ref(), table, &positions);
        let (qkv, norms) = rotation.backward(&gpu, &dy)?;
        return Ok(RotateHeadsGradients { qkv, norms });
    }
    let (given, own) = ((&qkv, &dy), dy.dtype() == qkv.dtype());
    by_stored!(OP, qkv, S => match own {
        true => backward::<S, S>(given, heads, norms.as_ref(), table, &positions),
        false => backward::<S, <S as Stored>::Wide>(given, heads, norms.as_ref(), table, &positions),
    })
}

/// As [`forward`]; gradients are stored as `O`.
fn backward<S: Stored, O: Stored<Wide = S::Wide>>(
    (qkv, dy): (&Tensor, &Tensor),
    heads: Heads,
    norms: Option<&Contiguous>,
    table: &RotaryTable,
    positions: &Tensor,
) -> Result<RotateHeadsGradients> {
    let (rows, dim, width) = (qkv.dims()[0], heads.head_dim, heads.total() * heads.head_dim);
    let (input, dy) = (cpu::view::<S>(OP, qkv)?, cpu::view::<O>(OP, dy)?);
    let (cos, sin) = (cpu::view::<O>(OP, table.cos())?, cpu::view::<O>(OP, table.sin())?);
    let positions = cpu::view::<u32>(OP, positions)?;
    check_positions(&positions, table)?;
    let weights = norms.map(Contiguous::widened::<O>).transpose()?;
    let norms = weights.as_ref().map(|(q, k, eps)| (&**q, &**k, *eps));
    let (input, dy): (&[S], &[O]) = (&input, &dy);
    let (cos, sin, positions): (&[O], &[O], &[u32]) = (&cos, &sin, &positions);
    let mut out = vec![O::default(); rows * width];
    let partial = cpu::map_rows(&mut out, width, |first, rows| {
        let mut dweights = vec![0.0; 2 * dim];
        let mut unrotated = vec![O::Wide::ZERO; dim];
        with_rooms::<S, 1, _>(width, |[input_room]| {
            with_rooms::<O, 4, _>(width, |[dy_room, out_room, cos_room, sin_room]| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                            let from = (first + i) * width;
                            let x = S::read(&input[from..][..width], input_room);
                            let dy = O::read(&dy[from..][..width], dy_room);
                            let at = positions[first + i] as usize * (dim / 2);
                            let cos = O::read(&cos[at..][..dim / 2], cos_room);
                            let sin = O::read(&sin[at..][..dim / 2], sin_room);
                            let sums = (&mut *dweights, &mut *unrotated);
                            O::write(
                                row,
                                out_room,
                                #[inline(always)]
                                |dx| row_backward(dx, sums, x, dy, heads, norms, cos, sin),
                            );
                        }
                    },
                );
            });
        });
        dweights
    });
    let norms = if weights.is_some() {
        let mut query = cpu::rounded_sums::<O>(partial, 2 * dim);
        let key = query.split_off(dim);
        Some((cpu::tensor(query, dim)?, cpu::tensor(key, dim)?))
    } else {
        None
    };
    Ok(RotateHeadsGradients { qkv: cpu::tensor(out, (rows, width))?, norms })
}

fn rotation<'a>(
    qkv: &'a Tensor,
    heads: Heads,
    norms: Option<&'a Contiguous>,
    table: &'a RotaryTable,
    positions: &'a Tensor,
) -> Rotation<'a> {
    let norms = norms.map(|norms| (&norms.query, &norms.key, norms.eps));
    Rotation { qkv, heads, norms, cos: table.cos(), sin: table.sin(), positions }
}

struct Contiguous {
    query: Tensor,
    key: Tensor,
    eps: f64,
}

/// Weights of queries and of keys, and what is added to the mean square.
type WideNorms<T> = (Vec<T>, Vec<T>, f64);

impl Contiguous {
    fn new(norms: HeadNorms<'_>) -> Result<Self> {
        let (query, key) = (norms.query.contiguous()?, norms.key.contiguous()?);
        Ok(Self { query, key, eps: norms.eps })
    }

    /// As they are computed with.
    fn widened<S: Stored>(&self) -> Result<WideNorms<S::Wide>> {
        let wide = |weight: &Tensor| Ok::<_, Error>(cpu::widened(&cpu::view::<S>(OP, weight)?));
        Ok((wide(&self.query)?, wide(&self.key)?, self.eps))
    }
}

fn check(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<HeadNorms<'_>>,
    table: &RotaryTable,
    positions: &Tensor,
) -> Result<usize> {
    let (rows, _) = shape::rows_of(OP, "qkv", qkv)?;
    let dim = heads.head_dim;
    if dim == 0 || !dim.is_multiple_of(2) {
        let (what, expected) = ("head_dim", "even and above 0");
        return Err(Error::Setting { op: OP, what, expected, got: dim as f64 });
    }
    if heads.kv_heads == 0 || !heads.heads.is_multiple_of(heads.kv_heads) {
        let (what, expected) = ("heads", "a multiple of kv_heads, which is above 0");
        return Err(Error::Setting { op: OP, what, expected, got: heads.heads as f64 });
    }
    shape::expect(OP, "qkv", qkv, &[rows, heads.total() * dim], "[T, total * head_dim]")?;
    shape::expect(OP, "positions", positions, &[rows], "[T]")?;
    shape::indices(OP, "positions", positions)?;
    stored::check_partner(OP, "rotary table", table.cos(), qkv)?;
    let dtype = table.cos().dtype();
    let half = table.cos().dim(D::Minus1)?;
    if half != dim / 2 {
        let (what, expected) = ("width of the rotary table", "head_dim / 2");
        return Err(Error::Setting { op: OP, what, expected, got: half as f64 });
    }
    if let Some(norms) = norms {
        shape::expect(OP, "query norm", norms.query, &[dim], "[head_dim]")?;
        shape::expect(OP, "key norm", norms.key, &[dim], "[head_dim]")?;
        shape::same_dtype(OP, "query norm", norms.query, dtype)?;
        shape::same_dtype(OP, "key norm", norms.key, dtype)?;
    }
    Ok(rows)
}

fn check_positions(positions: &[u32], table: &RotaryTable) -> Result<()> {
    let len = table.n_positions();
    match positions.iter().position(|&position| position as usize >= len) {
        None => Ok(()),
        Some(index) => {
            let got = positions[index] as usize;
            Err(Error::Index { op: OP, what: "position", index, got, len })
        }
    }
}
