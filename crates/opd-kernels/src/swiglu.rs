use candle_core::Tensor;

use crate::{
    Result,
    cpu::{self, Element, by_dtype, dispatch},
    gpu, shape,
};

const OP: &str = "swiglu";

/// `silu(gate) * up`, where `gate_up` is `[T, 2F]`: `F` gate values, then `F` up values.
///
/// The result is `[T, F]`; `silu(x) = x / (1 + exp(-x))`.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) or [`Error::DType`](crate::Error::DType).
///
/// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    let (rows, width) = halves(gate_up)?;
    let gate_up = gate_up.contiguous()?;
    if let Some(gpu) = gpu::of(&gate_up) {
        return gpu::values::swiglu(&gpu, &gate_up);
    }
    by_dtype!(OP, gate_up, T => {
        let input = cpu::view::<T>(OP, &gate_up)?;
        let input: &[T] = &input;
        let mut out = vec![T::ZERO; rows * width];
        cpu::for_rows(&mut out, width, |first, rows| dispatch(#[inline(always)] || {
            for (i, y) in rows.chunks_exact_mut(width).enumerate() {
                let (gate, up) = input[(first + i) * 2 * width..][..2 * width].split_at(width);
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = *gate * sigmoid(*gate) * *up;
                }
            }
        }));
        cpu::tensor(out, (rows, width))
    })
}

/// Gradient of [`swiglu`] with respect to `gate_up`, from the gradient `dy` `[T, F]`.
///
/// # Errors
///
/// As [`swiglu`].
pub fn swiglu_backward(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, width) = halves(gate_up)?;
    shape::expect(OP, "dy", dy, &[rows, width], "[T, F]")?;
    shape::same_dtype(OP, "dy", dy, gate_up.dtype())?;
    let (gate_up, dy) = (gate_up.contiguous()?, dy.contiguous()?);
    if let Some(gpu) = gpu::of(&gate_up) {
        return gpu::values::swiglu_backward(&gpu, &gate_up, &dy);
    }
    by_dtype!(OP, gate_up, T => {
        let (input, dy) = (cpu::view::<T>(OP, &gate_up)?, cpu::view::<T>(OP, &dy)?);
        let (input, dy): (&[T], &[T]) = (&input, &dy);
        let mut out = vec![T::ZERO; rows * 2 * width];
        cpu::for_rows(&mut out, 2 * width, |first, rows| dispatch(#[inline(always)] || {
            for (i, out) in rows.chunks_exact_mut(2 * width).enumerate() {
                let (gate, up) = input[(first + i) * 2 * width..][..2 * width].split_at(width);
                let dy = &dy[(first + i) * width..][..width];
                let (dgate, dup) = out.split_at_mut(width);
                for j in 0..width {
                    let s = sigmoid(gate[j]);
                    dup[j] = dy[j] * gate[j] * s;
                    dgate[j] = dy[j] * up[j] * s * (T::ONE + gate[j] * (T::ONE - s));
                }
            }
        }));
        cpu::tensor(out, (rows, 2 * width))
    })
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
