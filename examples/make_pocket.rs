//! Makes the bundled teachers and the student from nothing: supervised training on sorted digits.
//!
//! `cargo run --release --example make_pocket` writes `model.safetensors` of each into
//! `crates/opd-pocket/assets/`. Same seed, same instruction set: same bytes. The teachers see
//! fresh examples at every step; the student sees 392, again and again, and so learns the task
//! in part.

use std::{ops::ControlFlow, path::Path};

use anyhow::Result;
use candle_core::{DType, Device};
use opd_core::{
    batch::{Ragged, ScoredSequence},
    loss::{Aggregation, CrossEntropy, LossBatch, Objective, ObjectiveInputs},
};
use opd_data::Fields;
use opd_models::{CausalLm, Checkpointing, Gradients, Tokenizer};
use opd_pocket::sort8::{self, Example, Split};
use opd_reward::ExactMatch;
use opd_train::{
    AdamW, Endings, Evaluator, LearningRate, TokenizedPrompts,
    config::{OptimizerConfig, Schedule},
    report::Who,
};

struct Recipe {
    name: &'static str,
    steps: u64,
    batch: usize,
    /// Size of the fixed set of demonstrations; `None` for fresh ones at every step.
    demonstrations: Option<usize>,
    seed: u64,
}

const RECIPES: [Recipe; 3] = [
    Recipe { name: "teacher", steps: 1000, batch: 128, demonstrations: None, seed: 1 },
    Recipe { name: "pairs_teacher", steps: 1500, batch: 128, demonstrations: None, seed: 3 },
    Recipe { name: "student", steps: 500, batch: 64, demonstrations: Some(392), seed: 2 },
];

fn main() -> Result<()> {
    let work = tempfile::tempdir()?;
    let layout = opd_pocket::materialize(work.path())?;
    let only = std::env::args().nth(1);
    for recipe in RECIPES.iter().filter(|recipe| only.as_deref().is_none_or(|o| o == recipe.name)) {
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/opd-pocket/assets");
        let dir = assets.join(recipe.name);
        let model = train(recipe, &dir)?;
        let tokenizer = Tokenizer::load(&dir)?;
        let fields = Fields::default();
        let prompts =
            TokenizedPrompts::load(&layout.validation, &fields, &tokenizer, model.config(), 10)?;
        let evaluator = Evaluator {
            tokenizer: &tokenizer,
            endings: Endings::default(),
            reward: &ExactMatch,
            samples_per_prompt: 1,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            max_response_tokens: 10,
            max_sequences: 512,
            packed_weights: false,
            seed: 0,
        };
        let result = evaluator.evaluate(Who::Before, &model, &prompts, prompts.len(), |_, _| {
            ControlFlow::Continue(())
        })?;
        println!("{}: pass@1 on validation prompts {:.1}%", recipe.name, 100.0 * result.pass_at_1);
        model.save_weights(&dir.join("model.safetensors"))?;
    }
    Ok(())
}

fn train(recipe: &Recipe, dir: &Path) -> Result<CausalLm> {
    let model = CausalLm::random(dir, recipe.seed, DType::F32, &Device::Cpu)?;
    let tokenizer = Tokenizer::load(dir)?;
    let config = OptimizerConfig {
        lr: 2e-3,
        beta2: 0.95,
        weight_decay: 0.01,
        warmup: 20,
        schedule: Schedule::Cosine,
        min_lr_ratio: 0.1,
        ..OptimizerConfig::default()
    };
    let rate = LearningRate::new(&config, recipe.steps);
    let mut optimizer = AdamW::new(model.parameters())?;
    let fixed = recipe.demonstrations.map(|n| sort8::prompts(Split::Train, recipe.seed, n));
    for step in 0..recipe.steps {
        let examples = match &fixed {
            None => sort8::prompts(Split::Train, recipe.seed + 1000 + step, recipe.batch),
            Some(all) => draw(all, step as usize, recipe.batch),
        };
        let loss = update(&model, &tokenizer, &examples, &mut optimizer, &config, rate.at(step))?;
        if (step + 1) % 100 == 0 {
            println!("{}: step {}, loss {loss:.4} nats a token", recipe.name, step + 1);
        }
    }
    Ok(model)
}

/// Batches that walk through the demonstrations in a fixed order, round and round.
fn draw(all: &[Example], step: usize, n: usize) -> Vec<Example> {
    (0..n).map(|i| all[(step * n + i) % all.len()].clone()).collect()
}

fn update(
    model: &CausalLm,
    tokenizer: &Tokenizer,
    examples: &[Example],
    optimizer: &mut AdamW,
    config: &OptimizerConfig,
    lr: f64,
) -> Result<f64> {
    let end = model.config().eos_token_ids.first().copied().unwrap_or_default();
    let mut sequences = Vec::with_capacity(examples.len());
    for example in examples {
        let mut response = tokenizer.encode(&example.answer)?;
        response.push(end);
        sequences.push((tokenizer.encode(&example.prompt)?, response));
    }
    let targets = Ragged::from_rows(sequences.iter().map(|(_, response)| response.clone()));
    let mask = targets.map(|_| true);
    let batch = LossBatch::supervised(targets, mask, &Aggregation::TokenMean)?;
    let scored: Vec<_> =
        sequences.iter().map(|(prompt, response)| ScoredSequence { prompt, response }).collect();
    let packed = model.pack(&scored)?;
    let mut gradients = Gradients::new(model.parameters());
    let loss = model.differentiate::<_, anyhow::Error>(
        &packed,
        Checkpointing::Off,
        &mut gradients,
        |hidden, head| {
            let temperature = 1.0;
            let inputs =
                ObjectiveInputs { hidden, head, temperature, batch: &batch, teacher: None };
            let loss = CrossEntropy.compute(&inputs)?.loss;
            let value = loss.to_scalar::<f32>()?;
            Ok((loss, f64::from(value)))
        },
    )?;
    optimizer.update(model.parameters(), &gradients, lr, config)?;
    Ok(loss)
}
