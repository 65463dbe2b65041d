use candle_core::{D, DType, Device, Tensor, WithDType};
use half::bf16;

use crate::{
    Error, Result,
    cpu::{self, Element, by_dtype, dispatch},
    gpu::{self, rotary::Rotation},
    rms_norm, shape,
    stored::{self, widened},
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
/// `[T, total, head_dim]`, f32 for values stored in bf16 on the CPU. Rotation pairs value `i` with value `i + head_dim / 2`:
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
    if qkv.dtype() == DType::BF16 {
        return forward::<bf16, f32>(&qkv, heads, norms.as_ref(), table, &positions, widen);
    }
    by_dtype!(OP, qkv, T => {
        forward::<T, T>(&qkv, heads, norms.as_ref(), table, &positions, |row, _| row)
    })
}

fn forward<S: WithDType, T: Element>(
    qkv: &Tensor,
    heads: Heads,
    norms: Option<&Contiguous>,
    table: &RotaryTable,
    positions: &Tensor,
    values: impl for<'a> Fn(&'a [S], &'a mut [T]) -> &'a [T] + Sync,
) -> Result<Tensor> {
    let rows = qkv.dims()[0];
    let input = cpu::view::<S>(OP, qkv)?;
    let (cos, sin) = (cpu::view::<T>(OP, &table.cos)?, cpu::view::<T>(OP, &table.sin)?);
    let positions = cpu::view::<u32>(OP, positions)?;
    check_positions(&positions, table)?;
    let norms = norms.map(Contiguous::view::<T>).transpose()?;
    let norms = norms.as_ref().map(|(q, k, eps)| (&**q, &**k, *eps));
    let (dim, width) = (heads.head_dim, heads.total() * heads.head_dim);
    let (input, cos, sin): (&[S], &[T], &[T]) = (&input, &cos, &sin);
    let positions: &[u32] = &positions;
    let mut out = vec![T::ZERO; rows * width];
    cpu::for_rows(&mut out, width, |first, rows| {
        let mut room = vec![T::ZERO; width];
        dispatch(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    let row_in = values(&input[(first + i) * width..][..width], &mut room);
                    let at = positions[first + i] as usize * (dim / 2);
                    let (cos, sin) = (&cos[at..][..dim / 2], &sin[at..][..dim / 2]);
                    let heads_in = row_in.chunks_exact(dim);
                    for (h, (y, x)) in row.chunks_exact_mut(dim).zip(heads_in).enumerate() {
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
            },
        );
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
    shape::same_dtype(OP, "dy", dy, stored::dtype(qkv))?;
    let (qkv, positions, dy) = (qkv.contiguous()?, positions.contiguous()?, dy.contiguous()?);
    let norms = norms.map(Contiguous::new).transpose()?;
    if let Some(gpu) = gpu::of(&qkv) {
        let rotation = rotation(&qkv, heads, norms.as_ref(), table, &positions);
        let (qkv, norms) = rotation.backward(&gpu, &dy)?;
        return Ok(RotateHeadsGradients { qkv, norms });
    }
    if qkv.dtype() == DType::BF16 {
        let given = (&qkv, &dy);
        return backward::<bf16, f32>(given, heads, norms.as_ref(), table, &positions, widen);
    }
    by_dtype!(OP, qkv, T => {
        backward::<T, T>((&qkv, &dy), heads, norms.as_ref(), table, &positions, |row, _| row)
    })
}

fn backward<S: WithDType, T: Element>(
    (qkv, dy): (&Tensor, &Tensor),
    heads: Heads,
    norms: Option<&Contiguous>,
    table: &RotaryTable,
    positions: &Tensor,
    values: impl for<'a> Fn(&'a [S], &'a mut [T]) -> &'a [T] + Sync,
) -> Result<RotateHeadsGradients> {
    let (rows, dim, width) = (qkv.dims()[0], heads.head_dim, heads.total() * heads.head_dim);
    let (input, dy) = (cpu::view::<S>(OP, qkv)?, cpu::view::<T>(OP, dy)?);
    let (cos, sin) = (cpu::view::<T>(OP, &table.cos)?, cpu::view::<T>(OP, &table.sin)?);
    let positions = cpu::view::<u32>(OP, positions)?;
    check_positions(&positions, table)?;
    let views = norms.map(Contiguous::view::<T>).transpose()?;
    let norms = views.as_ref().map(|(q, k, eps)| (&**q, &**k, *eps));
    let (input, dy): (&[S], &[T]) = (&input, &dy);
    let (cos, sin, positions): (&[T], &[T], &[u32]) = (&cos, &sin, &positions);
    let mut out = vec![T::ZERO; rows * width];
    let partial = cpu::map_rows(&mut out, width, |first, rows| {
        let mut dweights = vec![T::ZERO; 2 * dim];
        let mut unrotated = vec![T::ZERO; dim];
        let mut room = vec![T::ZERO; width];
        dispatch(
            #[inline(always)]
            || {
                for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                    let from = (first + i) * width;
                    let row_in = values(&input[from..][..width], &mut room);
                    let at = positions[first + i] as usize * (dim / 2);
                    let (cos, sin) = (&cos[at..][..dim / 2], &sin[at..][..dim / 2]);
                    for (h, dx) in row.chunks_exact_mut(dim).enumerate() {
                        let x = &row_in[h * dim..][..dim];
                        let dy = &dy[from + h * dim..][..dim];
                        match (weight_of(h, heads, norms), h < heads.heads + heads.kv_heads) {
                            (_, false) => dx.copy_from_slice(dy),
                            (None, true) => rotate(dx, dy, cos, sin, -T::ONE),
                            (Some((weight, eps)), true) => {
                                rotate(&mut unrotated, dy, cos, sin, -T::ONE);
                                let side = if h < heads.heads { 0 } else { dim };
                                let dweight = &mut dweights[side..side + dim];
                                rms_norm::row_backward(dx, dweight, x, weight, &unrotated, eps);
                            }
                        }
                    }
                }
            },
        );
        dweights
    });
    let norms = if views.is_some() {
        let mut query = cpu::sum_in_order(partial, 2 * dim);
        let key = query.split_off(dim);
        Some((cpu::tensor(query, dim)?, cpu::tensor(key, dim)?))
    } else {
        None
    };
    Ok(RotateHeadsGradients { qkv: cpu::tensor(out, (rows, width))?, norms })
}

/// A row stored in bf16, in `room`.
fn widen<'a>(row: &'a [bf16], room: &'a mut [f32]) -> &'a [f32] {
    for (to, from) in room.iter_mut().zip(row) {
        *to = widened(*from);
    }
    room
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

impl Contiguous {
    fn new(norms: HeadNorms<'_>) -> Result<Self> {
        let (query, key) = (norms.query.contiguous()?, norms.key.contiguous()?);
        Ok(Self { query, key, eps: norms.eps })
    }

    fn view<T: Element>(
        &self,
    ) -> Result<(impl std::ops::Deref<Target = [T]> + '_, impl std::ops::Deref<Target = [T]> + '_, T)>
    {
        Ok((cpu::view::<T>(OP, &self.query)?, cpu::view::<T>(OP, &self.key)?, T::of(self.eps)))
    }
}

#[inline(always)]
fn weight_of<'a, T: Element>(
    head: usize,
    heads: Heads,
    norms: Option<(&'a [T], &'a [T], T)>,
) -> Option<(&'a [T], T)> {
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
        y0[i] = x0[i] * cos[i] - x1[i] * s;
        y1[i] = x1[i] * cos[i] + x0[i] * s;
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
        y0[i] = a * cos[i] - b * sin[i];
        y1[i] = b * cos[i] + a * sin[i];
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
    let dtype = stored::dtype(qkv);
    shape::same_dtype(OP, "rotary table", &table.cos, dtype)?;
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
