//! Settings out of range: messages, word for word.
#![allow(clippy::unwrap_used)]

use opd_advantage::{
    AdvantageEstimator, DiscountedReturn, ExtrapolatedKl, FutureKl, Gae, Grpo, PassAtK,
    ReinforcePlusPlus, ReinforcePlusPlusBaseline, ReverseKl, ZeroAdvantage,
};
use opd_batch::{KlEstimator, Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};

/// The message of `estimator`, which must come from `validate` alone as well.
fn refused_setting(estimator: &dyn AdvantageEstimator) -> String {
    let rollout = Rollout {
        prompt: vec![1],
        response: vec![2, 3],
        sampler_logprobs: vec![-0.5, -2.0],
        ..Rollout::default()
    };
    let batch = RolloutBatch::from_rollouts(vec![rollout]).unwrap();
    let stream = || Ragged::filled(batch.rows().clone(), -1.0);
    let scored = ScoredBatch::from_sampler(&batch).with_reference(stream()).unwrap();
    let teacher = TeacherScores::complete(stream()).unwrap();
    let scored = scored.with_values(stream()).unwrap().with_teacher(teacher).unwrap();
    let message = estimator.advantages(&scored).unwrap_err().to_string();
    assert_eq!(estimator.validate().unwrap_err().to_string(), message);
    message
}

#[test]
fn coefficients_are_finite_and_not_negative() {
    let (kl, gamma, lambda) = (KlEstimator::K1, 1.0, 1.0);
    for (value, shown) in
        [(-0.5, "-0.5"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")]
    {
        let beyond = ExtrapolatedKl::default();
        let signal = ReverseKl::default();
        let cases: [(&dyn AdvantageEstimator, &str); 9] = [
            (&ExtrapolatedKl { coef: value, ..beyond }, "ExtrapolatedKl: `coef`"),
            (&ExtrapolatedKl { lambda: value, ..beyond }, "ExtrapolatedKl: `lambda`"),
            (&FutureKl { coef: value, ..FutureKl::default() }, "FutureKl: `coef`"),
            (&signal.prefix_ratio(value), "PrefixRatio: `power`"),
            (&signal.prefix_weighted(value), "PrefixWeighted: `gamma`"),
            (&Gae { kl_coef: value, kl, gamma, lambda }, "Gae: `kl_coef`"),
            (&ReinforcePlusPlus { kl_coef: value, kl, gamma }, "ReinforcePlusPlus: `kl_coef`"),
            (
                &ReinforcePlusPlusBaseline { kl_coef: value, kl },
                "ReinforcePlusPlusBaseline: `kl_coef`",
            ),
            (&ReverseKl { coef: value, discount: 0.0 }, "ReverseKl: `coef`"),
        ];
        for (estimator, field) in cases {
            let expected = format!("{field} must be finite and at least 0, got {shown}");
            assert_eq!(refused_setting(estimator), expected);
        }
    }
}

#[test]
fn discounts_are_fractions() {
    for (value, shown) in [(-0.1, "-0.1"), (1.01, "1.01"), (f32::NAN, "NaN")] {
        let returns = DiscountedReturn { gamma: value, ..DiscountedReturn::default() };
        let beyond = ExtrapolatedKl { discount: value, ..ExtrapolatedKl::default() };
        let cases: [(&dyn AdvantageEstimator, &str); 6] = [
            (&returns, "DiscountedReturn: `gamma`"),
            (&beyond, "ExtrapolatedKl: `discount`"),
            (&Gae { gamma: value, ..Gae::default() }, "Gae: `gamma`"),
            (&Gae { lambda: value, ..Gae::default() }, "Gae: `lambda`"),
            (
                &ReinforcePlusPlus { gamma: value, ..ReinforcePlusPlus::default() },
                "ReinforcePlusPlus: `gamma`",
            ),
            (&ReverseKl { coef: 1.0, discount: value }, "ReverseKl: `discount`"),
        ];
        for (estimator, field) in cases {
            let expected = format!("{field} must be from 0 to 1, got {shown}");
            assert_eq!(refused_setting(estimator), expected);
        }
    }
}

#[test]
fn a_team_has_a_member() {
    assert_eq!(refused_setting(&PassAtK { k: 0 }), "PassAtK: `k` must be at least 1, got 0");
}

#[test]
fn combinators_and_pointers_validate_what_they_hold() {
    let bad = ReverseKl { coef: -1.0, discount: 0.0 };
    let expected = "ReverseKl: `coef` must be finite and at least 0, got -1";
    let holders: [Box<dyn AdvantageEstimator>; 7] = [
        Box::new(bad.prefix_ratio(1.0)),
        Box::new(bad.prefix_weighted(0.5)),
        Box::new(Grpo.plus(bad)),
        Box::new(bad.plus(Grpo)),
        Box::new(bad.whitened()),
        Box::new(&bad),
        Box::new(std::sync::Arc::new(bad)),
    ];
    for holder in holders {
        assert_eq!(refused_setting(&holder), expected);
    }
}

#[test]
fn defaults_and_bounds_are_valid() {
    let valid: [&dyn AdvantageEstimator; 8] = [
        &Grpo,
        &ZeroAdvantage,
        &Gae::default(),
        &ReinforcePlusPlus::default(),
        &ReinforcePlusPlusBaseline::default(),
        &ReverseKl::default(),
        &Gae { kl_coef: 0.0, kl: KlEstimator::K1, gamma: 0.0, lambda: 0.0 },
        &ReverseKl { coef: 0.0, discount: 1.0 },
    ];
    for estimator in valid {
        assert!(estimator.validate().is_ok());
    }
}
