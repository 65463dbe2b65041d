//! A NaN stops the step, with its place, before a weight is changed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    error::Error as StdError,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use candle_core::{DType, Device, Tensor};
use opd_advantage::RawReward;
use opd_data::Fields;
use opd_loss::{
    Objective, ObjectiveInputs, ObjectiveOutput, PolicyInputs, PolicyLoss, PolicyObjective,
    PolicyTokens, Reinforce,
};
use opd_models::{CausalLm, Tokenizer};
use opd_pocket::{DataSizes, materialize_with};
use opd_train::{Parts, TokenizedPrompts, Trainer, config::TrainConfig};

/// Two prompts, three samples each, every sample a micro-batch of its own.
fn trainer(work: &Path, objective: impl Objective + 'static) -> Trainer {
    let sizes = DataSizes { train: 4, validation: 1, test: 1 };
    let inputs = materialize_with(work, sizes).unwrap();
    let student = CausalLm::random(&inputs.student, 3, DType::F32, &Device::Cpu).unwrap();
    let tokenizer = Tokenizer::load(&inputs.student).unwrap();
    let fields = Fields::default();
    let prompts =
        TokenizedPrompts::load(&inputs.train, &fields, &tokenizer, student.config(), 4).unwrap();
    let parts = Parts::new(RawReward, objective);
    let mut config = TrainConfig { steps: 1, ..TrainConfig::default() };
    (config.rollout.prompts, config.rollout.samples_per_prompt) = (2, 3);
    config.rollout.max_response_tokens = 4;
    config.optimizer.token_budget = 1;
    Trainer::new(student, tokenizer, prompts, parts, config).unwrap()
}

fn weights(trainer: &Trainer) -> Vec<Vec<f32>> {
    let parameters = trainer.student.parameters().iter();
    let values = parameters.map(|p| p.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap());
    values.collect()
}

/// The messages of a step that fails without changing anything.
fn refusal(trainer: &mut Trainer) -> Vec<String> {
    let before = weights(trainer);
    let error = trainer.step(0).unwrap_err();
    let bits = |weights: &[Vec<f32>]| -> Vec<u32> {
        weights.iter().flatten().map(|value| value.to_bits()).collect()
    };
    assert!(bits(&before) == bits(&weights(trainer)), "a weight has changed");
    assert_eq!(trainer.optimizer.updates(), 0);
    let mut said = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        said.push(error.to_string());
        next = error.source();
    }
    said
}

#[test]
fn in_the_weights() {
    let work = tempfile::tempdir().unwrap();
    let mut trainer = trainer(work.path(), PolicyObjective::new(Reinforce));
    let name = "model.layers.1.mlp.down_proj.weight";
    let parameter = trainer.student.parameters().iter().find(|p| p.name() == name).unwrap();
    let mut values = parameter.tensor().to_vec2::<f32>().unwrap();
    values[2][5] = f32::NAN;
    parameter.var().set(&Tensor::new(values, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(
        refusal(&mut trainer),
        [
            "step 1, rollout: stopped before the weights were changed",
            "the weights of `model.layers.1.mlp.down_proj.weight` are not finite: they are \
             damaged, or training diverged",
            "sequence 0: the logits of response token 0 are not finite; the model's weights are \
             damaged or training diverged",
        ]
    );
}

/// Its loss is NaN in the fifth micro-batch.
#[derive(Debug, Default)]
struct Poisoned(AtomicUsize);

impl PolicyLoss for Poisoned {
    fn name(&self) -> &'static str {
        "poisoned"
    }

    fn per_token(&self, inputs: &PolicyInputs<'_>) -> opd_loss::Result<PolicyTokens> {
        let mut tokens = Reinforce.per_token(inputs)?;
        if self.0.fetch_add(1, Ordering::Relaxed) == 4 {
            tokens.per_token = (tokens.per_token * f64::NAN)?;
        }
        Ok(tokens)
    }
}

#[test]
fn in_the_loss() {
    let work = tempfile::tempdir().unwrap();
    let mut trainer = trainer(work.path(), PolicyObjective::new(Poisoned::default()));
    assert_eq!(
        refusal(&mut trainer),
        [
            "step 1, update: stopped before the weights were changed",
            "poisoned: NaN is not finite at row 4, token 0",
        ]
    );
}

/// Its loss is finite and its gradient is not: the root of 0.
#[derive(Debug)]
struct Steep;

impl Objective for Steep {
    fn name(&self) -> &str {
        "steep"
    }

    fn compute(&self, inputs: &ObjectiveInputs<'_>) -> opd_loss::Result<ObjectiveOutput> {
        let mut output = PolicyObjective::new(Reinforce).compute(inputs)?;
        let sum = inputs.hidden.sum_all()?;
        let zero = (&sum - sum.detach())?;
        output.loss = (output.loss + zero.sqrt()?)?;
        Ok(output)
    }
}

#[test]
fn in_the_gradient() {
    let work = tempfile::tempdir().unwrap();
    let mut trainer = trainer(work.path(), Steep);
    let said = refusal(&mut trainer);
    assert_eq!(said[0], "step 1, update: stopped before the weights were changed");
    assert_eq!(said[1], "gradient of `model.embed_tokens.weight` is not finite");
}
