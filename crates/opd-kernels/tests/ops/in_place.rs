use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    AdamWStep, adamw_moments, adamw_step, add_assign, moving_average, sum_of_squares, write_rows,
};
use opd_testkit::{assert_close, host, numbers, tensor};

const SETTINGS: AdamWStep = AdamWStep {
    lr: 3e-2,
    beta1: 0.9,
    beta2: 0.98,
    eps: 1e-3,
    weight_decay: 0.2,
    gradient_scale: 0.25,
    step: 1,
};

/// PyTorch's `_single_tensor_adamw`, statement by statement, for one value.
fn pytorch_step(p: &mut f64, grad: f64, exp_avg: &mut f64, exp_avg_sq: &mut f64, step: i32) {
    let AdamWStep { lr, beta1, beta2, eps, weight_decay, .. } = SETTINGS;
    *p *= 1.0 - lr * weight_decay;
    *exp_avg += (grad - *exp_avg) * (1.0 - beta1);
    *exp_avg_sq = *exp_avg_sq * beta2 + (1.0 - beta2) * grad * grad;
    let (correction1, correction2) = (1.0 - beta1.powi(step), 1.0 - beta2.powi(step));
    let denominator = exp_avg_sq.sqrt() / correction2.sqrt() + eps;
    *p -= lr / correction1 * *exp_avg / denominator;
}

#[test]
fn adamw_steps_are_those_of_pytorch() {
    // More than one unit of parallel work, and not a whole number of them.
    let n = 40_000;
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
        let mut want = numbers(n, 1, 1.0);
        let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
        let parameter = tensor(&want, n, dtype);
        let (first, second) = (parameter.zeros_like().unwrap(), parameter.zeros_like().unwrap());
        for step in 1..=6 {
            let gradient = numbers(n, 10 + step, 4.0);
            for i in 0..n {
                let scaled = gradient[i] * SETTINGS.gradient_scale;
                pytorch_step(&mut want[i], scaled, &mut m[i], &mut v[i], step as i32);
            }
            let settings = AdamWStep { step, ..SETTINGS };
            let gradient = tensor(&gradient, n, dtype);
            adamw_step(&parameter, &gradient, &first, &second, &settings).unwrap();
        }
        assert_close(&host(&parameter), &want, tolerance);
        assert_close(&host(&first), &m, tolerance);
        assert_close(&host(&second), &v, tolerance);
    }
}

#[test]
fn where_moments_are_changes_no_bit() {
    for dims in [[3, 5], [1_031, 301]] {
        let n = dims[0] * dims[1];
        let placed = tensor(&numbers(n, 1, 1.0), dims.to_vec(), DType::F32);
        let plain = placed.copy().unwrap();
        let moments = adamw_moments(&placed).unwrap();
        let zeros = [plain.zeros_like().unwrap(), plain.zeros_like().unwrap()];
        for moment in &moments {
            assert_eq!((moment.dims(), moment.dtype()), (&dims[..], DType::F32));
            assert!(host(moment).iter().all(|value| *value == 0.0));
        }
        for step in 1..=2 {
            let gradient = tensor(&numbers(n, 10 + step, 4.0), dims.to_vec(), DType::F32);
            let settings = AdamWStep { step, ..SETTINGS };
            adamw_step(&placed, &gradient, &moments[0], &moments[1], &settings).unwrap();
            adamw_step(&plain, &gradient, &zeros[0], &zeros[1], &settings).unwrap();
        }
        assert_eq!(host(&placed), host(&plain));
        for (moment, plain) in moments.iter().zip(&zeros) {
            assert_eq!(host(moment), host(plain));
        }
    }
}

#[test]
fn a_refused_step_changes_nothing() {
    let (p, g) = (tensor(&[1.0, 2.0], 2, DType::F32), tensor(&[1.0, 1.0], 2, DType::F32));
    let (m, v) = (tensor(&[0.0; 2], 2, DType::F32), tensor(&[0.0; 2], 2, DType::F64));
    adamw_step(&p, &g, &m, &v, &SETTINGS).unwrap_err();
    assert_eq!((host(&p), host(&m)), (vec![1.0, 2.0], vec![0.0; 2]));
}

#[test]
fn squares_are_summed_exactly_where_they_can_be() {
    let values: Vec<f64> = (0..50_001).map(|i| f64::from(i % 101 - 50)).collect();
    let want: f64 = values.iter().map(|x| x * x).sum();
    for dtype in [DType::F32, DType::F64] {
        assert_eq!(sum_of_squares(&tensor(&values, 50_001, dtype)).unwrap(), want);
        assert_eq!(sum_of_squares(&tensor(&[], 0, dtype)).unwrap(), 0.0);
    }
    assert_eq!(sum_of_squares(&tensor(&[2f64.powi(100)], 1, DType::F32)).unwrap(), 2f64.powi(200));
    let view = tensor(&values[..12], (3, 4), DType::F64).t().unwrap().narrow(0, 1, 2).unwrap();
    assert_eq!(sum_of_squares(&view).unwrap(), host(&view).iter().map(|x| x * x).sum::<f64>());
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut values = values.clone();
        values[40_000] = bad;
        assert!(!sum_of_squares(&tensor(&values, 50_001, DType::F32)).unwrap().is_finite());
    }
}

#[test]
fn sums_are_added_in_place() {
    let sums = tensor(&numbers(12, 1, 1.0), (4, 3), DType::F64);
    let values = tensor(&numbers(12, 2, 1.0), (3, 4), DType::F64).t().unwrap();
    let want = host(&(&sums + &values).unwrap());
    add_assign(&sums, &values).unwrap();
    assert_eq!(host(&sums), want);
}

#[test]
fn rows_of_a_cache_are_replaced() {
    let cache = tensor(&numbers(5 * 2 * 3, 1, 1.0), (5, 2, 3), DType::F32);
    let before = cache.to_vec3::<f32>().unwrap();
    // The last two of four heads: rows are strided.
    let fused = tensor(&numbers(3 * 4 * 3, 2, 1.0), (3, 4, 3), DType::F32);
    let source = fused.narrow(1, 2, 2).unwrap();
    let rows = source.to_vec3::<f32>().unwrap();
    write_rows(&cache, &[4, 0, 2], &source).unwrap();
    let want = [&rows[1], &before[1], &rows[2], &before[3], &rows[0]].map(Clone::clone);
    assert_eq!(cache.to_vec3::<f32>().unwrap(), want);
    // Heads the other way round: not even a head is contiguous.
    let turned = fused.transpose(1, 2).unwrap().narrow(2, 0, 2).unwrap().transpose(1, 2).unwrap();
    write_rows(&cache, &[1, 1, 3], &turned).unwrap();
    let turned = turned.to_vec3::<f32>().unwrap();
    let want = [&rows[1], &turned[1], &rows[2], &turned[2], &rows[0]].map(Clone::clone);
    assert_eq!(cache.to_vec3::<f32>().unwrap(), want);
    write_rows(&cache, &[], &Tensor::zeros((0, 2, 3), DType::F32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(cache.to_vec3::<f32>().unwrap(), want);
}

#[test]
fn a_moving_average_is_the_weighted_sum_of_what_it_has_seen() {
    let n = 40_000;
    for (dtype, tolerance) in [(DType::F64, 1e-14), (DType::F32, 1e-6)] {
        for decay in [0.0, 0.9, 1.0] {
            let seen: Vec<Vec<f64>> = (0..4).map(|i| numbers(n, 30 + i, 2.0)).collect();
            let average = tensor(&seen[0], n, dtype);
            for values in &seen[1..] {
                moving_average(&average, &tensor(values, n, dtype), decay).unwrap();
            }
            // In closed form: the first has decay^3, the others (1 - decay) decay^(3 - i).
            let weights = [decay.powi(3), decay.powi(2), decay, 1.0f64];
            let weight = |i: usize| if i == 0 { weights[0] } else { (1.0 - decay) * weights[i] };
            let want = (0..n).map(|v| (0..4).map(|i| weight(i) * seen[i][v]).sum());
            assert_close(&host(&average), &want.collect::<Vec<f64>>(), tolerance);
        }
    }
}

#[test]
fn a_refused_average_changes_nothing() {
    let average = tensor(&[1.0, 2.0], 2, DType::F32);
    let values = tensor(&[3.0, 3.0], 2, DType::F32);
    for decay in [-0.1, 1.1, f64::NAN] {
        moving_average(&average, &values, decay).unwrap_err();
    }
    moving_average(&average, &tensor(&[3.0], 1, DType::F32), 0.5).unwrap_err();
    moving_average(&average, &tensor(&[3.0, 3.0], 2, DType::F64), 0.5).unwrap_err();
    moving_average(&average, &average, 0.5).unwrap_err();
    assert_eq!(host(&average), [1.0, 2.0]);
}
