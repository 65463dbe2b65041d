//! The KL estimators against their definitions in `f64`; golden vectors are in `opd-advantage`.

use opd_batch::KlEstimator::{self, K1, K2, K3, LowVar};
use proptest::prelude::*;

#[test]
fn values_worked_out_by_hand() {
    // d = ln 2: exp(-d) = 1/2, so k3 = ln 2 - 1/2.
    let (x, y) = (0.5f32.ln(), 0.25f32.ln());
    let ln2 = std::f64::consts::LN_2;
    for (kl, expected) in [(K1, ln2), (K2, ln2 * ln2 / 2.0), (K3, ln2 - 0.5), (LowVar, ln2 - 0.5)] {
        assert!((f64::from(kl.value(x, y)) - expected).abs() < 1e-6, "{kl:?}");
    }
    assert_eq!(KlEstimator::default(), K1);
}

#[test]
fn only_low_var_is_bounded() {
    assert_eq!(LowVar.value(-9.0, -1.0), 10.0);
    assert!(K3.value(-9.0, -1.0) > 2000.0);
    assert_eq!(LowVar.value(-0.5, -40.0), 10.0);
    assert_eq!(LowVar.value(-300.0, -0.1), 10.0);
}

proptest! {
    #[test]
    fn close_log_probs_keep_digits_and_sign(x in -20.0..0.0f32, step in -1e-2..1e-2f32) {
        let y = (x + step).min(0.0);
        let d = f64::from(x) - f64::from(y);
        // Taylor series of exp(-d) - 1 + d, whose next term is below 1e-10 of the first.
        let expected = d.powi(2) / 2.0 - d.powi(3) / 6.0 + d.powi(4) / 24.0 - d.powi(5) / 120.0;
        let got = f64::from(K3.value(x, y));
        prop_assert!(got >= 0.0, "{got}");
        prop_assert!((got - expected).abs() <= 1e-6 * expected.abs() + 1e-20, "{got} {expected}");
        prop_assert!(K2.value(x, y) >= 0.0);
        prop_assert_eq!(K3.value(x, x), 0.0);
    }

    #[test]
    fn k1_and_k3_are_unbiased(p in 0.05..0.95f64, q in 0.05..0.95f64) {
        let exact = p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        for kl in [K1, K3] {
            let of = |p: f64, q: f64| f64::from(kl.value(p.ln() as f32, q.ln() as f32));
            let mean = p * of(p, q) + (1.0 - p) * of(1.0 - p, 1.0 - q);
            prop_assert!((mean - exact).abs() < 1e-5, "{kl:?}: {mean} vs {exact}");
        }
    }
}
