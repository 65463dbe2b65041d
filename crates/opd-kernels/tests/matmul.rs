//! The three products of a linear layer at tensor level: values, strides, gradients, refusals.
//! Their order of accumulation is tested beside the kernels.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    Error, PackedWeight, Products, linear, linear_acc, linear_grad_input, linear_grad_weight,
    linear_grad_weight_acc, linear_packed,
};

/// Integers in `-6..=6`: sums of their products are exact in any order.
fn integers(rows: usize, cols: usize, dtype: DType) -> Tensor {
    let values = (0..rows * cols).map(|i| ((i * 7 + i / 5) % 13) as f64 - 6.0);
    let values: Vec<_> = values.collect();
    Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn assert_same(got: &Tensor, want: &Tensor) {
    assert_eq!((got.dims(), got.dtype()), (want.dims(), want.dtype()));
    let values = |t: &Tensor| {
        t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    assert_eq!(values(got), values(want));
}

#[test]
fn products_are_those_of_candle() {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        for (tokens, inner, outer) in [(1, 5, 3), (7, 13, 64), (40, 352, 33), (0, 4, 4), (3, 0, 2)]
        {
            let x = integers(tokens, inner, dtype);
            let w = integers(outer, inner, dtype);
            let dy = integers(tokens, outer, dtype);
            let (w_t, dy_t) = (w.t().unwrap(), dy.t().unwrap());
            let want = |a: &Tensor, b: &Tensor| match a.dims()[1] {
                0 => Tensor::zeros((a.dims()[0], b.dims()[1]), dtype, &Device::Cpu).unwrap(),
                _ => a.contiguous().unwrap().matmul(&b.contiguous().unwrap()).unwrap(),
            };
            let y = linear(&x, &w).unwrap();
            if tokens > 0 {
                assert_same(&y, &want(&x, &w_t));
                assert_same(&linear_grad_input(&dy, &w).unwrap(), &want(&dy, &w));
            }
            if inner > 0 {
                assert_same(&linear_grad_weight(&dy, &x).unwrap(), &want(&dy_t, &x));
            }
            let packed = PackedWeight::new(&w).unwrap();
            assert_same(&linear_packed(&x, &packed).unwrap(), &y);
        }
    }
}

#[test]
fn views_are_read_where_they_are() {
    let x = integers(20, 30, DType::F32).narrow(0, 3, 11).unwrap().narrow(1, 5, 17).unwrap();
    let w = integers(17, 9, DType::F32).t().unwrap();
    let want = linear(&x.contiguous().unwrap(), &w.contiguous().unwrap()).unwrap();
    assert_same(&linear(&x, &w).unwrap(), &want);
    assert_same(&linear_packed(&x, &PackedWeight::new(&w).unwrap()).unwrap(), &want);
    let repeated = integers(1, 17, DType::F32).broadcast_as((11, 17)).unwrap();
    let want = linear(&repeated.contiguous().unwrap(), &w).unwrap();
    assert_same(&linear(&repeated, &w).unwrap(), &want);
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let x = Tensor::randn(0f32, 1.0, (300, 352), &Device::Cpu).unwrap();
    let w = Tensor::randn(0f32, 1.0, (176, 352), &Device::Cpu).unwrap();
    let all = linear(&x, &w).unwrap();
    let packed = PackedWeight::new(&w).unwrap();
    for (first, rows) in [(0, 1), (7, 1), (299, 1), (10, 2), (31, 7), (0, 300)] {
        let part = x.narrow(0, first, rows).unwrap();
        let want = all.narrow(0, first, rows).unwrap();
        assert_same(&linear(&part, &w).unwrap(), &want);
        assert_same(&linear_packed(&part, &packed).unwrap(), &want);
    }
}

#[test]
fn gradients_flow_through_each_product() {
    type Product = fn(&Tensor, &Tensor) -> opd_kernels::Result<Tensor>;
    type Plain = fn(&Tensor, &Tensor) -> Tensor;
    type Form = (Product, Plain, [(usize, usize); 2]);
    let forms: [Form; 3] = [
        (linear, |a, b| a.matmul(&b.t().unwrap()).unwrap(), [(4, 5), (3, 5)]),
        (linear_grad_input, |a, b| a.matmul(b).unwrap(), [(4, 3), (3, 5)]),
        (linear_grad_weight, |a, b| a.t().unwrap().matmul(b).unwrap(), [(4, 3), (4, 5)]),
    ];
    for (product, plain, [a, b]) in forms {
        let a = Var::from_tensor(&integers(a.0, a.1, DType::F64)).unwrap();
        let b = Var::from_tensor(&integers(b.0, b.1, DType::F64)).unwrap();
        let got = product(&a, &b).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let want = plain(&a, &b).sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert_same(got.get(&a).unwrap(), want.get(&a).unwrap());
        assert_same(got.get(&b).unwrap(), want.get(&b).unwrap());
    }
}

#[test]
fn a_packed_weight_refuses_a_backward_pass() {
    let x = Var::from_tensor(&integers(2, 3, DType::F32)).unwrap();
    let packed = PackedWeight::new(&integers(4, 3, DType::F32)).unwrap();
    let y = linear_packed(&x, &packed).unwrap();
    assert!(y.sum_all().unwrap().backward().is_err());
}

#[test]
fn a_gradient_is_added_in_place() {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let (dy, x) = (integers(9, 6, dtype), integers(9, 4, dtype));
        let whole = integers(8, 4, dtype);
        let acc = whole.narrow(0, 1, 6).unwrap();
        let want = (&acc + linear_grad_weight(&dy, &x).unwrap()).unwrap();
        let (above, below) = (whole.get(0).unwrap(), whole.get(7).unwrap());
        let beside = [above.copy().unwrap(), below.copy().unwrap()];
        linear_grad_weight_acc(&dy, &x, &acc).unwrap();
        assert_same(&acc, &want);
        assert_same(&above, &beside[0]);
        assert_same(&below, &beside[1]);
    }
}

#[test]
fn a_product_is_added_to_columns_in_place() {
    for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
        let (x, weight) = (integers(7, 3, dtype), integers(4, 3, dtype));
        let acc = integers(7, 9, dtype).copy().unwrap();
        let before = acc.copy().unwrap();
        linear_acc(&x, &weight, &acc, 2).unwrap();
        let columns = |t: &Tensor, start, n| t.narrow(1, start, n).unwrap();
        let want = (columns(&before, 2, 4) + linear(&x, &weight).unwrap()).unwrap();
        assert_same(&columns(&acc, 2, 4), &want);
        assert_same(&columns(&acc, 0, 2), &columns(&before, 0, 2));
        assert_same(&columns(&acc, 6, 3), &columns(&before, 6, 3));
        // A transposed weight: what the other factor of an adapter is.
        linear_acc(&x, &integers(3, 9, dtype).t().unwrap(), &acc, 0).unwrap();
    }
    let of = |rows, cols| integers(rows, cols, DType::F32);
    for (acc, start) in [(of(7, 5), 2), (of(6, 9), 0)] {
        let result = linear_acc(&of(7, 3), &of(4, 3), &acc, start);
        assert!(matches!(result, Err(Error::Shape { what: "acc", .. })), "{result:?}");
    }
    let double = integers(7, 9, DType::F64);
    let result = linear_acc(&of(7, 3), &of(4, 3), &double, 0);
    assert!(matches!(result, Err(Error::DType { what: "acc", .. })));
}

#[test]
fn a_gram_matrix_may_share_its_operands_but_not_its_sum() {
    let x = integers(4, 4, DType::F32);
    let acc = Tensor::zeros((4, 4), DType::F32, &Device::Cpu).unwrap();
    linear_grad_weight_acc(&x, &x, &acc).unwrap();
    assert_same(&acc, &x.t().unwrap().matmul(&x).unwrap());
    assert!(matches!(linear_grad_weight_acc(&x, &acc, &acc), Err(Error::Candle(_))));
}

#[test]
fn misfits_are_refused() {
    let of = |rows, cols| integers(rows, cols, DType::F32);
    let shape = |result: opd_kernels::Result<Tensor>, want: &str| match result {
        Err(Error::Shape { what, expected, .. }) => assert_eq!(format!("{what} {expected}"), want),
        other => panic!("expected a shape error, got {other:?}"),
    };
    shape(linear(&of(2, 3), &of(4, 5)), "weight [N, 3]");
    shape(linear_grad_input(&of(2, 3), &of(4, 5)), "weight [3, K]");
    shape(linear_grad_weight(&of(2, 3), &of(4, 5)), "x [2, K]");
    let cube = Tensor::zeros((1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    shape(linear(&cube, &of(4, 3)), "x a matrix; flatten the dimensions before the last");
    let packed = PackedWeight::new(&of(4, 5)).unwrap();
    shape(linear_packed(&of(2, 3), &packed), "x [T, 5]");
    shape(
        linear_grad_weight_acc(&of(2, 3), &of(2, 5), &of(3, 4)).map(|()| cube.clone()),
        "acc [N, K] = [3, 5]",
    );
    let double = integers(4, 3, DType::F64);
    assert!(matches!(linear(&of(2, 3), &double), Err(Error::DType { what: "weight", .. })));
    let packed = PackedWeight::new(&double).unwrap();
    assert!(matches!(linear_packed(&of(2, 3), &packed), Err(Error::DType { what: "x", .. })));
    let result = linear_grad_weight_acc(&of(2, 3), &of(2, 5), &integers(3, 5, DType::F64));
    assert!(matches!(result, Err(Error::DType { what: "acc", .. })));
}

/// Whole numbers of few digits are bf16 values: nothing is rounded.
#[test]
fn bf16_products_of_bf16_values_are_exact() {
    for (tokens, inner, outer) in [(1, 5, 3), (7, 13, 64), (40, 353, 33), (0, 4, 4), (3, 0, 2)] {
        let (x, w) = (integers(tokens, inner, DType::F32), integers(outer, inner, DType::F32));
        let dy = integers(tokens, outer, DType::F32);
        let y = linear(&x, &w).unwrap();
        assert_same(&Products::Bf16.linear(&x, &w).unwrap(), &y);
        let packed = Products::Bf16.pack(&w).unwrap();
        assert_same(&linear_packed(&x, &packed).unwrap(), &y);
        let dx = linear_grad_input(&dy, &w).unwrap();
        assert_same(&Products::Bf16.grad_input(&dy, &w).unwrap(), &dx);
        let dw = linear_grad_weight(&dy, &x).unwrap();
        assert_same(&Products::Bf16.grad_weight(&dy, &x).unwrap(), &dw);
        if inner > 0 {
            let acc = dw.copy().unwrap();
            Products::Bf16.grad_weight_acc(&dy, &x, &acc).unwrap();
            assert_same(&acc, &(&dw * 2.0).unwrap());
        }
    }
}

#[test]
fn bf16_products_round_to_the_nearest_and_ties_to_even() {
    let ulp = 2f32.powi(-7);
    let x = [1.0 + 0.5 * ulp, 1.0 + 1.5 * ulp, 1.0 + 0.51 * ulp, -1.0 - 0.49 * ulp];
    let want = [1.0, 1.0 + 2.0 * ulp, 1.0 + ulp, -1.0];
    let one = Tensor::new(&[[1f32]], &Device::Cpu).unwrap();
    for (x, want) in x.into_iter().zip(want) {
        let x = Tensor::new(&[[x]], &Device::Cpu).unwrap();
        let want = Tensor::new(&[[want]], &Device::Cpu).unwrap();
        assert_same(&Products::Bf16.linear(&x, &one).unwrap(), &want);
        assert_same(&Products::Bf16.linear(&one, &x).unwrap(), &want);
        let packed = Products::Bf16.pack(&x).unwrap();
        assert_same(&linear_packed(&one, &packed).unwrap(), &want);
    }
}

#[test]
fn gradients_flow_through_bf16_products() {
    let a = Var::from_tensor(&integers(4, 5, DType::F32)).unwrap();
    let b = Var::from_tensor(&integers(3, 5, DType::F32)).unwrap();
    let dy = integers(4, 3, DType::F32);
    let run = |products: Products| {
        let y = products.linear(&a, &b).unwrap();
        (y * &dy).unwrap().sum_all().unwrap().backward().unwrap()
    };
    let (got, want) = (run(Products::Bf16), run(Products::Full));
    assert_same(got.get(&a).unwrap(), want.get(&a).unwrap());
    assert_same(got.get(&b).unwrap(), want.get(&b).unwrap());
}

#[test]
fn bf16_products_are_of_f32_tensors() {
    for dtype in [DType::F64, DType::BF16] {
        let (x, w) = (integers(2, 3, dtype), integers(4, 3, dtype));
        let refused = [
            Products::Bf16.linear(&x, &w).map(|_| ()),
            Products::Bf16.grad_input(&x, &x.t().unwrap()).map(|_| ()),
            Products::Bf16.grad_weight(&x, &x).map(|_| ()),
            Products::Bf16.grad_weight_acc(&x, &x, &integers(3, 3, dtype)),
            Products::Bf16.pack(&w).map(|_| ()),
        ];
        for result in refused {
            assert!(matches!(result, Err(Error::DType { .. })), "{result:?}");
        }
    }
}
