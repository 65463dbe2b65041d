//! An advantage estimator of one's own, with the distillation signal added to it.
//!
//! `cargo run --release --example custom_estimator`

use opd_core::{
    TeacherScores,
    advantage::{AdvantageEstimator, Result, ReverseKl},
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch},
};

/// Reward per token: long right answers are worth no more than short ones.
struct RewardPerToken;

impl AdvantageEstimator for RewardPerToken {
    fn advantages(&self, batch: &ScoredBatch<'_>) -> Result<Ragged<f32>> {
        let rollouts = batch.rollouts();
        let rows = rollouts.responses().iter().zip(rollouts.rewards());
        Ok(Ragged::from_rows(rows.map(|(row, reward)| vec![reward / row.len() as f32; row.len()])))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let rollout = |response: Vec<u32>, reward| Rollout {
        prompt: vec![1],
        sampler_logprobs: vec![-1.0; response.len()],
        response,
        reward,
        ..Rollout::default()
    };
    let batch = RolloutBatch::from_rollouts(vec![
        rollout(vec![5, 0], 1.0),
        rollout(vec![5, 5, 5, 0], 1.0),
    ])?;
    let teacher = Ragged::from_rows([vec![-1.0, -0.5], vec![-1.0, -1.0, -3.0, -1.0]]);
    let scored =
        ScoredBatch::from_sampler(&batch).with_teacher(TeacherScores::complete(teacher)?)?;

    let advantages = RewardPerToken.plus(ReverseKl::default()).advantages(&scored)?;
    println!("{:?}", advantages.values());
    assert_eq!(advantages.values(), [0.5, 1.0, 0.25, 0.25, -1.75, 0.25]);
    Ok(())
}
