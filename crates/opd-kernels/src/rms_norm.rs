use candle_core::Tensor;

use crate::{
    Result,
    cpu::{self, Element, Stored, by_stored, dispatch, vector, with_rooms},
    gpu, shape,
};

const OP: &str = "rms_norm";

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension.
///
/// `x` is `[.., H]`, `weight` is `[H]`, of one dtype; the result has the shape and dtype of `x`. bf16 and
/// f16 are computed in f32 and rounded once.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) or [`Error::DType`](crate::Error::DType).
///
/// Source: Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (_, width) = shape::rows_of(OP, "x", x)?;
    shape::expect(OP, "weight", weight, &[width], "[H]")?;
    shape::same_dtype(OP, "weight", weight, x.dtype())?;
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    if let Some(gpu) = gpu::of(&x) {
        return Ok(gpu::rms_norm::forward(&gpu, &x, None, &weight, eps)?.1);
    }
    by_stored!(OP, x, S => forward::<S>(&x, &weight, eps))
}

fn forward<S: Stored>(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let width = weight.elem_count();
    let (input, weight) = (cpu::view::<S>(OP, x)?, cpu::widened(&cpu::view::<S>(OP, weight)?));
    let (input, weight): (&[S], &[S::Wide]) = (&input, &weight);
    let mut out = vec![S::default(); input.len()];
    cpu::for_rows(&mut out, width, |first, rows| {
        with_rooms::<S, 2, _>(width, |[x_room, y_room]| {
            dispatch(
                #[inline(always)]
                || {
                    let input = &input[first * width..][..rows.len()];
                    for (y, x) in rows.chunks_exact_mut(width).zip(input.chunks_exact(width)) {
                        let x = S::read(x, x_room);
                        S::write(
                            y,
                            y_room,
                            #[inline(always)]
                            |y| normalise(y, x, weight, eps),
                        );
                    }
                },
            );
        });
    });
    cpu::tensor(out, x.shape())
}

/// `sum = x + delta` and [`rms_norm`] of the sum, in one pass: a residual connection and the
/// norm behind it. What is normed is the sum that is returned: rounded to its dtype.
///
/// # Errors
///
/// As [`rms_norm`].
pub fn add_rms_norm(
    x: &Tensor,
    delta: &Tensor,
    weight: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let (_, width) = shape::rows_of(OP, "x", x)?;
    shape::expect(OP, "weight", weight, &[width], "[H]")?;
    shape::same_dtype(OP, "weight", weight, x.dtype())?;
    shape::expect(OP, "delta", delta, x.dims(), "the shape of x")?;
    shape::same_dtype(OP, "delta", delta, x.dtype())?;
    let (x, delta, weight) = (x.contiguous()?, delta.contiguous()?, weight.contiguous()?);
    if let Some(gpu) = gpu::of(&x) {
        let (sum, out) = gpu::rms_norm::forward(&gpu, &x, Some(&delta), &weight, eps)?;
        return Ok((sum.unwrap_or(x), out));
    }
    by_stored!(OP, x, S => forward_of_sum::<S>(&x, &delta, &weight, eps))
}

fn forward_of_sum<S: Stored>(
    x: &Tensor,
    delta: &Tensor,
    weight: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let width = weight.elem_count();
    let (a, b) = (cpu::view::<S>(OP, x)?, cpu::view::<S>(OP, delta)?);
    let weight = cpu::widened(&cpu::view::<S>(OP, weight)?);
    let (a, b, weight): (&[S], &[S], &[S::Wide]) = (&a, &b, &weight);
    let mut sum = vec![S::default(); a.len()];
    let mut out = vec![S::default(); a.len()];
    cpu::for_rows_of_two((&mut sum, width), (&mut out, width), |first, sums, outs| {
        with_rooms::<S, 3, _>(width, |[a_room, b_room, y_room]| {
            dispatch(
                #[inline(always)]
                || {
                    let at = first * width..first * width + sums.len();
                    let inputs = a[at.clone()].chunks_exact(width).zip(b[at].chunks_exact(width));
                    let outputs = sums.chunks_exact_mut(width).zip(outs.chunks_exact_mut(width));
                    for ((sum, y), (a, b)) in outputs.zip(inputs) {
                        let (a, b) = (S::read(a, a_room), S::read(b, b_room));
                        S::write(
                            sum,
                            y_room,
                            #[inline(always)]
                            |sum| {
                                for (sum, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)) {
                                    *sum = *a + *b;
                                }
                            },
                        );
                        let sum = S::read(sum, a_room);
                        S::write(
                            y,
                            y_room,
                            #[inline(always)]
                            |y| normalise(y, sum, weight, eps),
                        );
                    }
                },
            );
        });
    });
    Ok((cpu::tensor(sum, x.shape())?, cpu::tensor(out, x.shape())?))
}

/// Gradients of [`rms_norm`] with respect to `x` and `weight`, from the gradient `dy` of its
/// result. `residual`, if given, is added to the gradient of `x`.
///
/// ```text
/// r  = 1 / sqrt(mean(x^2) + eps),  g = dy * weight
/// dx = r * g - x * r^3 * mean(g * x) + residual
/// dweight = sum over rows of dy * x * r
/// ```
///
/// # Errors
///
/// As [`rms_norm`].
pub fn rms_norm_backward(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
    residual: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let (_, width) = shape::rows_of(OP, "x", x)?;
    shape::expect(OP, "weight", weight, &[width], "[H]")?;
    shape::same_dtype(OP, "weight", weight, x.dtype())?;
    shape::expect(OP, "dy", dy, x.dims(), "the shape of x")?;
    shape::same_dtype(OP, "dy", dy, x.dtype())?;
    if let Some(residual) = residual {
        shape::expect(OP, "residual", residual, x.dims(), "the shape of x")?;
        shape::same_dtype(OP, "residual", residual, x.dtype())?;
    }
    let (x, weight, dy) = (x.contiguous()?, weight.contiguous()?, dy.contiguous()?);
    let residual = residual.map(Tensor::contiguous).transpose()?;
    if let Some(gpu) = gpu::of(&x) {
        return gpu::rms_norm::backward(&gpu, (&x, &weight), &dy, residual.as_ref(), eps);
    }
    by_stored!(OP, x, S => backward::<S>((&x, &weight), &dy, residual.as_ref(), eps))
}

fn backward<S: Stored>(
    (x, weight): (&Tensor, &Tensor),
    dy: &Tensor,
    residual: Option<&Tensor>,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let width = weight.elem_count();
    let (input, scale) = (cpu::view::<S>(OP, x)?, cpu::widened(&cpu::view::<S>(OP, weight)?));
    let dy = cpu::view::<S>(OP, dy)?;
    let residual = residual.map(|tensor| cpu::view::<S>(OP, tensor)).transpose()?;
    let residual = residual.as_deref();
    let (input, scale, dy): (&[S], &[S::Wide], &[S]) = (&input, &scale, &dy);
    let mut dx = vec![S::default(); input.len()];
    let partial = cpu::map_rows(&mut dx, width, |first, rows| {
        let mut dweight = vec![0.0; width];
        with_rooms::<S, 4, _>(width, |[x_room, dy_room, residual_room, dx_room]| {
            dispatch(
                #[inline(always)]
                || {
                    for (i, dx) in rows.chunks_exact_mut(width).enumerate() {
                        let at = (first + i) * width..(first + i + 1) * width;
                        let x = S::read(&input[at.clone()], x_room);
                        let dy = S::read(&dy[at.clone()], dy_room);
                        S::write(
                            dx,
                            dx_room,
                            #[inline(always)]
                            |dx| {
                                row_backward(dx, &mut dweight, x, scale, dy, eps);
                                if let Some(residual) = residual {
                                    let residual = S::read(&residual[at], residual_room);
                                    vector::axpy(dx, S::Wide::ONE, residual);
                                }
                            },
                        );
                    }
                },
            );
        });
        dweight
    });
    let dweight = cpu::rounded_sums::<S>(partial, width);
    Ok((cpu::tensor(dx, x.shape())?, cpu::tensor(dweight, width)?))
}

/// `1 / sqrt(mean(x^2) + eps)`; what follows the sum is rounded once.
#[inline(always)]
pub(crate) fn inverse_rms<T: Element>(x: &[T], eps: f64) -> T {
    let mean = vector::dot(x, x).as_f64() / x.len() as f64;
    T::of(1.0 / (mean + eps).sqrt())
}

#[inline(always)]
pub(crate) fn normalise<T: Element>(y: &mut [T], x: &[T], weight: &[T], eps: f64) {
    let r: T = inverse_rms(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = *x * r * *w;
    }
}

/// Writes `dx` and adds to `dweight`, whose sums are over rows, and so in f64.
#[inline(always)]
pub(crate) fn row_backward<T: Element>(
    dx: &mut [T],
    dweight: &mut [f64],
    x: &[T],
    weight: &[T],
    dy: &[T],
    eps: f64,
) {
    let n = x.len();
    let (dx, dweight, weight, dy) = (&mut dx[..n], &mut dweight[..n], &weight[..n], &dy[..n]);
    let r: T = inverse_rms(x, eps);
    let gx = vector::sum_by(
        n,
        #[inline(always)]
        |i| dy[i] * weight[i] * x[i],
    );
    let pull = T::of(-r.as_f64().powi(3) * gx.as_f64() / n as f64);
    for i in 0..n {
        dx[i] = x[i].mul_add(pull, r * dy[i] * weight[i]);
        dweight[i] += (dy[i] * x[i] * r).as_f64();
    }
}
