use std::sync::Arc;

use opd_advantage::{AdvantageEstimator, ReverseKl, Rloo, ZeroAdvantage};
use opd_batch::Ragged;
use proptest::prelude::*;

use crate::random::{advantages, all_estimators, assert_close, batches, disagree_twice, trained};

proptest! {
    #[test]
    fn plus_commutes_and_zero_is_its_unit(rows in batches()) {
        let signal = ReverseKl { coef: 0.7, discount: 0.5 };
        for (name, estimator) in all_estimators() {
            let left = advantages(&(&estimator).plus(signal), &rows);
            assert_eq!(advantages(&signal.plus(&estimator), &rows), left, "{name}");
            let alone = advantages(&estimator, &rows);
            assert_eq!(advantages(&(&estimator).plus(ZeroAdvantage), &rows), alone, "{name}");
            let terms = alone.zip_with(&advantages(&signal, &rows), "signal", |a, b| a + b);
            assert_eq!(left, terms.unwrap(), "{name}");
        }
    }

    #[test]
    fn pointers_are_estimators(rows in batches()) {
        let signal = ReverseKl { coef: 0.7, discount: 0.5 };
        let expected = advantages(&Rloo.plus(signal), &rows);
        let boxed: Box<dyn AdvantageEstimator> = Box::new(Rloo);
        let shared: Arc<dyn AdvantageEstimator> = Arc::new(signal);
        prop_assert_eq!(advantages(&(&boxed).plus(shared.clone()), &rows), expected.clone());
        prop_assert_eq!(advantages(&boxed.plus(&*shared), &rows), expected);
    }

    #[test]
    fn whitening_gives_mean_0_and_variance_1_on_the_mask(mut rows in batches()) {
        disagree_twice(&mut rows);
        let mask = trained(&rows);
        let before = advantages(&ReverseKl::default(), &rows);
        let kept = |stream: &Ragged<f32>| -> Vec<f64> {
            let tokens = stream.values().iter().zip(&mask);
            tokens.filter(|&(_, &mask)| mask).map(|(&value, _)| f64::from(value)).collect()
        };
        let moments = |values: &[f64]| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            (mean, squares / (n - 1.0))
        };
        let (_, spread) = moments(&kept(&before));
        let (mean, variance) = moments(&kept(&advantages(&ReverseKl::default().whitened(), &rows)));
        prop_assert!(mean.abs() < 1e-5, "mean {mean}");
        prop_assert!((variance - spread / (spread + 1e-8)).abs() < 1e-5, "variance {variance}");
    }

    #[test]
    fn whitening_cancels_the_coefficient(mut rows in batches(), coef in 0.5..2.0f32) {
        for token in rows.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.mask = true;
        }
        disagree_twice(&mut rows);
        let plain = advantages(&ReverseKl::default().whitened(), &rows);
        let scaled = advantages(&ReverseKl { coef, discount: 0.0 }.whitened(), &rows);
        assert_close("whitened", scaled.values(), plain.values(), 1e-5);
    }
}
