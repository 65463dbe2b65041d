use candle_core::{DType, Tensor};

use crate::{
    Result,
    cpu::{self, Element, Stored, by_stored, dispatch, with_rooms},
    gpu, shape, stored,
};

const OP: &str = "swiglu";

/// `silu(gate) * up`, where `gate_up` is `[T, 2F]`: `F` gate values, then `F` up values.
///
/// The result is `[T, F]`, of the dtype of `gate_up`; `silu(x) = x / (1 + exp(-x))`. bf16 and f16 are
/// computed in f32 and rounded once.
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape) or [`Error::DType`](crate::Error::DType).
///
/// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
pub fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    swiglu_as(gate_up, gate_up.dtype())
}

/// [`swiglu`] in `dtype`: that of `gate_up`, or on the CPU f32 for values that were stored in bf16 or
/// f16 to take less memory, as [`Products::stored`](crate::Products::stored) stores them.
///
/// # Errors
///
/// As [`swiglu`].
pub fn swiglu_as(gate_up: &Tensor, dtype: DType) -> Result<Tensor> {
    let (_, width) = halves(gate_up)?;
    let gate_up = gate_up.contiguous()?;
    stored::check_dtype(OP, "result", dtype, &gate_up)?;
    if let Some(gpu) = gpu::of(&gate_up) {
        return gpu::values::swiglu(&gpu, &gate_up);
    }
    by_stored!(OP, gate_up, S => match dtype == gate_up.dtype() {
        true => forward::<S, S>(&gate_up, width),
        false => forward::<S, <S as Stored>::Wide>(&gate_up, width),
    })
}

/// From values stored as `S` to values stored as `O`.
fn forward<S: Stored, O: Stored<Wide = S::Wide>>(gate_up: &Tensor, width: usize) -> Result<Tensor> {
    let rows = gate_up.dims()[0];
    let input = cpu::view::<S>(OP, gate_up)?;
    let input: &[S] = &input;
    let mut out = vec![O::default(); rows * width];
    cpu::for_rows(&mut out, width, |first, rows| {
        with_rooms::<S, 1, _>(2 * width, |[input_room]| {
            with_rooms::<O, 1, _>(width, |[out_room]| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, y) in rows.chunks_exact_mut(width).enumerate() {
                            let input = &input[(first + i) * 2 * width..][..2 * width];
                            let (gate, up) = S::read(input, input_room).split_at(width);
                            O::write(
                                y,
                                out_room,
                                #[inline(always)]
                                |y| row(y, gate, up),
                            );
                        }
                    },
                );
            });
        });
    });
    cpu::tensor(out, (rows, width))
}

#[inline(always)]
fn row<T: Element>(y: &mut [T], gate: &[T], up: &[T]) {
    for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
        *y = T::of(gate.as_f64() * sigmoid(*gate) * up.as_f64());
    }
}

/// Gradient of [`swiglu`] with respect to `gate_up`, from the gradient `dy` `[T, F]`.
///
/// Has the dtype of `dy`: that of `gate_up`, or f32 for stored values, as [`swiglu_as`] takes them.
///
/// # Errors
///
/// As [`swiglu`].
pub fn swiglu_backward(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, width) = halves(gate_up)?;
    shape::expect(OP, "dy", dy, &[rows, width], "[T, F]")?;
    let (gate_up, dy) = (gate_up.contiguous()?, dy.contiguous()?);
    stored::check_partner(OP, "dy", &dy, &gate_up)?;
    if let Some(gpu) = gpu::of(&gate_up) {
        return gpu::values::swiglu_backward(&gpu, &gate_up, &dy);
    }
    by_stored!(OP, gate_up, S => match dy.dtype() == gate_up.dtype() {
        true => backward::<S, S>(&gate_up, &dy),
        false => backward::<S, <S as Stored>::Wide>(&gate_up, &dy),
    })
}

fn backward<S: Stored, O: Stored<Wide = S::Wide>>(gate_up: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (rows, width) = dy.dims2()?;
    let (input, dy) = (cpu::view::<S>(OP, gate_up)?, cpu::view::<O>(OP, dy)?);
    let (input, dy): (&[S], &[O]) = (&input, &dy);
    let mut out = vec![O::default(); rows * 2 * width];
    cpu::for_rows(&mut out, 2 * width, |first, rows| {
        with_rooms::<S, 1, _>(2 * width, |[input_room]| {
            with_rooms::<O, 2, _>(2 * width, |[dy_room, out_room]| {
                dispatch(
                    #[inline(always)]
                    || {
                        for (i, out) in rows.chunks_exact_mut(2 * width).enumerate() {
                            let input = &input[(first + i) * 2 * width..][..2 * width];
                            let halves = S::read(input, input_room).split_at(width);
                            let dy = O::read(&dy[(first + i) * width..][..width], dy_room);
                            O::write(
                                out,
                                out_room,
                                #[inline(always)]
                                |out| row_backward(out, halves, dy),
                            );
                        }
                    },
                );
            });
        });
    });
    cpu::tensor(out, (rows, 2 * width))
}

#[inline(always)]
fn row_backward<T: Element>(out: &mut [T], (gate, up): (&[T], &[T]), dy: &[T]) {
    let width = dy.len();
    let (dgate, dup) = out.split_at_mut(width);
    let (gate, up, dup) = (&gate[..width], &up[..width], &mut dup[..width]);
    for j in 0..width {
        let (s, dy, gate, up) =
            (sigmoid(gate[j]), dy[j].as_f64(), gate[j].as_f64(), up[j].as_f64());
        dup[j] = T::of(dy * gate * s);
        dgate[j] = T::of(dy * up * s * (1.0 + gate * (1.0 - s)));
    }
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

/// In f64: what follows the exponential is rounded once.
#[inline(always)]
fn sigmoid<T: Element>(x: T) -> f64 {
    1.0 / (1.0 + (-x).exp().as_f64())
}
