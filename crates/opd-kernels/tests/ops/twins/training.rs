use candle_core::{DType, Tensor};
use opd_kernels::{
    AdamWStep, adamw_step, adamw_step_with_copy, add_assign, advantages_and_returns,
    discounted_sums, moving_average, reference, sum_of_squares,
};
use proptest::prelude::*;

use super::{dtypes, exact, laid, layouts, near, unit};

fn settings() -> impl Strategy<Value = AdamWStep> {
    (1u64..2000, 0.0f64..0.3, prop_oneof![Just(1.0), 0.01f64..1.0]).prop_map(
        |(step, weight_decay, gradient_scale)| AdamWStep {
            lr: 3e-2,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-3,
            weight_decay,
            gradient_scale,
            step,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn steps(
        n in 1usize..40_000, settings in settings(), dtype in dtypes(), copied in dtypes(),
        seed in 1u64..99,
    ) {
        let [p, g, m] = [0, 100, 200].map(|more| exact(&[n], seed + more));
        let v = exact(&[n], seed + 300).sqr().unwrap();
        let want = reference::adamw_step(&p, &g, &m, &v, &settings).unwrap();
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let fresh = |t: &Tensor| t.to_dtype(wide).unwrap().copy().unwrap();
        let got = [fresh(&p), fresh(&m), fresh(&v)];
        let g = g.to_dtype(dtype).unwrap();
        if wide == DType::F32 && unit(copied) > 1e-6 {
            let copy = p.to_dtype(copied).unwrap().copy().unwrap();
            adamw_step_with_copy(&got[0], &g, &got[1], &got[2], &copy, &settings).unwrap();
            let rounded = got[0].to_dtype(copied).unwrap();
            near(&copy, &rounded.to_dtype(DType::F64).unwrap(), 0.0)?;
        } else {
            adamw_step(&got[0], &g, &got[1], &got[2], &settings).unwrap();
        }
        for (got, want) in got.iter().zip(&want) {
            near(got, want, 1.0)?;
        }
    }

    #[test]
    fn sums(n in 1usize..40_000, dtype in dtypes(), layout in layouts(), decay in 0.0f64..1.0, seed in 1u64..99) {
        let (a, b) = (exact(&[n], seed), exact(&[n], seed + 100));
        let fresh = || a.to_dtype(dtype).unwrap().copy().unwrap();
        let at = laid(&b, dtype, layout);
        let sums = fresh();
        add_assign(&sums, &at).unwrap();
        near(&sums, &(&a + &b).unwrap(), 0.0)?;
        let average = fresh();
        moving_average(&average, &at, decay).unwrap();
        near(&average, &reference::moving_average(&a, &b, decay).unwrap(), 1.0)?;
        // Squares of multiples of 1/64 and their sums are exact in f64.
        prop_assert_eq!(sum_of_squares(&at).unwrap(), reference::sum_of_squares(&b).unwrap());
        let norm = (sum_of_squares(&fresh()).unwrap() + sum_of_squares(&at).unwrap()).sqrt();
        prop_assert_eq!(norm, reference::global_norm([&a, &b]).unwrap());
    }

    #[test]
    fn scans(
        lengths in prop::collection::vec(0usize..90, 0..5), gamma in 0.0f64..=1.0, lambda in 0.0f64..=1.0,
        single: bool, layout in layouts(), seed in 1u64..99,
    ) {
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let n = starts[starts.len() - 1];
        prop_assume!(n > 0);
        let dtype = if single { DType::F32 } else { DType::F64 };
        let (r, v) = (exact(&[n], seed), exact(&[n], seed + 100));
        let (r_at, v_at) = (laid(&r, dtype, layout), laid(&v, dtype, layout));
        let want = reference::discounted_sums(&r, &starts, gamma).unwrap();
        near(&discounted_sums(&r_at, &starts, gamma).unwrap(), &want, 1.0)?;
        let want = reference::advantages_and_returns(&r, &v, &starts, gamma, lambda).unwrap();
        let got = advantages_and_returns(&r_at, &v_at, &starts, gamma, lambda).unwrap();
        near(&got.0, &want.0, 10.0)?;
        near(&got.1, &want.1, 10.0)?;
    }
}
