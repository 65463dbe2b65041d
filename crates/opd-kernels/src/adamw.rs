use candle_core::Tensor;

use crate::{
    Error, Result,
    cpu::{self, CHUNK_VALUES, Element, by_dtype, dispatch},
    gpu, shape,
};

const OP: &str = "adamw";

/// Settings of one [`adamw_step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: the parameter shrinks by `lr * weight_decay` of itself.
    pub weight_decay: f64,
    /// The gradient is multiplied by this first (clipping).
    pub gradient_scale: f64,
    /// Number of this step, from 1.
    pub step: u64,
}

/// One AdamW step: changes `parameter` and both moments in place, in one pass.
///
/// ```text
/// m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
/// p = p (1 - lr wd) - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
/// ```
///
/// All four tensors have one shape and dtype.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Shared`], or [`Error::Setting`] for step 0.
///
/// Source: Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>, algorithm 2 with a
/// constant schedule multiplier, as PyTorch computes it.
pub fn adamw_step(
    parameter: &Tensor,
    gradient: &Tensor,
    first_moment: &Tensor,
    second_moment: &Tensor,
    settings: &AdamWStep,
) -> Result<()> {
    if settings.step == 0 {
        let (what, expected) = ("step", "at least 1");
        return Err(Error::Setting { op: OP, what, expected, got: 0.0 });
    }
    for (what, tensor) in
        [("gradient", gradient), ("first_moment", first_moment), ("second_moment", second_moment)]
    {
        shape::expect(OP, what, tensor, parameter.dims(), "the parameter's shape")?;
        shape::same_dtype(OP, what, tensor, parameter.dtype())?;
    }
    let gradient = gradient.contiguous()?;
    let (grad, first, second) =
        (("gradient", &gradient), ("first_moment", first_moment), ("second_moment", second_moment));
    shape::distinct(OP, ("parameter", parameter), &[grad, first, second])?;
    shape::distinct(OP, first, &[grad, second])?;
    shape::distinct(OP, second, &[grad])?;
    if let Some(gpu) = gpu::of(parameter) {
        let changed = [parameter, first_moment, second_moment];
        return gpu::values::adamw(&gpu, changed, &gradient, settings);
    }
    by_dtype!(OP, gradient, T => {
        let g = cpu::view::<T>(OP, &gradient)?;
        cpu::update::<T>(OP, parameter, |p| {
            cpu::update::<T>(OP, first_moment, |m| {
                cpu::update::<T>(OP, second_moment, |v| {
                    run(p, &g, m, v, settings);
                    Ok(())
                })
            })
        })
    })
}

fn run<T: Element>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], settings: &AdamWStep) {
    use rayon::prelude::*;
    let chunks = p
        .par_chunks_mut(CHUNK_VALUES)
        .zip(g.par_chunks(CHUNK_VALUES))
        .zip(m.par_chunks_mut(CHUNK_VALUES))
        .zip(v.par_chunks_mut(CHUNK_VALUES));
    chunks.for_each(|(((p, g), m), v)| {
        dispatch(
            #[inline(always)]
            || chunk(p, g, m, v, settings),
        )
    });
}

#[inline(always)]
fn chunk<T: Element>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], settings: &AdamWStep) {
    let power = i32::try_from(settings.step).unwrap_or(i32::MAX);
    let (beta1, beta2) = (T::of(settings.beta1), T::of(settings.beta2));
    let (rest1, rest2) = (T::of(1.0 - settings.beta1), T::of(1.0 - settings.beta2));
    let keep = T::of(1.0 - settings.lr * settings.weight_decay);
    let rate = T::of(settings.lr / (1.0 - settings.beta1.powi(power)));
    let root = T::of(1.0 / (1.0 - settings.beta2.powi(power)).sqrt());
    let (eps, scale) = (T::of(settings.eps), T::of(settings.gradient_scale));
    let n = p.len();
    let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
    for i in 0..n {
        let gradient = g[i] * scale;
        m[i] = beta1 * m[i] + rest1 * gradient;
        v[i] = beta2 * v[i] + rest2 * gradient * gradient;
        p[i] = p[i] * keep - rate * m[i] / (v[i].sqrt() * root + eps);
    }
}

/// Sum of squares of all values, in f64, in an order that does not depend on threads.
///
/// Not finite if any value is not.
///
/// # Errors
///
/// [`Error::DType`] or [`Error::Device`].
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    const OP: &str = "sum_of_squares";
    let tensor = tensor.contiguous()?;
    if let Some(gpu) = gpu::of(&tensor) {
        return gpu::values::sum_of_squares(&gpu, &tensor);
    }
    by_dtype!(OP, tensor, T => {
        let values = cpu::view::<T>(OP, &tensor)?;
        let n_chunks = values.len().div_ceil(CHUNK_VALUES);
        let parts = cpu::map_chunks(n_chunks, values.len(), |i| {
            let chunk = &values[i * CHUNK_VALUES..values.len().min((i + 1) * CHUNK_VALUES)];
            dispatch(#[inline(always)] || cpu::vector::sum_by(chunk.len(), #[inline(always)] |j| {
                let value = chunk[j].as_f64();
                value * value
            }))
        });
        Ok(parts.into_iter().sum())
    })
}

/// Adds `values` to `sums` in place.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`] or [`Error::Shared`].
pub fn add_assign(sums: &Tensor, values: &Tensor) -> Result<()> {
    const OP: &str = "add_assign";
    shape::expect(OP, "values", values, sums.dims(), "the shape of the sums")?;
    shape::same_dtype(OP, "values", values, sums.dtype())?;
    let values = values.contiguous()?;
    shape::distinct(OP, ("sums", sums), &[("values", &values)])?;
    if let Some(gpu) = gpu::of(sums) {
        return gpu::values::add_assign(&gpu, sums, &values);
    }
    by_dtype!(OP, values, T => {
        let source = cpu::view::<T>(OP, &values)?;
        cpu::update::<T>(OP, sums, |sums| {
            cpu::vector::axpy(sums, T::ONE, &source);
            Ok(())
        })
    })
}
