use opd_advantage::{AdvantageEstimator, ReverseKl, Rloo};
use proptest::prelude::*;

use crate::random::{Row, Token, advantages, all_estimators, assert_close, batches, trained};

proptest! {
    #[test]
    fn permuted_rows_give_permuted_advantages(
        (rows, order) in batches().prop_flat_map(|rows| {
            let order: Vec<usize> = (0..rows.len()).collect();
            (Just(rows), Just(order).prop_shuffle())
        })
    ) {
        let permuted: Vec<Row> = order.iter().map(|&row| rows[row].clone()).collect();
        for (name, estimator) in all_estimators() {
            let expected = advantages(&estimator, &rows).select(&order).unwrap();
            let got = advantages(&estimator, &permuted);
            prop_assert_eq!(got.rows(), expected.rows());
            assert_close(name, got.values(), expected.values(), 1e-5);
        }
    }

    #[test]
    fn rows_of_other_groups_do_not_matter(rows in batches()) {
        let (group, ..) = rows[0];
        let own: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].0 == group).collect();
        let alone: Vec<Row> = own.iter().map(|&row| rows[row].clone()).collect();
        for (name, estimator) in all_estimators() {
            let together = advantages(&estimator, &rows).select(&own).unwrap();
            assert_eq!(advantages(&estimator, &alone), together, "{name}");
        }
    }

    #[test]
    fn masked_tokens_do_not_reach_trained_ones(rows in batches(), noise in -3.0..0.0f32) {
        let mask = trained(&rows);
        prop_assume!(mask.contains(&true));
        let mut disturbed = rows.clone();
        for token in disturbed.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            if !token.mask {
                *token = Token { old: noise, teacher: None, reference: noise / 2.0, value: 9.0, ..*token };
            }
        }
        let mut all = all_estimators();
        all.retain(|(name, _)| *name != "Gae");
        let discounted = ReverseKl { coef: 1.0, discount: 0.9 };
        all.push(("Whitened", Box::new(Rloo.plus(discounted).whitened())));
        for (name, estimator) in all {
            let before = advantages(&estimator, &rows);
            let after = advantages(&estimator, &disturbed);
            for (at, &mask) in mask.iter().enumerate() {
                let (before, after) = (before.values()[at], after.values()[at]);
                prop_assert!(!mask || before == after, "{name}: {after} for {before} at {at}");
            }
        }
    }
}
