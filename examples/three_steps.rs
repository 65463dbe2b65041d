//! Three steps of on-policy distillation on given responses, for `benches/peers/three_steps.py`,
//! which takes the same steps in PyTorch and compares.
//!
//! ```text
//! three_steps STUDENT TEACHER BATCHES.json OUT adamw|sgd LR
//! ```
//!
//! `BATCHES.json` is a list of steps, each a list of `{"prompt": [ids], "response": [ids]}`. OUT
//! gets `gradients-N.safetensors` of each step and the weights after the last; the losses are
//! printed as JSON.

use std::{collections::HashMap, fs, path::Path};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use opd_core::{
    advantage::{AdvantageEstimator, ReverseKl},
    batch::{Rollout, RolloutBatch, ScoreRequest, ScoredBatch, ScoredSequence, Teacher},
    loss::{
        Aggregation, ImportanceSampling, LossBatch, Objective, ObjectiveInputs, PolicyObjective,
    },
};
use opd_models::{CausalLm, Checkpointing, Gradients};
use opd_teacher::InProcessTeacher;
use opd_train::{AdamW, config::OptimizerConfig, micro_batches};
use serde::Deserialize;

/// Tokens of one forward and backward.
const BUDGET: usize = 512;

#[derive(Deserialize)]
struct Row {
    prompt: Vec<u32>,
    response: Vec<u32>,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [student, teacher, batches, out, optimizer, lr] = args.as_slice() else {
        bail!("three_steps STUDENT TEACHER BATCHES.json OUT adamw|sgd LR");
    };
    let (out, lr) = (Path::new(out), lr.parse::<f64>().context("LR")?);
    let student = CausalLm::load(student, DType::F32, &Device::Cpu)?;
    let teacher = InProcessTeacher::load(teacher, DType::F32, &Device::Cpu)?;
    let batches: Vec<Vec<Row>> = serde_json::from_slice(&fs::read(batches)?)?;
    let mut adamw = AdamW::new(student.parameters())?;
    let mut losses = Vec::new();
    for (step, rows) in batches.into_iter().enumerate() {
        let (loss, gradients) = differentiate(&student, &teacher, rows)?;
        losses.push(loss);
        save(&student, &gradients, &out.join(format!("gradients-{step}.safetensors")))?;
        match optimizer.as_str() {
            "adamw" => {
                let config = OptimizerConfig { lr, ..OptimizerConfig::default() };
                adamw.update(student.parameters(), &gradients, lr, &config)?;
            }
            "sgd" => descend(&student, &gradients, lr)?,
            other => bail!("{other}: adamw or sgd"),
        }
    }
    student.save_weights(&out.join("model.safetensors"))?;
    println!("{}", serde_json::to_string(&losses)?);
    Ok(())
}

/// Loss and gradients of a step.
fn differentiate(
    student: &CausalLm,
    teacher: &InProcessTeacher,
    rows: Vec<Row>,
) -> Result<(f64, Gradients)> {
    let mut rollouts = Vec::with_capacity(rows.len());
    for Row { prompt, response } in rows {
        let sequence = ScoredSequence { prompt: &prompt, response: &response };
        let sampler_logprobs = student.sequence_logprobs(&[sequence], 1.0, BUDGET)?;
        rollouts.push(Rollout { prompt, response, sampler_logprobs, ..Rollout::default() });
    }
    let batch = RolloutBatch::from_rollouts(rollouts)?;
    let teacher_scores = teacher.score(&ScoreRequest::for_batch(&batch, 1.0))?;
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(teacher_scores)?;
    let advantages = ReverseKl::default().advantages(&scored)?;
    let whole = LossBatch::new(&scored, advantages, &Aggregation::TokenMean)?;
    let objective = PolicyObjective::new(Box::new(ImportanceSampling));
    let mut gradients = Gradients::new(student.parameters());
    let mut total = 0.0;
    let all: Vec<usize> = (0..batch.n_rows()).collect();
    for run in micro_batches(&batch, &all, BUDGET) {
        let micro = whole.select(&run)?;
        let sequences: Vec<ScoredSequence<'_>> = run
            .iter()
            .filter_map(|&row| {
                let (prompt, response) = (batch.prompts().row(row)?, batch.responses().row(row)?);
                Some(ScoredSequence { prompt, response })
            })
            .collect();
        let packed = student.pack(&sequences)?;
        let checkpointing = Checkpointing::Off;
        total +=
            student.differentiate(&packed, checkpointing, &mut gradients, |hidden, head| {
                let output = objective.compute(&ObjectiveInputs {
                    hidden,
                    head,
                    temperature: 1.0,
                    batch: &micro,
                    teacher: None,
                })?;
                let loss = output.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
                Ok::<_, anyhow::Error>((output.loss, loss))
            })?;
    }
    Ok((total, gradients))
}

/// Plain gradient descent.
fn descend(student: &CausalLm, gradients: &Gradients, lr: f64) -> Result<()> {
    for (parameter, gradient) in student.parameters().iter().zip(gradients.iter()) {
        let gradient = gradient.context("a parameter without a gradient")?;
        let moved = (parameter.tensor() - (gradient * lr)?)?;
        parameter.var().set(&moved)?;
    }
    Ok(())
}

/// Writes gradients under the Hugging Face names.
fn save(student: &CausalLm, gradients: &Gradients, path: &Path) -> Result<()> {
    let mut named: HashMap<String, Tensor> = HashMap::new();
    for (parameter, gradient) in student.parameters().iter().zip(gradients.iter()) {
        let gradient = gradient.context("a parameter without a gradient")?;
        for (name, part) in parameter.split(gradient) {
            named.insert(name.to_owned(), part?.contiguous()?);
        }
    }
    Ok(candle_core::safetensors::save(&named, path)?)
}
