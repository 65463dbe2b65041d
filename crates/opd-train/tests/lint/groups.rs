//! Estimators of rewards: advantages that are all 0, or that miss a setting.

use opd_advantage::{
    AdvantageEstimator, DiscountedReturn, DrGrpo, Grpo, MaxRl, Opo, PassAtK, ReinforcePlusPlus,
    ReinforcePlusPlusBaseline, Rloo, Truncation, ZeroAdvantage,
};
use opd_batch::{Finish, Ragged, Rollout, RolloutBatch, ScoredBatch};
use opd_loss::{Aggregation, LossBatch};

fn rollout(reward: f32, n: usize, finish: Finish) -> Rollout {
    Rollout {
        prompt: vec![0],
        response: vec![0; n],
        sampler_logprobs: vec![-1.0; n],
        reward,
        finish,
        ..Rollout::default()
    }
}

fn rewards(rewards: &[f32]) -> RolloutBatch {
    let rollouts = rewards.iter().map(|&reward| rollout(reward, 1, Finish::Eos));
    RolloutBatch::from_rollouts(rollouts.collect()).unwrap()
}

fn of(estimator: &dyn AdvantageEstimator, batch: &RolloutBatch) -> Vec<f32> {
    estimator.advantages(&ScoredBatch::from_sampler(batch)).unwrap().into_values()
}

pub(crate) fn a_group_of_one_has_no_advantage() {
    let alone = rewards(&[1.0]);
    let pair = rewards(&[1.0, 0.0]);
    let estimators: [&dyn AdvantageEstimator; 7] = [
        &Grpo,
        &DrGrpo,
        &Rloo,
        &Opo,
        &MaxRl,
        &PassAtK { k: 1 },
        &ReinforcePlusPlusBaseline::default(),
    ];
    for estimator in estimators {
        assert_eq!(of(estimator, &alone), [0.0]);
        assert!(of(estimator, &pair).iter().all(|a| *a != 0.0));
    }
}

pub(crate) fn one_team_has_no_advantage() {
    let batch = rewards(&[1.0, 0.0, 0.0, 0.5]);
    for k in [4, 5] {
        assert_eq!(of(&PassAtK { k }, &batch), [0.0; 4]);
    }
    assert!(of(&PassAtK { k: 3 }, &batch).iter().any(|a| *a != 0.0));
}

pub(crate) fn a_negative_mean_silences_max_rl() {
    let mut rollouts = [rollout(0.5, 1, Finish::Eos), rollout(0.0, 1, Finish::Length)];
    let silenced = |rollouts: &[Rollout]| {
        let batch = RolloutBatch::from_rollouts(rollouts.to_vec()).unwrap();
        of(&MaxRl, &batch) == [0.0; 2]
    };
    assert!(!silenced(&rollouts));
    Truncation::Penalise { penalty: 1.0 }.apply(&mut rollouts).unwrap();
    assert!(silenced(&rollouts));
}

pub(crate) fn long_wrong_answers_are_punished_less() {
    let rollouts = [(1.0, 2), (0.0, 2), (0.0, 8)];
    let rollouts = rollouts.map(|(reward, n)| rollout(reward, n, Finish::Eos));
    let batch = RolloutBatch::from_rollouts(rollouts.to_vec()).unwrap();
    let scored = ScoredBatch::from_sampler(&batch);
    let push = |aggregation| {
        let advantages = DrGrpo.advantages(&scored).unwrap();
        let batch = LossBatch::new(&scored, advantages, &aggregation).unwrap();
        let push = |row: usize| {
            batch.weights().row(row).unwrap()[0] * batch.advantages().row(row).unwrap()[0]
        };
        (push(1), push(2))
    };
    let (short, long) = push(Aggregation::SequenceMeanTokenMean);
    assert!((short - 4.0 * long).abs() < 1e-6 && short < 0.0, "{short} and {long}");
    let (short, long) = push(Aggregation::SequenceMeanTokenSum { horizon: 8 });
    assert_eq!(short, long);
}

pub(crate) fn grpo_has_no_kl_in_its_reward() {
    let batch = rewards(&[1.0, 0.0]);
    let with = |estimator: &dyn AdvantageEstimator, start: f32| {
        let start = Ragged::filled(batch.rows().clone(), start);
        let scored = ScoredBatch::from_sampler(&batch).with_reference(start).unwrap();
        estimator.advantages(&scored).unwrap()
    };
    assert_eq!(with(&Grpo, -1.0), with(&Grpo, -9.0));
    let reads = ReinforcePlusPlus { kl_coef: 0.1, ..ReinforcePlusPlus::default() };
    assert_ne!(with(&reads, -1.0), with(&reads, -9.0));
}

pub(crate) fn grpo_discounts_nothing() {
    let rollouts = vec![rollout(1.0, 3, Finish::Eos), rollout(0.0, 3, Finish::Eos)];
    let batch = RolloutBatch::from_rollouts(rollouts).unwrap();
    let advantages = of(&Grpo, &batch);
    assert_eq!(advantages[0], advantages[2], "the first token answers as much as the last");
    let discounted = DiscountedReturn { gamma: 0.9, ..DiscountedReturn::default() };
    let advantages = of(&discounted, &batch);
    assert!((advantages[0] - 0.81).abs() < 1e-6 && advantages[2] == 1.0);
}

pub(crate) fn zero_ignores_a_penalty() {
    let mut rollouts = [rollout(1.0, 1, Finish::Length), rollout(1.0, 1, Finish::Eos)];
    Truncation::Penalise { penalty: 1.0 }.apply(&mut rollouts).unwrap();
    let batch = RolloutBatch::from_rollouts(rollouts.to_vec()).unwrap();
    assert_eq!(batch.rewards(), [0.0, 1.0]);
    assert_eq!(of(&ZeroAdvantage, &batch), [0.0; 2]);
    assert!(of(&DrGrpo, &batch).iter().all(|a| *a != 0.0));
}
