use candle_core::{DType, Tensor, Var};
use opd_kernels::{add_rms_norm, reference, rms_norm, rms_norm_backward};
use opd_testkit::{assert_close, assert_gradient, host, numbers, tensor};

use super::{t64, weighted};

const EPS: f64 = 1e-3;

fn plain(x: &Tensor, weight: &Tensor, eps: f64) -> Tensor {
    reference::rms_norm(x, weight, eps).unwrap()
}

#[test]
fn values_are_those_of_the_formula() {
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
        for dims in [vec![7], vec![3, 16], vec![2, 3, 37], vec![0, 5], vec![130, 80]] {
            let width = *dims.last().unwrap();
            let x = numbers(dims.iter().product(), 1, 2.0);
            let (x, weight) = (t64(&x, dims), t64(&numbers(width, 2, 1.5), width));
            let cast = |t: &Tensor| t.to_dtype(dtype).unwrap();
            let got = rms_norm(&cast(&x), &cast(&weight), EPS).unwrap();
            assert_eq!((got.dims(), got.dtype()), (x.dims(), dtype));
            assert_close(&host(&got), &host(&plain(&x, &weight, EPS)), tolerance);
        }
    }
}

#[test]
fn views_are_read_as_they_are_shaped() {
    let x = t64(&numbers(60, 1, 2.0), (5, 12)).t().unwrap();
    let weight = t64(&numbers(5, 2, 1.0), 5);
    let want = rms_norm(&x.contiguous().unwrap(), &weight, EPS).unwrap();
    assert_eq!(host(&rms_norm(&x, &weight, EPS).unwrap()), host(&want));
}

#[test]
fn of_a_sum_it_is_the_norm_of_the_sum() {
    for rows in [3, 300] {
        let of = |seed| tensor(&numbers(rows * 40, seed, 2.0), (rows, 40), DType::F32);
        let (x, delta, weight) = (of(1), of(2), tensor(&numbers(40, 3, 1.0), 40, DType::F32));
        let (sum, normed) = add_rms_norm(&x, &delta, &weight, EPS).unwrap();
        let want = (&x + &delta).unwrap();
        assert_eq!(host(&sum), host(&want));
        assert_eq!(host(&normed), host(&rms_norm(&want, &weight, EPS).unwrap()));
    }
}

#[test]
fn gradients_are_central_differences() {
    for (rows, width) in [(3, 5), (2, 37)] {
        let n = rows * width;
        let (x, w, dy) = (numbers(n, 1, 2.0), numbers(width, 2, 1.5), numbers(n, 3, 1.0));
        let residual = numbers(n, 4, 1.0);
        let of = |values: &[f64]| t64(values, (rows, width));
        let weight = t64(&w, width);
        for residual in [None, Some(of(&residual))] {
            let (dx, dweight) =
                rms_norm_backward(&of(&x), &weight, &of(&dy), residual.as_ref(), EPS).unwrap();
            // The residual stream passes the norm by: its own gradient is added.
            let beside = |x: &Tensor| residual.as_ref().map_or(0.0, |r| weighted(x, &host(r)));
            assert_gradient(&host(&dx), &x, 1e-8, |x| {
                weighted(&rms_norm(&of(x), &weight, EPS).unwrap(), &dy) + beside(&of(x))
            });
            assert_gradient(&host(&dweight), &w, 1e-8, |w| {
                weighted(&rms_norm(&of(&x), &t64(w, width), EPS).unwrap(), &dy)
            });
        }
    }
}

#[test]
fn gradients_over_several_chunks_are_those_of_candle() {
    let (rows, width) = (150, 40);
    let var = |values: &[f64], dims: &[usize]| Var::from_tensor(&t64(values, dims)).unwrap();
    let x = var(&numbers(rows * width, 1, 2.0), &[rows, width]);
    let weight = var(&numbers(width, 2, 1.5), &[width]);
    let dy = t64(&numbers(rows * width, 3, 1.0), (rows, width));
    let sum = (plain(&x, &weight, EPS) * &dy).unwrap().sum_all().unwrap();
    let want = sum.backward().unwrap();
    let (dx, dweight) = rms_norm_backward(&x, &weight, &dy, None, EPS).unwrap();
    assert_close(&host(&dx), &host(want.get(&x).unwrap()), 1e-12);
    assert_close(&host(&dweight), &host(want.get(&weight).unwrap()), 1e-12);
}
