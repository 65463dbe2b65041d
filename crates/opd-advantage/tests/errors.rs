//! What a batch can lack or overflow: messages, word for word.
#![allow(clippy::unwrap_used)]

use std::error::Error as _;

use opd_advantage::{
    AdvantageEstimator, Error, Gae, Grpo, RawReward, ReinforcePlusPlus, ReinforcePlusPlusBaseline,
    Result, ReverseKl, Rloo,
};
use opd_batch::{KlEstimator, Ragged, Rollout, RolloutBatch, ScoredBatch, TeacherScores};

fn batch_of(rewards: &[f32], mask: bool) -> RolloutBatch {
    let rollouts = rewards.iter().map(|&reward| Rollout {
        prompt: vec![1],
        response: vec![2, 3],
        sampler_logprobs: vec![-0.5, -200.0],
        loss_mask: Some(vec![mask; 2]),
        reward,
        ..Rollout::default()
    });
    RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
}

#[test]
fn missing_streams_name_the_estimator() {
    let batch = batch_of(&[1.0], true);
    let scored = ScoredBatch::from_sampler(&batch);
    let message =
        |estimator: &dyn AdvantageEstimator| estimator.advantages(&scored).unwrap_err().to_string();
    assert_eq!(
        message(&ReverseKl::default()),
        "ReverseKl needs teacher log-probs; \
         call `Teacher::score` and `ScoredBatch::with_teacher` first"
    );
    assert_eq!(
        message(&Gae::default()),
        "Gae needs value estimates; call `ScoredBatch::with_values`"
    );
    for (name, estimator) in [
        (
            "ReinforcePlusPlus",
            &ReinforcePlusPlus { kl_coef: 0.1, ..ReinforcePlusPlus::default() }
                as &dyn AdvantageEstimator,
        ),
        (
            "ReinforcePlusPlusBaseline",
            &ReinforcePlusPlusBaseline { kl_coef: 0.1, kl: KlEstimator::K3 },
        ),
    ] {
        let expected = format!(
            "{name} needs reference log-probs; \
             score the batch with the start policy and call `ScoredBatch::with_reference`"
        );
        assert_eq!(message(estimator), expected);
    }
}

#[test]
fn no_reference_is_needed_without_a_coefficient() {
    let batch = batch_of(&[1.0, 0.0], true);
    let values = Ragged::filled(batch.rows().clone(), 0.25);
    let scored = ScoredBatch::from_sampler(&batch).with_values(values).unwrap();
    let of = |estimator: &dyn AdvantageEstimator| estimator.advantages(&scored).unwrap();
    assert_eq!(of(&Gae::default()).values(), [0.75, 0.75, -0.25, -0.25]);
    assert_eq!(of(&ReinforcePlusPlus::default()).values(), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(of(&ReinforcePlusPlusBaseline::default()).values(), [0.5, 0.5, -0.5, -0.5]);
}

#[test]
fn advantages_that_are_not_finite_name_row_and_token() {
    let batch = batch_of(&[-3e38, 3e38], true);
    let reference = Ragged::filled(batch.rows().clone(), -0.5);
    let values = Ragged::from_rows([vec![0.0, 0.0], vec![-3e38, 0.0]]);
    let scored = ScoredBatch::from_sampler(&batch).with_reference(reference).unwrap();
    let scored = scored.with_values(values).unwrap();
    let k3 = KlEstimator::K3; // exp(199.5) at token 1 exceeds f32
    let cases: [(&dyn AdvantageEstimator, &str); 8] = [
        (&Rloo, "advantages of Rloo: -inf is not finite at row 0, token 0"),
        (&RawReward.plus(RawReward), "advantages of Plus: -inf is not finite at row 0, token 0"),
        (&Gae::default(), "advantages of Gae: inf is not finite at row 1, token 0"),
        (
            &ReinforcePlusPlus { kl_coef: 1.0, kl: k3, gamma: 0.9 },
            "KL to the reference: inf is not finite at row 0, token 1",
        ),
        (
            &ReinforcePlusPlusBaseline { kl_coef: 1.0, kl: k3 },
            "KL to the reference: inf is not finite at row 0, token 1",
        ),
        (
            &ReinforcePlusPlusBaseline { kl_coef: 3e38, kl: KlEstimator::K1 },
            "advantages of ReinforcePlusPlusBaseline: inf is not finite at row 0, token 1",
        ),
        (
            &ReinforcePlusPlus { kl_coef: 3e38, kl: KlEstimator::K1, gamma: 0.0 },
            "advantages of ReinforcePlusPlus: inf is not finite at row 0, token 1",
        ),
        (&Broken.whitened(), "advantages of Whitened: NaN is not finite at row 0, token 0"),
    ];
    for (estimator, expected) in cases {
        assert_eq!(estimator.advantages(&scored).unwrap_err().to_string(), expected);
    }
}

#[test]
fn returns_that_are_not_finite_are_named_so() {
    let batch = batch_of(&[0.0], true);
    let values = Ragged::from_rows([vec![3e38, 0.0]]);
    let reference = Ragged::from_rows([vec![-3e38, -200.0]]);
    let scored = ScoredBatch::from_sampler(&batch).with_values(values).unwrap();
    let scored = scored.with_reference(reference).unwrap();
    // At token 0: r = -2 * 3e38, delta = r - 3e38, return = delta + 3e38.
    let error = Gae { kl_coef: 2.0, ..Gae::default() }.estimate(&scored).unwrap_err();
    assert_eq!(error.to_string(), "returns of Gae: -inf is not finite at row 0, token 0");
}

#[test]
fn reverse_kl_overflow_is_an_error() {
    let batch = batch_of(&[0.0], true);
    let teacher = TeacherScores::complete(Ragged::from_rows([vec![-0.5, -1.0]])).unwrap();
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(teacher).unwrap();
    let error = ReverseKl { coef: 3e38, discount: 0.0 }.advantages(&scored).unwrap_err();
    let expected = "advantages of ReverseKl: inf is not finite at row 0, token 1";
    assert_eq!(error.to_string(), expected);
}

/// Answers with NaN.
struct Broken;

impl AdvantageEstimator for Broken {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        Ok(Ragged::filled(batch.rollouts().rows().clone(), f32::NAN))
    }
}

/// Answers in rows of its own.
struct Crooked;

impl AdvantageEstimator for Crooked {
    fn advantages(&self, _: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        Ok(Ragged::from_rows([vec![1.0], vec![2.0, 3.0, 4.0]]))
    }
}

#[test]
fn other_rows_than_the_batch_are_refused() {
    let batch = batch_of(&[1.0, 0.0], true);
    let scored = ScoredBatch::from_sampler(&batch);
    let cases: [(&dyn AdvantageEstimator, &str); 4] = [
        (&Crooked.plus(Grpo), "advantages of the first term of Plus"),
        (&Crooked.plus(Crooked), "advantages of the first term of Plus"),
        (&Grpo.plus(Crooked), "advantages of the second term of Plus"),
        (&Crooked.whitened(), "advantages to be whitened"),
    ];
    for (estimator, what) in cases {
        let expected = format!(
            "{what}: row boundaries differ from the batch's; build it with the batch's `Rows`"
        );
        assert_eq!(estimator.advantages(&scored).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_wholly_masked_batch_cannot_be_whitened() {
    let batch = batch_of(&[1.0, 0.0], false);
    let error = Grpo.whitened().advantages(&ScoredBatch::from_sampler(&batch)).unwrap_err();
    assert!(matches!(error, Error::AllMasked { n_rows: 2, n_tokens: 4 }));
    assert_eq!(
        error.to_string(),
        "Whitened: none of the 4 tokens in 2 rows has mask 1, so there is no mean to take away; \
         check the loss mask and the teacher's missing scores, or skip this batch"
    );
}

#[test]
fn missing_scores_alone_can_mask_the_batch() {
    let batch = batch_of(&[1.0], true);
    let logprobs = Ragged::filled(batch.rows().clone(), None);
    let silent = TeacherScores { logprobs, top: None, spans: None };
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(silent).unwrap();
    let error = ReverseKl::default().whitened().advantages(&scored).unwrap_err();
    assert!(matches!(error, Error::AllMasked { n_rows: 1, n_tokens: 2 }), "{error}");
    assert_eq!(ReverseKl::default().advantages(&scored).unwrap().values(), [0.0, 0.0]);
}

#[test]
fn an_estimator_from_outside_keeps_its_reason() {
    let source = std::io::Error::other("reward model is down");
    let error = Error::Estimator { estimator: "mine".into(), source: Box::new(source) };
    assert_eq!(error.to_string(), "estimator `mine` failed");
    assert_eq!(error.source().unwrap().to_string(), "reward model is down");
}
