//! Settings of a critic where there is none, or that do nothing to the one there is.

use candle_core::{DType, Device, Var};
use opd_advantage::{AdvantageEstimator, Gae, Grpo};
use opd_batch::{Ragged, Rollout, RolloutBatch, ScoredBatch};
use opd_loss::{Aggregation, LossBatch, ValueLoss};
use opd_models::ValueHead;
use opd_testkit::{host, numbers, tensor};

fn batch() -> RolloutBatch {
    let rollout = |reward: f32| Rollout {
        prompt: vec![0],
        response: vec![0; 3],
        sampler_logprobs: vec![-1.0; 3],
        reward,
        ..Rollout::default()
    };
    RolloutBatch::from_rollouts(vec![rollout(1.0), rollout(0.0)]).unwrap()
}

fn with_values(estimator: &dyn AdvantageEstimator, values: [f32; 3]) -> Vec<f32> {
    let batch = batch();
    let values = Ragged::from_rows([values.to_vec(), values.to_vec()]);
    let scored = ScoredBatch::from_sampler(&batch).with_values(values).unwrap();
    estimator.advantages(&scored).unwrap().into_values()
}

pub(crate) fn grpo_reads_no_values() {
    let (a, b) = ([0.1, 0.5, 0.2], [0.9, 0.0, 0.4]);
    assert_eq!(with_values(&Grpo, a), with_values(&Grpo, b));
    assert_ne!(with_values(&Gae::default(), a), with_values(&Gae::default(), b));
}

pub(crate) fn without_a_critic_lambda_is_no_setting() {
    let estimator = |lambda| Gae { lambda, ..Gae::default() };
    let values = [0.1, 0.5, 0.2];
    assert_ne!(with_values(&estimator(0.0), values), with_values(&estimator(1.0), values));
    let grpo = with_values(&Grpo, values);
    assert!(grpo[..3].iter().all(|a| *a == grpo[0]), "one advantage for the whole response");
}

/// Gradients, of the student's and of the critic's own hidden states, of a loss of the latter.
pub(crate) fn another_models_loss_does_not_reach_the_student() {
    let head = ValueHead::random(4, 0, DType::F64, &Device::Cpu).unwrap();
    let states = |seed| Var::from_tensor(&tensor(&numbers(12, seed, 1.0), (3, 4), DType::F64));
    let (student, critic) = (states(1).unwrap(), states(2).unwrap());
    let loss = |hidden: &Var| head.values(hidden).unwrap().sqr().unwrap().sum_all().unwrap();
    let store = loss(&critic).backward().unwrap();
    assert!(store.get(&student).is_none() && store.get(&critic).is_some());
    let store = loss(&student).backward().unwrap();
    assert!(host(store.get(&student).unwrap()).iter().any(|g| g.abs() > 1e-3));
}

pub(crate) fn values_that_have_not_moved_are_not_clipped() {
    let batch = batch();
    let old = Ragged::from_rows([vec![0.1, 0.5, 0.2], vec![0.3, 0.0, 0.9]]);
    let scored = ScoredBatch::from_sampler(&batch).with_values(old.clone()).unwrap();
    let output = Gae::default().estimate(&scored).unwrap();
    let (advantages, returns) = (output.advantages, output.returns);
    let batch = LossBatch::new(&scored, advantages, &Aggregation::TokenMean).unwrap();
    let gradient = |moved: f64, clip: f64| {
        let values: Vec<f64> = old.values().iter().map(|v| f64::from(*v) + moved).collect();
        let values = Var::from_tensor(&tensor(&values, 6, DType::F64)).unwrap();
        let output = ValueLoss { clip }.loss(&values, &old, &returns, &batch).unwrap();
        let store = output.loss.backward().unwrap();
        (host(&output.clipped), host(store.get(&values).unwrap()))
    };
    assert_eq!(gradient(0.0, 0.01), gradient(0.0, 5.0));
    let (clipped, one) = gradient(0.3, 0.01);
    assert!(clipped.contains(&1.0) && one != gradient(0.3, 5.0).1);
}
