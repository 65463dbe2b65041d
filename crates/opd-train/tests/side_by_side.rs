//! Micro-batches computed at once: the gradients of the batch, whatever the number of threads.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use candle_core::{DType, Device};
use opd_advantage::RawReward;
use opd_data::Fields;
use opd_loss::{PolicyObjective, Reinforce};
use opd_models::{CausalLm, Tokenizer};
use opd_pocket::{DataSizes, materialize_with};
use opd_reward::{Answer, Reward};
use opd_testkit::same_on_any_number_of_threads;
use opd_train::{Parts, TokenizedPrompts, Trainer, config::TrainConfig};

/// Judges by the number of characters, so that rewards differ.
struct Length;

impl Reward for Length {
    fn reward(&self, answer: &Answer<'_>) -> opd_reward::Result<f32> {
        Ok(answer.response.len() as f32 / 7.0 - 1.0)
    }
}

/// Loss, gradient norm and the weights after a step on eight samples of varying lengths.
fn step(work: &Path, token_budget: usize, at_once: usize) -> (f64, f64, Vec<Vec<f64>>) {
    let sizes = DataSizes { train: 4, validation: 1, test: 1 };
    let inputs = materialize_with(work, sizes).unwrap();
    let student = CausalLm::load(&inputs.student, DType::F32, &Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&inputs.student).unwrap();
    let fields = Fields::default();
    let prompts =
        TokenizedPrompts::load(&inputs.train, &fields, &tokenizer, student.config(), 8).unwrap();
    let reward = Box::new(Length);
    let parts = Parts { reward, ..Parts::new(RawReward, PolicyObjective::new(Reinforce)) };
    let mut config = TrainConfig { steps: 1, ..TrainConfig::default() };
    (config.rollout.prompts, config.rollout.samples_per_prompt) = (4, 2);
    config.rollout.max_response_tokens = 12;
    config.optimizer.lr = 1e-3;
    config.optimizer.token_budget = token_budget;
    config.optimizer.micro_batches_at_once = at_once;
    let mut trainer = Trainer::new(student, tokenizer, prompts, parts, config).unwrap();
    let metrics = trainer.step(0).unwrap();
    let weights = trainer.student.parameters().iter().map(|p| opd_testkit::host(&p.tensor()));
    (metrics.get("loss").unwrap(), metrics.get("grad_norm").unwrap(), weights.collect())
}

#[test]
fn side_by_side_is_one_after_the_other() {
    let work = tempfile::tempdir().unwrap();
    let (loss, norm, _) = step(work.path(), 8192, 1);
    assert!(norm > 1e-3, "a gradient of {norm} shows nothing");
    for (budget, at_once) in [(1, 1), (1, 3), (40, 2), (8192, 4)] {
        let (other, other_norm, _) = step(work.path(), budget, at_once);
        assert!((other / loss - 1.0).abs() < 1e-5, "{budget}, {at_once}: {other}, not {loss}");
        assert!((other_norm / norm - 1.0).abs() < 1e-5, "{budget}: {other_norm}, not {norm}");
    }
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let work = tempfile::tempdir().unwrap();
    same_on_any_number_of_threads(|| {
        let (loss, norm, mut weights) = step(work.path(), 25, 3);
        weights.push(vec![loss, norm]);
        weights
    });
}
