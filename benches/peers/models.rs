//! One job of a language model, timed on request: `models MODEL_DIR JOB f32|bf16`, where JOB is JSON:
//!
//! - `{"generate": [[ids], ...], "new": 64}`: a response of so many tokens to each prompt, at
//!   temperature 1;
//! - `{"score": [[ids], ...]}`: log-probs of all tokens but the first of each sequence;
//! - `{"train": [[ids], ...], "prompt": [n, ...]}`: one optimizer step of the policy gradient on what
//!   follows the first `n` tokens of each sequence.
//!
//! Prints the memory of the loaded program; then, for each line on its input, does the job once and
//! prints its seconds, and the highest memory so far. JSON lines.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, stdin},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use mimalloc::MiMalloc;
use opd_core::{
    advantage::{AdvantageEstimator, ReverseKl},
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch, ScoredSequence, TeacherScores},
    loss::{
        Aggregation, ImportanceSampling, LossBatch, Objective, ObjectiveInputs, PolicyObjective,
    },
};
use opd_kernels::{Products, keep_freed_memory};
use opd_models::{CausalLm, Checkpointing, Decoder, Gradients};
use opd_rollout::{InProcess, Request, RolloutEngine, Sampling};
use opd_train::{AdamW, config::OptimizerConfig};
use serde::Deserialize;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Deserialize)]
#[serde(untagged)]
enum Job {
    Generate { generate: Vec<Vec<u32>>, new: usize },
    Score { score: Vec<Vec<u32>> },
    Train { train: Vec<Vec<u32>>, prompt: Vec<usize> },
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, job, precision] = &arguments[..] else { bail!("models MODEL_DIR JOB f32|bf16") };
    let products = match precision.as_str() {
        "f32" => Products::Full,
        "bf16" => Products::Bf16,
        other => bail!("{other}: f32 or bf16"),
    };
    let program = memory("VmRSS:")?;
    let job = serde_json::from_str(job)?;
    let model = match job {
        Job::Train { .. } => {
            CausalLm::load(model, DType::F32, &Device::Cpu)?.with_products(products)?
        }
        _ => CausalLm::load_frozen(model, products, true)?,
    };
    let mut work = prepare(&model, job)?;
    keep_freed_memory();
    println!("{}", json!({ "program": program }));
    for line in stdin().lock().lines() {
        line?;
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", json!({ "seconds": seconds, "peak": memory("VmHWM:")? }));
    }
    Ok(())
}

type Work<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

fn prepare(model: &CausalLm, job: Job) -> Result<Work<'_>> {
    Ok(match job {
        Job::Generate { generate, new } => {
            let request = |(prompt, stream)| Request { prompt, stream };
            let requests: Vec<Request> = generate.into_iter().zip(0..).map(request).collect();
            let sampling = Sampling::at_temperature(1.0, new, &[]);
            let decoder = Decoder::packed(model)?;
            Box::new(move || {
                let engine = InProcess::through(&decoder, requests.len());
                let generated = engine.generate(&requests, &sampling)?;
                assert!(generated.iter().all(|one| one.tokens.len() == new));
                Ok(())
            })
        }
        Job::Score { score } => Box::new(move || {
            let sequences: Vec<ScoredSequence<'_>> =
                score.iter().map(|ids| split(ids, 1)).collect();
            let tokens: usize = score.iter().map(Vec::len).sum();
            let logprobs = model.sequence_logprobs(&sequences, 1.0, tokens)?;
            assert_eq!(logprobs.len(), tokens - score.len());
            Ok(())
        }),
        Job::Train { train, prompt } => trained(model, &train, &prompt)?,
    })
}

/// Steps of the importance-sampling loss on given advantages.
fn trained<'a>(model: &'a CausalLm, rows: &[Vec<u32>], prompts: &[usize]) -> Result<Work<'a>> {
    let rollouts = rows.iter().zip(prompts).map(|(ids, &prompt)| {
        let ScoredSequence { prompt, response } = split(ids, prompt);
        Rollout {
            prompt: prompt.to_vec(),
            response: response.to_vec(),
            sampler_logprobs: vec![-10.0; response.len()],
            ..Rollout::default()
        }
    });
    let batch = RolloutBatch::from_rollouts(rollouts.collect())?;
    let teacher = batch.responses().iter().map(|ids| vec![-9.0; ids.len()]);
    let teacher = TeacherScores::complete(Ragged::from_rows(teacher))?;
    let scored = ScoredBatch::from_sampler(&batch).with_teacher(teacher)?;
    let advantages = ReverseKl::default().advantages(&scored)?;
    let whole = LossBatch::new(&scored, advantages, &Aggregation::TokenMean)?;
    let objective = PolicyObjective::new(Box::new(ImportanceSampling));
    let config = OptimizerConfig { lr: 1e-6, ..OptimizerConfig::default() };
    let mut optimizer = AdamW::new(model.parameters())?;
    Ok(Box::new(move || {
        let rows = batch.prompts().iter().zip(batch.responses().iter());
        let sequences: Vec<ScoredSequence<'_>> =
            rows.map(|(prompt, response)| ScoredSequence { prompt, response }).collect();
        let packed = model.pack(&sequences)?;
        let mut gradients = Gradients::new(model.parameters());
        let kept = Checkpointing::Off;
        let loss = model.differentiate(&packed, kept, &mut gradients, |hidden, head| {
            let batch = &whole;
            let inputs = ObjectiveInputs { hidden, head, temperature: 1.0, batch, teacher: None };
            let output = objective.compute(&inputs)?;
            let loss = output.loss.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            Ok::<_, anyhow::Error>((output.loss, loss))
        })?;
        assert!(loss.is_finite());
        optimizer.update(model.parameters(), &gradients, config.lr, &config)?;
        Ok(())
    }))
}

fn split(ids: &[u32], prompt: usize) -> ScoredSequence<'_> {
    let (prompt, response) = ids.split_at(prompt);
    ScoredSequence { prompt, response }
}

/// MiB of a line of `/proc/self/status`.
fn memory(of: &str) -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(of)).context("Linux only")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
