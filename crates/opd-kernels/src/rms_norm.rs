use candle_core::Tensor;

use crate::{
    Result,
    cpu::{self, Element, by_dtype, dispatch, vector},
    gpu, shape,
};

const OP: &str = "rms_norm";

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension.
///
/// `x` is `[.., H]`, `weight` is `[H]`; the result has the shape of `x`.
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
    by_dtype!(OP, x, T => {
        let (input, weight) = (cpu::view::<T>(OP, &x)?, cpu::view::<T>(OP, &weight)?);
        let (input, weight): (&[T], &[T]) = (&input, &weight);
        let mut out = vec![T::ZERO; input.len()];
        cpu::for_rows(&mut out, width, |first, rows| dispatch(#[inline(always)] || {
            let input = &input[first * width..][..rows.len()];
            for (y, x) in rows.chunks_exact_mut(width).zip(input.chunks_exact(width)) {
                normalise(y, x, weight, T::of(eps));
            }
        }));
        cpu::tensor(out, x.shape())
    })
}

/// `sum = x + delta` and [`rms_norm`] of the sum, in one pass: a residual connection and the
/// norm behind it.
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
    by_dtype!(OP, x, T => {
        let (a, b) = (cpu::view::<T>(OP, &x)?, cpu::view::<T>(OP, &delta)?);
        let weight = cpu::view::<T>(OP, &weight)?;
        let (a, b, weight): (&[T], &[T], &[T]) = (&a, &b, &weight);
        let mut sum = vec![T::ZERO; a.len()];
        let mut out = vec![T::ZERO; a.len()];
        cpu::for_rows_of_two((&mut sum, width), (&mut out, width), |first, sums, outs| dispatch(#[inline(always)] || {
            let from = first * width;
            let inputs = a[from..].iter().zip(&b[from..]);
            for (sum, (a, b)) in sums.iter_mut().zip(inputs) {
                *sum = *a + *b;
            }
            for (y, x) in outs.chunks_exact_mut(width).zip(sums.chunks_exact(width)) {
                normalise(y, x, weight, T::of(eps));
            }
        }));
        Ok((cpu::tensor(sum, x.shape())?, cpu::tensor(out, x.shape())?))
    })
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
    by_dtype!(OP, x, T => {
        let (input, scale) = (cpu::view::<T>(OP, &x)?, cpu::view::<T>(OP, &weight)?);
        let dy = cpu::view::<T>(OP, &dy)?;
        let residual = residual.as_ref().map(|tensor| cpu::view::<T>(OP, tensor)).transpose()?;
        let residual = residual.as_deref();
        let (input, scale, dy): (&[T], &[T], &[T]) = (&input, &scale, &dy);
        let mut dx = vec![T::ZERO; input.len()];
        let partial = cpu::map_rows(&mut dx, width, |first, rows| dispatch(#[inline(always)] || {
            let mut dweight = vec![T::ZERO; width];
            for (i, dx) in rows.chunks_exact_mut(width).enumerate() {
                let at = (first + i) * width..(first + i + 1) * width;
                let (x, dy) = (&input[at.clone()], &dy[at.clone()]);
                row_backward(dx, &mut dweight, x, scale, dy, T::of(eps));
                if let Some(residual) = residual {
                    vector::axpy(dx, T::ONE, &residual[at]);
                }
            }
            dweight
        }));
        let dweight = cpu::sum_in_order(partial, width);
        Ok((cpu::tensor(dx, x.shape())?, cpu::tensor(dweight, width)?))
    })
}

/// `1 / sqrt(mean(x^2) + eps)`.
#[inline(always)]
pub(crate) fn inverse_rms<T: Element>(x: &[T], eps: T) -> T {
    T::ONE / (vector::dot(x, x) / T::of(x.len() as f64) + eps).sqrt()
}

#[inline(always)]
pub(crate) fn normalise<T: Element>(y: &mut [T], x: &[T], weight: &[T], eps: T) {
    let r = inverse_rms(x, eps);
    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
        *y = *x * r * *w;
    }
}

/// Writes `dx` and adds to `dweight`.
#[inline(always)]
pub(crate) fn row_backward<T: Element>(
    dx: &mut [T],
    dweight: &mut [T],
    x: &[T],
    weight: &[T],
    dy: &[T],
    eps: T,
) {
    let n = x.len();
    let (dx, dweight, weight, dy) = (&mut dx[..n], &mut dweight[..n], &weight[..n], &dy[..n]);
    let r = inverse_rms(x, eps);
    let gx = vector::sum_by(
        n,
        #[inline(always)]
        |i| dy[i] * weight[i] * x[i],
    );
    let pull = r * r * r * gx / T::of(n as f64);
    for i in 0..n {
        dx[i] = r * dy[i] * weight[i] - x[i] * pull;
        dweight[i] += dy[i] * x[i] * r;
    }
}
