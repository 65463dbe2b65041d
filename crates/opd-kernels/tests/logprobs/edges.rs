//! One column, no rows, huge and infinite logits, NaN, frozen arguments.

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    Divergence, Projection, divergence, linear_divergence, linear_token_logprobs, token_logprobs,
};

use super::{gradients, host, ids, matrix, numbers};

const INFINITY: f64 = f64::INFINITY;

#[test]
fn one_column_is_certain() {
    for dtype in [DType::F32, DType::F64] {
        let logits = matrix(&[3.0, -1e4], 2, 1, dtype);
        let out = token_logprobs(&logits, &ids(&[0, 0]), 2.0).unwrap();
        assert_eq!(host(&out.logprobs), [0.0, 0.0]);
        assert_eq!(host(&out.entropy), [0.0, 0.0]);
        assert_eq!(host(&out.lse), [1.5, -5e3]);
        let sum = (out.logprobs + out.entropy).unwrap().sum_all().unwrap();
        assert_eq!(gradients(&sum, &[&logits]), [[0.0, 0.0]]);
        let other = matrix(&[1.0, 1.0], 2, 1, dtype);
        let out = divergence(&logits, &other, &ids(&[0, 0]), Divergence::ReverseKl, 1.0).unwrap();
        assert_eq!(host(&out.divergence), [0.0, 0.0]);
        assert_eq!(gradients(&out.divergence.sum_all().unwrap(), &[&logits]), [[0.0, 0.0]]);
    }
}

#[test]
fn no_rows() {
    let (hidden, head) = (matrix(&[], 0, 3, DType::F32), matrix(&[1.0; 15], 5, 3, DType::F32));
    let none = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
    let out = linear_token_logprobs(&hidden, &head, &none, 1.0).unwrap();
    assert_eq!(out.logprobs.dims(), [0]);
    let logits = matrix(&[], 0, 5, DType::F32);
    assert_eq!(token_logprobs(&logits, &none, 1.0).unwrap().entropy.dims(), [0]);
    let student = Projection::new(&hidden, &head);
    let out = linear_divergence(student, student, &none, Divergence::ForwardKl, 1.0).unwrap();
    assert_eq!(out.divergence.dims(), [0]);
}

#[test]
fn tokens_that_cannot_occur() {
    let values = [-INFINITY, 1.0, 2.0, -INFINITY, -INFINITY, -INFINITY, -1e4, -INFINITY];
    for dtype in [DType::F32, DType::F64] {
        let logits = matrix(&values, 2, 4, dtype);
        let out = token_logprobs(&logits, &ids(&[2, 2]), 1.0).unwrap();
        let e = (-1.0f64).exp();
        let want = -e.ln_1p();
        assert!((host(&out.logprobs)[0] - want).abs() < 1e-6);
        assert_eq!(host(&out.logprobs)[1], 0.0);
        assert_eq!(host(&out.entropy)[1], 0.0);
        let sum = ((out.logprobs + out.entropy).unwrap() + out.lse).unwrap().sum_all().unwrap();
        let gradient = gradients(&sum, &[&logits]).remove(0);
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        assert_eq!([gradient[0], gradient[3], gradient[4], gradient[7]], [0.0; 4]);
        for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.5 }] {
            let other = matrix(&[-INFINITY, 2.0, 1.0, -INFINITY], 1, 4, dtype);
            let student = logits.narrow(0, 0, 1).unwrap();
            let out = divergence(&student, &other, &ids(&[2]), kind, 1.0).unwrap();
            assert!(host(&out.divergence)[0] > 0.01, "{kind:?}");
            let gradient = gradients(&out.divergence, &[&logits]).remove(0);
            assert!(gradient.iter().all(|g| g.is_finite()), "{kind:?}: {gradient:?}");
        }
    }
}

#[test]
fn a_target_that_cannot_occur_is_negative_infinity() {
    let logits = matrix(&[-INFINITY, 1.0, 2.0], 1, 3, DType::F32);
    let out = token_logprobs(&logits, &ids(&[0]), 1.0).unwrap();
    assert_eq!(host(&out.logprobs), [-INFINITY]);
}

#[test]
fn a_kl_from_what_the_teacher_excludes_is_infinite() {
    let student = matrix(&[0.0, 0.0], 1, 2, DType::F32);
    let teacher = matrix(&[0.0, -INFINITY], 1, 2, DType::F32);
    let of =
        |kind| host(&divergence(&student, &teacher, &ids(&[0]), kind, 1.0).unwrap().divergence)[0];
    assert_eq!(of(Divergence::ReverseKl), INFINITY);
    assert!((of(Divergence::ForwardKl) - 2f64.ln()).abs() < 1e-6);
    assert!(of(Divergence::Jsd { beta: 0.5 }) < 2f64.ln());
}

#[test]
fn huge_logits_lose_nothing() {
    let shift = 2f64.powi(14);
    let values = numbers(40, 3, 8.0).iter().map(|x| (x * 64.0).round() / 64.0).collect::<Vec<_>>();
    let ids = ids(&[7, 30 - 20]);
    for sign in [1.0, -1.0] {
        let shifted: Vec<f64> = values.iter().map(|x| x + sign * shift).collect();
        let near = token_logprobs(&matrix(&values, 2, 20, DType::F32), &ids, 1.0).unwrap();
        let far = token_logprobs(&matrix(&shifted, 2, 20, DType::F32), &ids, 1.0).unwrap();
        assert_eq!(host(&near.logprobs), host(&far.logprobs));
        assert_eq!(host(&near.entropy), host(&far.entropy));
    }
}

#[test]
fn nan_is_not_hidden_and_stays_in_its_row() {
    for bad in [f64::NAN, INFINITY] {
        for at in [0, 4] {
            let mut values = numbers(10, 5, 1.0);
            values[at] = bad;
            let logits = matrix(&values, 2, 5, DType::F32);
            let out = token_logprobs(&logits, &ids(&[1, 1]), 1.0).unwrap();
            for part in [&out.logprobs, &out.lse, &out.entropy] {
                let part = host(part);
                assert!(part[0].is_nan() && part[1].is_finite(), "{part:?}");
            }
            let gradient = gradients(&out.logprobs.sum_all().unwrap(), &[&logits]).remove(0);
            assert!(gradient[..5].iter().all(|g| g.is_nan()), "{gradient:?}");
            assert!(gradient[5..].iter().all(|g| g.is_finite()));
            let other = matrix(&numbers(10, 6, 1.0), 2, 5, DType::F32);
            for (student, teacher) in [(&logits, &other), (&other, &logits)] {
                let kind = Divergence::Jsd { beta: 0.5 };
                let out = divergence(student, teacher, &ids(&[1, 1]), kind, 1.0).unwrap();
                let divergence = host(&out.divergence);
                assert!(divergence[0].is_nan() && divergence[1].is_finite());
            }
        }
    }
}

#[test]
fn rows_that_nobody_asks_about_get_no_gradient() {
    let mut values = numbers(10, 5, 1.0);
    values[2] = f64::NAN;
    let logits = matrix(&values, 2, 5, DType::F32);
    let out = token_logprobs(&logits, &ids(&[1, 1]), 1.0).unwrap();
    let gradient = gradients(&out.logprobs.narrow(0, 1, 1).unwrap(), &[&logits]).remove(0);
    assert_eq!(gradient[..5], [0.0; 5]);
    assert!(gradient[5..].iter().all(|g| g.is_finite() && *g != 0.0));
}

#[test]
fn a_frozen_argument_gets_no_gradient() {
    let hidden = matrix(&numbers(6, 1, 1.0), 2, 3, DType::F64);
    let head = matrix(&numbers(12, 2, 1.0), 4, 3, DType::F64);
    let ids = ids(&[0, 3]);
    let both = linear_token_logprobs(&hidden, &head, &ids, 1.0).unwrap().logprobs;
    let both = both.sum_all().unwrap().backward().unwrap();
    let want = |var: &Var| host(both.get(var).unwrap());
    let of = |hidden: &Tensor, head: &Tensor| {
        let out = linear_token_logprobs(hidden, head, &ids, 1.0).unwrap().logprobs;
        out.sum_all().unwrap().backward().unwrap()
    };
    let frozen = head.as_detached_tensor();
    let store = of(&hidden, &frozen);
    assert!(store.get(&frozen).is_none());
    assert_eq!(host(store.get(&hidden).unwrap()), want(&hidden));
    let frozen = hidden.as_detached_tensor();
    let store = of(&frozen, &head);
    assert!(store.get(&frozen).is_none());
    assert_eq!(host(store.get(&head).unwrap()), want(&head));
}
