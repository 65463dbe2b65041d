//! Every op, in every dtype and over strided, narrowed and shifted inputs, against its definition in
//! plain candle ops in f64.

mod layers;
mod products;
mod training;

use candle_core::{D, DType, Tensor, Var};
use opd_kernels::reference;
use opd_testkit::{host, numbers};
use proptest::prelude::*;

use super::t64;

/// How the values of a tensor lie in memory.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Contiguous,
    /// The last two dimensions the other way round.
    Transposed,
    /// Rows of a wider tensor.
    Narrowed,
    /// Behind other rows.
    Shifted,
}

fn layouts() -> impl Strategy<Value = Layout> {
    use Layout::{Contiguous, Narrowed, Shifted, Transposed};
    prop_oneof![Just(Contiguous), Just(Transposed), Just(Narrowed), Just(Shifted)]
}

fn dtypes() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F64), Just(DType::F32), Just(DType::BF16), Just(DType::F16)]
}

/// The distance of 1 and the next number.
fn unit(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 2f64.powi(-7),
        DType::F16 => 2f64.powi(-10),
        DType::F32 => 2f64.powi(-23),
        _ => 2f64.powi(-52),
    }
}

/// What sums in the dtype that `dtype` is computed in may be off, for values of about 1.
fn slack(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 1e-5 }
}

/// Values that every dtype holds exactly, in f64: multiples of 1/64 below 2.
fn exact(dims: &[usize], seed: u64) -> Tensor {
    let values = numbers(dims.iter().product(), seed, 127.0);
    t64(&values.iter().map(|x| x.round() / 64.0).collect::<Vec<_>>(), dims)
}

/// The same values in another dtype and order.
fn laid(tensor: &Tensor, dtype: DType, layout: Layout) -> Tensor {
    let tensor = tensor.to_dtype(dtype).unwrap();
    let rank = tensor.rank();
    match layout {
        Layout::Transposed if rank > 1 => {
            let turned = tensor.transpose(rank - 2, rank - 1).unwrap().contiguous().unwrap();
            turned.transpose(rank - 2, rank - 1).unwrap()
        }
        Layout::Contiguous | Layout::Transposed => tensor,
        Layout::Narrowed => {
            let width = tensor.dim(D::Minus1).unwrap();
            let twice = Tensor::cat(&[&tensor, &tensor], rank - 1).unwrap();
            twice.narrow(rank - 1, 0, width).unwrap()
        }
        Layout::Shifted => {
            let rows = tensor.dims()[0];
            let twice = Tensor::cat(&[&tensor, &tensor], 0).unwrap();
            twice.narrow(0, rows, rows).unwrap()
        }
    }
}

/// Whether `got` is `want`, rounded to its dtype, but for what `size` terms of about 1 may be off.
fn near(got: &Tensor, want: &Tensor, size: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.dims(), want.dims());
    let dtype = got.dtype();
    let bound = slack(dtype) * size;
    for (i, (got, want)) in host(got).into_iter().zip(host(want)).enumerate() {
        // Half a unit, and the smallest numbers of f16, which are further apart.
        let rounding = 0.51 * unit(dtype) * want.abs() + 4e-8;
        let close = (got - want).abs() <= bound + rounding;
        prop_assert!(close, "{dtype:?} entry {i}: {got}, expected {want}");
    }
    Ok(())
}

/// The gradients of `sum(out * dout)` in some inputs, in f64.
fn twin_gradients(
    inputs: &[&Tensor],
    dout: &Tensor,
    forward: impl Fn(&[Tensor]) -> Tensor,
) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let of: Vec<&Tensor> = tensors.iter().collect();
    reference::gradients(&forward(&tensors), dout, &of).unwrap()
}
