use candle_core::DType;
use opd_kernels::{reference, swiglu, swiglu_as, swiglu_backward};
use opd_testkit::{assert_close, assert_gradient, host, numbers, tensor};

use super::{t64, weighted};

#[test]
fn values_are_those_of_the_formula() {
    for (rows, width) in [(1, 1), (3, 19), (150, 40), (0, 4)] {
        let x = t64(&numbers(rows * 2 * width, 1, 8.0), (rows, 2 * width));
        let want = host(&reference::swiglu(&x).unwrap());
        assert_close(&host(&swiglu(&x).unwrap()), &want, 1e-13);
        let got = swiglu(&x.to_dtype(DType::F32).unwrap()).unwrap();
        assert_close(&host(&got), &want, 2e-5);
    }
}

#[test]
fn far_gates_neither_overflow_nor_vanish() {
    let x = tensor(&[-1e4, -100.0, 100.0, 1e4, 1.0, 2.0, 3.0, 4.0], (1, 8), DType::F32);
    assert_eq!(host(&swiglu(&x).unwrap()), [0.0, 0.0, 300.0, 4e4]);
    let dy = tensor(&[1.0; 4], (1, 4), DType::F32);
    let gradient = host(&swiglu_backward(&x, &dy).unwrap());
    assert_eq!(gradient, [0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 100.0, 1e4]);
}

/// What is stored in bf16 is computed as those values are in f32.
#[test]
fn stored_values_have_the_results_of_their_values() {
    for (rows, width) in [(1, 1), (3, 19), (150, 40), (0, 4)] {
        let stored = t64(&numbers(rows * 2 * width, 1, 8.0), (rows, 2 * width));
        let stored = stored.to_dtype(DType::BF16).unwrap();
        let plain = stored.to_dtype(DType::F32).unwrap();
        let y = swiglu_as(&stored, DType::F32).unwrap();
        assert_eq!((y.dtype(), host(&y)), (DType::F32, host(&swiglu(&plain).unwrap())));
        let dy = t64(&numbers(rows * width, 2, 1.0), (rows, width)).to_dtype(DType::F32).unwrap();
        let [got, want] = [&stored, &plain].map(|x| swiglu_backward(x, &dy).unwrap());
        assert_eq!((got.dtype(), host(&got)), (DType::F32, host(&want)));
        assert!(swiglu_backward(&stored, &dy.to_dtype(DType::F16).unwrap()).is_err());
    }
}

#[test]
fn gradients_are_central_differences() {
    for (rows, width) in [(2, 3), (1, 19)] {
        let (x, dy) = (numbers(rows * 2 * width, 1, 4.0), numbers(rows * width, 2, 1.0));
        let of = |x: &[f64]| t64(x, (rows, 2 * width));
        let gradient = swiglu_backward(&of(&x), &t64(&dy, (rows, width))).unwrap();
        assert_gradient(&host(&gradient), &x, 1e-8, |x| weighted(&swiglu(&of(x)).unwrap(), &dy));
    }
}
