use candle_core::{DType, Tensor};
use half::{bf16, f16};

use crate::{
    Error, Result,
    cpu::{self, CHUNK_VALUES, Element, Stored, by_dtype, by_stored, dispatch, with_rooms},
    gpu, shape,
};

const OP: &str = "adamw";

/// How far past the start of its memory the first moment begins, in bytes, the second twice as far: a few
/// pages and a cache line. Large tensors start alike in pages and in the rows of memory's banks, and four
/// that are gone through together then wait for each other.
const STAGGER: usize = (16 << 10) + 64;

/// Moments of fewer bytes than this are not staggered.
const LEAST_STAGGERED: usize = 1 << 20;

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

/// Both moments of a parameter before its first [`adamw_step`]: zeros, placed so that the step is fast.
///
/// On a CPU the moments of a large parameter begin some pages into their memory; any other zeros of the
/// shape and dtype give the same results in one and a half times the time (49,152 x 576 on an AMD EPYC).
///
/// # Errors
///
/// If the device has no room.
pub fn adamw_moments(parameter: &Tensor) -> Result<[Tensor; 2]> {
    let (n, dtype) = (parameter.elem_count(), parameter.dtype());
    let size = dtype.size_in_bytes();
    let zeros = |stagger: usize| -> Result<Tensor> {
        let before = if n * size < LEAST_STAGGERED { 0 } else { stagger * STAGGER / size };
        let zeros = Tensor::zeros(before + n, dtype, parameter.device())?;
        Ok(zeros.narrow(0, before, n)?.reshape(parameter.shape())?)
    };
    if gpu::of(parameter).is_some() {
        return Ok([zeros(0)?, zeros(0)?]);
    }
    Ok([zeros(1)?, zeros(2)?])
}

/// One AdamW step: changes `parameter` and both moments in place, in one pass.
///
/// ```text
/// m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2
/// p = p (1 - lr wd) - lr (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
/// ```
///
/// All four tensors have one shape; parameter and moments have one dtype (f32 or f64; on a GPU also bf16
/// and f16), which is the gradient's too, or the gradient of an f32 parameter is in bf16 or f16.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Shared`], or [`Error::Setting`] for step 0.
///
/// Definition: [`reference::adamw_step`](crate::reference::adamw_step).
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
    step([parameter, first_moment, second_moment], gradient, None, settings)
}

/// [`adamw_step`] of an f32 parameter, with the result also in `copy`, rounded to its dtype (bf16 or
/// f16): the weights that forward and backward read, while the parameter keeps small steps.
///
/// # Errors
///
/// As [`adamw_step`].
pub fn adamw_step_with_copy(
    parameter: &Tensor,
    gradient: &Tensor,
    first_moment: &Tensor,
    second_moment: &Tensor,
    copy: &Tensor,
    settings: &AdamWStep,
) -> Result<()> {
    step([parameter, first_moment, second_moment], gradient, Some(copy), settings)
}

fn step(
    changed: [&Tensor; 3],
    gradient: &Tensor,
    copy: Option<&Tensor>,
    settings: &AdamWStep,
) -> Result<()> {
    let [parameter, first_moment, second_moment] = changed;
    if settings.step == 0 {
        let (what, expected) = ("step", "at least 1");
        return Err(Error::Setting { op: OP, what, expected, got: 0.0 });
    }
    for (what, tensor) in
        [("gradient", gradient), ("first_moment", first_moment), ("second_moment", second_moment)]
    {
        shape::expect(OP, what, tensor, parameter.dims(), "the parameter's shape")?;
        let narrow = what == "gradient" && parameter.dtype() == DType::F32 && is_half(tensor);
        if !narrow {
            shape::same_dtype(OP, what, tensor, parameter.dtype())?;
        }
    }
    let gradient = gradient.contiguous()?;
    let (grad, first, second) =
        (("gradient", &gradient), ("first_moment", first_moment), ("second_moment", second_moment));
    shape::distinct(OP, ("parameter", parameter), &[grad, first, second])?;
    shape::distinct(OP, first, &[grad, second])?;
    shape::distinct(OP, second, &[grad])?;
    if let Some(copy) = copy {
        shape::expect(OP, "copy", copy, parameter.dims(), "the parameter's shape")?;
        shape::same_dtype(OP, "parameter of a copy", parameter, DType::F32)?;
        if !is_half(copy) {
            let (got, remedy) = (copy.dtype(), "a copy of the parameter is in bf16 or f16");
            return Err(Error::DType { op: OP, what: "copy", got, remedy });
        }
        shape::distinct(OP, ("copy", copy), &[grad])?;
    }
    if let Some(gpu) = gpu::of(parameter) {
        let gradient = gradient.to_dtype(parameter.dtype())?;
        gpu::values::adamw(&gpu, changed, &gradient, settings)?;
        return match copy {
            Some(copy) => Ok(copy.slice_set(&parameter.to_dtype(copy.dtype())?, 0, 0)?),
            None => Ok(()),
        };
    }
    if parameter.dtype() == DType::F32 {
        return by_stored_f32(changed, &gradient, copy, settings);
    }
    by_dtype!(OP, parameter, T => {
        let gradient = cpu::view::<T>(OP, &gradient)?;
        on_cpu::<T, T>(changed, &gradient, None, settings)
    })
}

fn is_half(tensor: &Tensor) -> bool {
    matches!(tensor.dtype(), DType::BF16 | DType::F16)
}

fn by_stored_f32(
    changed: [&Tensor; 3],
    gradient: &Tensor,
    copy: Option<&Tensor>,
    settings: &AdamWStep,
) -> Result<()> {
    match gradient.dtype() {
        DType::BF16 => with_gradient::<bf16>(changed, gradient, copy, settings),
        DType::F16 => with_gradient::<f16>(changed, gradient, copy, settings),
        _ => with_gradient::<f32>(changed, gradient, copy, settings),
    }
}

fn with_gradient<G: Stored<Wide = f32>>(
    changed: [&Tensor; 3],
    gradient: &Tensor,
    copy: Option<&Tensor>,
    settings: &AdamWStep,
) -> Result<()> {
    let gradient = cpu::view::<G>(OP, gradient)?;
    match copy {
        None => on_cpu::<G, f32>(changed, &gradient, None, settings),
        Some(copy) if copy.dtype() == DType::BF16 => cpu::update::<bf16>(OP, copy, |copy| {
            on_cpu::<G, bf16>(changed, &gradient, Some(copy), settings)
        }),
        Some(copy) => cpu::update::<f16>(OP, copy, |copy| {
            on_cpu::<G, f16>(changed, &gradient, Some(copy), settings)
        }),
    }
}

fn on_cpu<G: Stored, C: Stored<Wide = G::Wide>>(
    [parameter, first_moment, second_moment]: [&Tensor; 3],
    gradient: &[G],
    copy: Option<&mut [C]>,
    settings: &AdamWStep,
) -> Result<()> {
    cpu::update::<G::Wide>(OP, parameter, |p| {
        cpu::update::<G::Wide>(OP, first_moment, |m| {
            cpu::update::<G::Wide>(OP, second_moment, |v| {
                match copy {
                    Some(copy) => run(p, gradient, m, v, copy, settings),
                    None => run::<G, C>(p, gradient, m, v, &mut [], settings),
                }
                Ok(())
            })
        })
    })
}

/// `copy` is as long as the others, or empty.
fn run<G: Stored, C: Stored<Wide = G::Wide>>(
    p: &mut [G::Wide],
    g: &[G],
    m: &mut [G::Wide],
    v: &mut [G::Wide],
    copy: &mut [C],
    settings: &AdamWStep,
) {
    use rayon::prelude::*;
    let n_chunks = p.len().div_ceil(CHUNK_VALUES);
    let mut copies: Vec<&mut [C]> = copy.chunks_mut(CHUNK_VALUES).collect();
    copies.resize_with(n_chunks, Default::default);
    let chunks = p
        .par_chunks_mut(CHUNK_VALUES)
        .zip(g.par_chunks(CHUNK_VALUES))
        .zip(m.par_chunks_mut(CHUNK_VALUES))
        .zip(v.par_chunks_mut(CHUNK_VALUES))
        .zip(copies);
    chunks.for_each(|((((p, g), m), v), copy)| {
        with_rooms::<G, 1, _>(CHUNK_VALUES, |[room]| {
            dispatch(
                #[inline(always)]
                || {
                    chunk(p, G::read(g, room), m, v, settings);
                    C::narrow(&p[..copy.len()], copy);
                },
            );
        });
    });
}

#[inline(always)]
fn chunk<T: Element>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], settings: &AdamWStep) {
    let power = i32::try_from(settings.step).unwrap_or(i32::MAX);
    let beta2 = T::of(settings.beta2);
    let (rest1, rest2) = (T::of(1.0 - settings.beta1), T::of(1.0 - settings.beta2));
    let keep = T::of(1.0 - settings.lr * settings.weight_decay);
    let rate = T::of(settings.lr / (1.0 - settings.beta1.powi(power)));
    let root = T::of(1.0 / (1.0 - settings.beta2.powi(power)).sqrt());
    let (eps, scale) = (T::of(settings.eps), T::of(settings.gradient_scale));
    let n = p.len();
    let (g, m, v) = (&g[..n], &mut m[..n], &mut v[..n]);
    for i in 0..n {
        let gradient = g[i] * scale;
        // From here to there rather than a sum of shares: 1 - beta1 is small, and so is its rounding.
        m[i] = (gradient - m[i]).mul_add(rest1, m[i]);
        v[i] = v[i].mul_add(beta2, rest2 * gradient * gradient);
        p[i] = p[i].mul_add(keep, -(rate * m[i] / v[i].sqrt().mul_add(root, eps)));
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
    by_stored!(OP, tensor, S => {
        let values = cpu::view::<S>(OP, &tensor)?;
        let values: &[S] = &values;
        let n_chunks = values.len().div_ceil(CHUNK_VALUES);
        let parts = cpu::map_chunks(n_chunks, values.len(), |i| {
            let chunk = &values[i * CHUNK_VALUES..values.len().min((i + 1) * CHUNK_VALUES)];
            with_rooms::<S, 1, _>(CHUNK_VALUES, |[room]| dispatch(#[inline(always)] || {
                let chunk = S::read(chunk, room);
                cpu::vector::sum_by(chunk.len(), #[inline(always)] |j| {
                    let value = chunk[j].as_f64();
                    value * value
                })
            }))
        });
        Ok(parts.into_iter().sum())
    })
}

/// Adds `values` to `sums` in place; each sum is rounded once.
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
    by_stored!(OP, values, S => {
        let source = cpu::view::<S>(OP, &values)?;
        cpu::update::<S>(OP, sums, |sums| {
            with_rooms::<S, 2, _>(CHUNK_VALUES, |[sum_room, room]| {
                let chunks = sums.chunks_mut(CHUNK_VALUES).zip(source.chunks(CHUNK_VALUES));
                for (sums, values) in chunks {
                    let values = S::read(values, room);
                    S::update(sums, sum_room, |sums| {
                        cpu::vector::axpy(sums, <S as Stored>::Wide::ONE, values);
                    });
                }
            });
            Ok(())
        })
    })
}
