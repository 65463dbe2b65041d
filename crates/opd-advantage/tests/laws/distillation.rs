use opd_advantage::{AdvantageEstimator, ReverseKl};
use proptest::prelude::*;

use crate::random::{advantages, assert_close, batches, stream};

proptest! {
    #[test]
    fn reverse_kl_is_zero_where_the_teacher_agrees(mut rows in batches(), discount in 0.0..1.0f32) {
        for token in rows.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.teacher = Some(token.old);
        }
        let got = advantages(&ReverseKl { coef: 3.0, discount }, &rows);
        prop_assert!(got.values().iter().all(|&value| value == 0.0));
    }

    #[test]
    fn reverse_kl_without_discount_is_per_token(rows in batches(), coef in 0.0..3.0f32) {
        let got = advantages(&ReverseKl { coef, discount: 0.0 }, &rows);
        let expected = stream(&rows, |token| match token.teacher {
            Some(teacher) if token.mask => coef * (teacher - token.old),
            _ => 0.0,
        });
        assert_close("ReverseKl", got.values(), expected.values(), 1e-6);
    }

    #[test]
    fn reverse_kl_with_discount_1_is_the_kl_to_come(rows in batches()) {
        let per_token = advantages(&ReverseKl::default(), &rows);
        let got = advantages(&ReverseKl { coef: 1.0, discount: 1.0 }, &rows);
        for (got, per_token) in got.iter().zip(per_token.iter()) {
            let to_come: Vec<f32> = (0..got.len()).map(|t| per_token[t..].iter().sum()).collect();
            assert_close("discount 1", got, &to_come, 1e-5);
        }
    }

    #[test]
    fn ratios_of_prefixes_only_ever_lessen(rows in batches(), power in 0.0..2.0f32) {
        let signal = ReverseKl { coef: 0.5, discount: 0.9 };
        let (plain, weighted) = (advantages(&signal, &rows), advantages(&signal.prefix_ratio(power), &rows));
        for (plain, weighted) in plain.iter().zip(weighted.iter()) {
            prop_assert_eq!(plain.first(), weighted.first());
            for (plain, weighted) in plain.iter().zip(weighted) {
                prop_assert!(weighted.abs() <= plain.abs() && weighted * plain >= 0.0);
            }
        }
        prop_assert_eq!(advantages(&signal.prefix_ratio(0.0), &rows), plain);
    }

    #[test]
    fn missing_scores_and_masked_tokens_are_interchangeable(rows in batches()) {
        let mut unscored = rows.clone();
        let mut masked = rows;
        for token in unscored.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.teacher = token.teacher.filter(|_| token.mask);
            token.mask = true;
        }
        for token in masked.iter_mut().flat_map(|(_, _, tokens)| tokens) {
            token.mask &= token.teacher.is_some();
            token.teacher = token.teacher.or(Some(-1.0));
        }
        let signal = ReverseKl { coef: 0.5, discount: 0.9 };
        prop_assert_eq!(advantages(&signal, &unscored), advantages(&signal, &masked));
    }
}
