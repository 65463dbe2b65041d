//! The memory of objectives, as a Markdown table: loss and backward at `T` rows and at `2 T`.
//!
//!     cargo run --release --example objective_memory
//!
//! Every run is a process of its own that counts its allocations: the peak beyond model, batch
//! and the gradients that are asked for. Ends with an error where a run takes more than a quarter
//! of `[rows, vocabulary]` numbers, or grows by more than an eighth of what these grow by.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use anyhow::{Context, ensure};
use candle_core::{Device, Tensor, Var};
use cap::Cap;
use mimalloc::MiMalloc;
use opd_core::{
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch},
    loss::{
        Aggregation, Clip, CrossEntropy, CrossVocabulary, CrossVocabularyObjective, Direction,
        Divergence, DivergenceObjective, ImportanceSampling, LossBatch, MiniLlm, Objective,
        ObjectiveInputs, PolicyObjective, Support, Tail, TeacherStates, TopKObjective,
    },
};

/// Counts what is allocated; the allocator itself is that of `opd`.
#[global_allocator]
static ALLOCATOR: Cap<MiMalloc> = Cap::new(MiMalloc, usize::MAX);

const ROWS: usize = 2048;
const VOCAB: usize = 32_768;
const WIDTH: usize = 64;
const TOP_K: usize = 64;
const MIB: f64 = 1024.0 * 1024.0;

/// The bytes of `[rows, VOCAB]` numbers in f32.
const fn logits(rows: usize) -> usize {
    rows * VOCAB * size_of::<f32>()
}

fn objectives() -> Vec<(&'static str, Box<dyn Objective>)> {
    let of = |divergence| Box::new(DivergenceObjective::new(divergence).unwrap());
    let top = |support, direction| {
        Box::new(TopKObjective::new(TOP_K, support, Tail::Bucket, direction).unwrap())
    };
    let half = |v: usize| v.is_multiple_of(2).then_some(v as u32 / 2);
    let gold = CrossVocabulary {
        counterparts: (0..VOCAB).map(half).collect(),
        ..CrossVocabulary::unmatched(VOCAB)
    };
    let policy = PolicyObjective::new(ImportanceSampling).with_entropy(0.01).unwrap();
    vec![
        ("sft", Box::new(CrossEntropy)),
        ("importance_sampling, entropy bonus", Box::new(policy)),
        ("reverse_kl", of(Divergence::ReverseKl)),
        ("forward_kl", of(Divergence::ForwardKl)),
        ("jsd", of(Divergence::Jsd { beta: 0.5 })),
        ("skew_forward_kl", of(Divergence::SkewForwardKl { alpha: 0.1 })),
        ("skew_reverse_kl", of(Divergence::SkewReverseKl { alpha: 0.1 })),
        ("mixed_kl", Box::new(DivergenceObjective::mixed(0.5).unwrap())),
        ("tvd", Box::new(DivergenceObjective::total_variation())),
        ("top_k_forward_kl, teacher's ids", top(Support::Teacher, Direction::Forward)),
        ("top_k_reverse_kl, student's ids", top(Support::Student, Direction::Reverse)),
        ("uld", Box::new(CrossVocabularyObjective::new(CrossVocabulary::unmatched(VOCAB)))),
        ("gold", Box::new(CrossVocabularyObjective::new(gold))),
        ("mini_llm", Box::new(MiniLlm::new(1.0, Clip { below: 0.2, above: 0.2 }).unwrap())),
    ]
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [] => table(),
        [name, rows] => {
            println!("{}", measure(name, rows.parse().context("a number of rows")?)?);
            Ok(())
        }
        _ => anyhow::bail!("no argument, or the name of an objective and a number of rows"),
    }
}

fn table() -> anyhow::Result<()> {
    println!("| loss | {ROWS} rows, MiB | {} rows, MiB | of `[rows, V]` | growth |", 2 * ROWS);
    println!("|---|--:|--:|--:|--:|");
    let mebibytes = |bytes: usize| bytes as f64 / MIB;
    for (name, _) in objectives() {
        let (one, two) = (apart(name, ROWS)?, apart(name, 2 * ROWS)?);
        let (share, growth) = (
            two as f64 / logits(2 * ROWS) as f64,
            two.saturating_sub(one) as f64 / logits(ROWS) as f64,
        );
        println!(
            "| {name} | {:.1} | {:.1} | {:.1}% | {:.1}% |",
            mebibytes(one),
            mebibytes(two),
            100.0 * share,
            100.0 * growth,
        );
        ensure!(share < 0.25, "{name}: {two} bytes at {} rows", 2 * ROWS);
        ensure!(growth < 0.125, "{name}: grows from {one} to {two} bytes");
    }
    let [one, two] = [ROWS, 2 * ROWS].map(|rows| mebibytes(logits(rows)));
    println!("| numbers `[rows, V]` alone | {one:.1} | {two:.1} | | |");
    Ok(())
}

/// What a process of its own measures.
fn apart(name: &str, rows: usize) -> anyhow::Result<usize> {
    let output = Command::new(std::env::current_exe()?).args([name, &rows.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.trim().parse().with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Bytes beyond inputs and gradients at the peak of loss and backward.
fn measure(name: &str, rows: usize) -> anyhow::Result<usize> {
    let known = objectives().into_iter().find(|(known, _)| *known == name);
    let (_, objective) = known.context("no such objective")?;
    let random = |n| Tensor::randn(0f32, 1.0, (n, WIDTH), &Device::Cpu);
    let (hidden, head) = (Var::from_tensor(&random(rows)?)?, Var::from_tensor(&random(VOCAB)?)?);
    let (teacher_hidden, teacher_head) = (random(rows)?, random(VOCAB)?);
    let batch = batch(rows)?;
    let inputs = ObjectiveInputs {
        hidden: &hidden,
        head: head.as_tensor().into(),
        temperature: 1.0,
        batch: &batch,
        teacher: Some(TeacherStates { hidden: &teacher_hidden, head: (&teacher_head).into() }),
    };
    let before = ALLOCATOR.allocated();
    let gradients = objective.compute(&inputs)?.loss.backward()?;
    let peak = ALLOCATOR.max_allocated() - before;
    let kept = [&hidden, &head].map(|var| {
        let gradient = gradients.get(var).map_or(0, |gradient| gradient.elem_count());
        gradient * size_of::<f32>()
    });
    ensure!(kept.iter().all(|bytes| *bytes > 0), "{name} has no gradient");
    Ok(peak.saturating_sub(kept.iter().sum()))
}

/// Responses of 256 tokens, with advantages.
fn batch(rows: usize) -> anyhow::Result<LossBatch> {
    const LENGTH: usize = 256;
    let rollouts = (0..rows / LENGTH).map(|row| Rollout {
        prompt: vec![1],
        response: (0..LENGTH).map(|t| ((row * LENGTH + t) * 7 % VOCAB) as u32).collect(),
        sampler_logprobs: vec![-10.0; LENGTH],
        ..Rollout::default()
    });
    let rollouts = RolloutBatch::from_rollouts(rollouts.collect())?;
    let advantages = Ragged::filled(rollouts.rows().clone(), 0.5);
    Ok(LossBatch::new(&ScoredBatch::from_sampler(&rollouts), advantages, &Aggregation::TokenMean)?)
}
