use candle_core::{DType, Tensor, WithDType};
use half::bf16;

use crate::{
    Result,
    cpu::{self, Element, by_dtype, dispatch},
    gpu, shape,
    stored::{self, widened},
};

const OP: &str = "swiglu";

/// `silu(gate) * up`, where `gate_up` is `[T, 2F]`: `F` gate values, then `F` up values.
///
/// The result is `[T, F]`; `silu(x) = x / (1 + exp(-x))`. Values stored in bf16 on the CPU give f32.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) or [`Error::DType`](crate::Error::DType).
///
/// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let (_, width) = halves(gate_up)?;
    let gate_up = gate_up.contiguous()?;
    if let Some(gpu) = gpu::of(&gate_up) {
        return gpu::values::swiglu(&gpu, &gate_up);
    }
    if gate_up.dtype() == DType::BF16 {
        return forward::<bf16, f32>(&gate_up, width, widened);
    }
    by_dtype!(OP, gate_up, T => forward::<T, T>(&gate_up, width, |x| x))
}

fn forward<S: WithDType, T: Element>(
    gate_up: &Tensor,
    width: usize,
    value: impl Fn(S) -> T + Sync,
) -> Result<Tensor> {
    let rows = gate_up.dims()[0];
    let input = cpu::view::<S>(OP, gate_up)?;
    let input: &[S] = &input;
    let mut out = vec![T::ZERO; rows * width];
    cpu::for_rows(&mut out, width, |first, rows| {
        dispatch(
            #[inline(always)]
            || {
                for (i, y) in rows.chunks_exact_mut(width).enumerate() {
                    let (gate, up) = input[(first + i) * 2 * width..][..2 * width].split_at(width);
                    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                        let gate = value(*gate);
                        *y = gate * sigmoid(gate) * value(*up);
                    }
                }
            },
        );
    });
    cpu::tensor(out, (rows, width))
}

/// Gradient of [`swiglu`] with respect to `gate_up`, from the gradient `dy` `[T, F]`.
///
/// Has the dtype of `dy`: that of `gate_up`, or f32 for values stored in bf16 on the CPU.
///
/// # Errors
///
/// As [`swiglu`].
pub fn swiglu_backward(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, width) = halves(gate_up)?;
    shape::expect(OP, "dy", dy, &[rows, width], "[T, F]")?;
    let (gate_up, dy) = (gate_up.contiguous()?, dy.contiguous()?);
    shape::same_dtype(OP, "dy", &dy, stored::dtype(&gate_up))?;
    if let Some(gpu) = gpu::of(&gate_up) {
        return gpu::values::swiglu_backward(&gpu, &gate_up, &dy);
    }
    if gate_up.dtype() == DType::BF16 {
        return backward::<bf16, f32>(&gate_up, &dy, widened);
    }
    by_dtype!(OP, gate_up, T => backward::<T, T>(&gate_up, &dy, |x| x))
}

fn backward<S: WithDType, T: Element>(
    gate_up: &Tensor,
    dy: &Tensor,
    value: impl Fn(S) -> T + Sync,
) -> Result<Tensor> {
    let (rows, width) = dy.dims2()?;
    let (input, dy) = (cpu::view::<S>(OP, gate_up)?, cpu::view::<T>(OP, dy)?);
    let (input, dy): (&[S], &[T]) = (&input, &dy);
    let mut out = vec![T::ZERO; rows * 2 * width];
    cpu::for_rows(&mut out, 2 * width, |first, rows| {
        dispatch(
            #[inline(always)]
            || {
                for (i, out) in rows.chunks_exact_mut(2 * width).enumerate() {
                    let (gate, up) = input[(first + i) * 2 * width..][..2 * width].split_at(width);
                    let dy = &dy[(first + i) * width..][..width];
                    let (dgate, dup) = out.split_at_mut(width);
                    for j in 0..width {
                        let (gate, up) = (value(gate[j]), value(up[j]));
                        let s = sigmoid(gate);
                        dup[j] = dy[j] * gate * s;
                        dgate[j] = dy[j] * up * s * (T::ONE + gate * (T::ONE - s));
                    }
                }
            },
        );
    });
    cpu::tensor(out, (rows, 2 * width))
}

fn halves(gate_up: &Tensor) -> Result<(usize, usize)> {
    match gate_up.dims() {
        &[rows, width] if width % 2 == 0 => Ok((rows, width / 2)),
        got => Err(crate::Error::Shape {
            op: OP,
            what: "gate_up",
            expected: "[T, 2F]".into(),
            got: got.to_vec(),
        }),
    }
}

#[inline(always)]
fn sigmoid<T: Element>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp())
}
