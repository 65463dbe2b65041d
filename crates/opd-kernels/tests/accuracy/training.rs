use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    AdamWStep, adamw_step, advantages_and_returns, discounted_sums, reference, sum_of_squares,
};

use super::{Case, DTYPES, values};

const STEP: AdamWStep = AdamWStep {
    lr: 3e-2,
    beta1: 0.9,
    beta2: 0.98,
    eps: 1e-3,
    weight_decay: 0.1,
    gradient_scale: 1.0,
    step: 3,
};

#[test]
fn steps() {
    for dtype in DTYPES {
        let mut case = Case::new("adamw", dtype);
        let [p, m, v] = [33, 34, 35].map(|seed| values(seed, &[20_000], DType::F32, 2.0));
        let v = v.sqr().unwrap().to_dtype(DType::F32).unwrap().to_dtype(DType::F64).unwrap();
        let g = values(36, &[20_000], dtype, 2.0);
        let want = reference::adamw_step(&p, &g, &m, &v, &STEP).unwrap();
        let got = [&p, &m, &v].map(|t| t.to_dtype(DType::F32).unwrap());
        adamw_step(&got[0], &g.to_dtype(dtype).unwrap(), &got[1], &got[2], &STEP).unwrap();
        for ((name, got), want) in ["p", "m", "v"].into_iter().zip(&got).zip(&want) {
            case.output(name, got, want);
        }
        case.finish();
    }
}

#[test]
fn squares() {
    for dtype in DTYPES {
        let mut case = Case::new("sum_of_squares", dtype);
        let parts = values(32, &[64, 3000], dtype, 2.0);
        let stored = parts.to_dtype(dtype).unwrap();
        let of = |i| sum_of_squares(&stored.get(i).unwrap()).unwrap();
        let got: Vec<f64> = (0..64).map(of).collect();
        let want: Vec<f64> =
            (0..64).map(|i| reference::sum_of_squares(&parts.get(i).unwrap()).unwrap()).collect();
        let of_values = |values| Tensor::new(values, &Device::Cpu).unwrap();
        case.output("sums", &of_values(got), &of_values(want));
        case.finish();
    }
}

#[test]
fn scans() {
    let starts = [0, 500];
    let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let mut case = Case::new("discounted_sums", DType::F32);
    let x = values(37, &[500], DType::F32, 2.0);
    let got = discounted_sums(&single(&x), &starts, 0.97).unwrap();
    case.output("sums", &got, &reference::discounted_sums(&x, &starts, 0.97).unwrap());
    case.finish();
    let mut case = Case::new("advantages", DType::F32);
    let [r, v] = [38, 39].map(|seed| values(seed, &[500], DType::F32, 2.0));
    let (got, _) = advantages_and_returns(&single(&r), &single(&v), &starts, 0.97, 0.95).unwrap();
    let (want, _) = reference::advantages_and_returns(&r, &v, &starts, 0.97, 0.95).unwrap();
    case.output("advantages", &got, &want);
    case.finish();
}
