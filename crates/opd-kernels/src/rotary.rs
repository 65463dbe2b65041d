use candle_core::{D, DType, Device, Tensor};

use crate::{
    Error, Result,
    cpu::{self, Element, Stored, by_stored, dispatch, with_rooms},
    gpu::{self, rotary::Rotation},
    rms_norm, shape, stored,
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

/// Cosines and sines of rotary position embedding: each `[P, head_dim / 2]`.
#[derive(Clone, Debug)]
pub struct RotaryTable {
    cos: Tensor,
    sin: Tensor,
}

impl RotaryTable {
    /// Angles `p * inverse_frequencies[i]` for the positions `0..n_positions`.
    ///
    /// # Errors
    ///
    /// If candle cannot make the tensors.
    pub fn new(
        inverse_frequencies: &[f64],
        n_positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let angles = (0..n_positions)
            .flat_map(|p| inverse_frequencies.iter().map(move |frequency| p as f64 * frequency));
        let angles = Tensor::from_vec(
            angles.collect::<Vec<f64>>(),
            (n_positions, inverse_frequencies.len()),
            &Device::Cpu,
        )?;
        let on_device = |t: Tensor| t.to_dtype(dtype)?.to_device(device);
        Ok(Self { cos: on_device(angles.cos()?)?, sin: on_device(angles.sin()?)? })
    }

    /// Cosines and sines times `factor`: queries and keys become longer, so that logits of
    /// attention grow by `factor^2` (YaRN).
    ///
    /// # Errors
    ///
    /// If candle cannot make the tensors.
    pub fn scaled(&self, factor: f64) -> Result<Self> {
        Ok(Self { cos: (&self.cos * factor)?, sin: (&self.sin * factor)? })
    }

    /// The same values in another dtype.
    ///
    /// # Errors
    ///
    /// If candle fails.
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        Ok(Self { cos: self.cos.to_dtype(dtype)?, sin: self.sin.to_dtype(dtype)? })
    }

    /// Cosines, `[P, head_dim / 2]`.
    pub(crate) fn cos(&self) -> &Tensor {
        &self.cos
    }

    /// Sines, `[P, head_dim / 2]`.
    pub(crate) fn sin(&self) -> &Tensor {
        &self.sin
    }

    /// Number of positions.
    pub fn n_positions(&self) -> usize {
        self.cos.dims()[0]
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
    let own = table.cos.dtype() == qkv.dtype();
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
    let (cos, sin) = (cpu::view::<O>(OP, &table.cos)?, cpu::view::<O>(OP, &table.sin)?);
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

#[inline(always)]
fn row_forward<T: Element>(
    y: &mut [T],
    x: &[T],
    heads: Heads,
    norms: Option<(&[T], &[T], f64)>,
    cos: &[T],
    sin: &[T],
) {
    let pairs = y.chunks_exact_mut(heads.head_dim).zip(x.chunks_exact(heads.head_dim));
    for (h, (y, x)) in pairs.enumerate() {
        match (weight_of(h, heads, norms), h < heads.heads + heads.kv_heads) {
            (_, false) => y.copy_from_slice(x),
            (None, true) => rotate(y, x, cos, sin, T::ONE),
            (Some((weight, eps)), true) => {
                let r = rms_norm::inverse_rms(x, eps);
                rotate_scaled(y, x, weight, r, cos, sin);
            }
        }
    }
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
    shape::same_dtype(OP, "dy", dy, table.cos.dtype())?;
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
    let (cos, sin) = (cpu::view::<O>(OP, &table.cos)?, cpu::view::<O>(OP, &table.sin)?);
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

/// Writes `dx` and adds to the weights' gradients, queries' before keys'; `unrotated` is room.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn row_backward<T: Element>(
    dx: &mut [T],
    (dweights, unrotated): (&mut [f64], &mut [T]),
    x: &[T],
    dy: &[T],
    heads: Heads,
    norms: Option<(&[T], &[T], f64)>,
    cos: &[T],
    sin: &[T],
) {
    let dim = heads.head_dim;
    for (h, dx) in dx.chunks_exact_mut(dim).enumerate() {
        let (x, dy) = (&x[h * dim..][..dim], &dy[h * dim..][..dim]);
        match (weight_of(h, heads, norms), h < heads.heads + heads.kv_heads) {
            (_, false) => dx.copy_from_slice(dy),
            (None, true) => rotate(dx, dy, cos, sin, -T::ONE),
            (Some((weight, eps)), true) => {
                rotate(unrotated, dy, cos, sin, -T::ONE);
                let side = if h < heads.heads { 0 } else { dim };
                let dweight = &mut dweights[side..side + dim];
                rms_norm::row_backward(dx, dweight, x, weight, unrotated, eps);
            }
        }
    }
}

fn rotation<'a>(
    qkv: &'a Tensor,
    heads: Heads,
    norms: Option<&'a Contiguous>,
    table: &'a RotaryTable,
    positions: &'a Tensor,
) -> Rotation<'a> {
    let norms = norms.map(|norms| (&norms.query, &norms.key, norms.eps));
    Rotation { qkv, heads, norms, cos: &table.cos, sin: &table.sin, positions }
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

#[inline(always)]
fn weight_of<'a, T: Element>(
    head: usize,
    heads: Heads,
    norms: Option<(&'a [T], &'a [T], f64)>,
) -> Option<(&'a [T], f64)> {
    let (query, key, eps) = norms?;
    Some((if head < heads.heads { query } else { key }, eps))
}

/// Rotates by the angle, or back with `direction` -1.
#[inline(always)]
fn rotate<T: Element>(y: &mut [T], x: &[T], cos: &[T], sin: &[T], direction: T) {
    let half = cos.len();
    let (x0, x1) = x.split_at(half);
    let (y0, y1) = y.split_at_mut(half);
    let (x1, y1, sin) = (&x1[..half], &mut y1[..half], &sin[..half]);
    for i in 0..half {
        let s = direction * sin[i];
        y0[i] = x1[i].mul_add(-s, x0[i] * cos[i]);
        y1[i] = x0[i].mul_add(s, x1[i] * cos[i]);
    }
}

#[inline(always)]
fn rotate_scaled<T: Element>(y: &mut [T], x: &[T], weight: &[T], r: T, cos: &[T], sin: &[T]) {
    let half = cos.len();
    let (x0, x1) = x.split_at(half);
    let (w0, w1) = weight.split_at(half);
    let (y0, y1) = y.split_at_mut(half);
    let (x1, w1, y1, sin) = (&x1[..half], &w1[..half], &mut y1[..half], &sin[..half]);
    for i in 0..half {
        let (a, b) = (x0[i] * r * w0[i], x1[i] * r * w1[i]);
        y0[i] = b.mul_add(-sin[i], a * cos[i]);
        y1[i] = a.mul_add(sin[i], b * cos[i]);
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
    stored::check_partner(OP, "rotary table", &table.cos, qkv)?;
    let dtype = table.cos.dtype();
    let half = table.cos.dim(D::Minus1)?;
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
