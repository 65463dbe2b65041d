//! The default job written out: what `opd train` does, in calls of the libraries.
//!
//! `cargo run --release --example pocket` distils the bundled teacher into the bundled student
//! for 40 steps (a tenth of the job; give another number to change that).

use std::{ops::ControlFlow, sync::Arc};

use anyhow::{Context, Result};
use candle_core::{DType, Device};
use opd_core::{
    advantage::{AdvantageEstimator, ReverseKl},
    batch::{Rollout, RolloutBatch, ScoreRequest, ScoredBatch, ScoredSequence, Teacher},
    loss::{
        Aggregation, ImportanceSampling, LossBatch, Objective, ObjectiveInputs, PolicyObjective,
    },
};
use opd_data::Fields;
use opd_models::{CausalLm, Checkpointing, Gradients, Tokenizer};
use opd_reward::ExactMatch;
use opd_rollout::{InProcess, Request, RolloutEngine, Sampling};
use opd_teacher::InProcessTeacher;
use opd_train::{
    AdamW, Endings, Evaluator, LearningRate, TokenizedPrompts,
    config::{OptimizerConfig, Schedule},
    report::Who,
};

const PROMPTS: usize = 32;
const SAMPLES: usize = 8;
const LONGEST: usize = 10;

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).map_or(Ok(40), |n| n.parse()).context("steps")?;
    let work = tempfile::tempdir()?;
    let job = opd_pocket::materialize(work.path())?;
    let student = CausalLm::load(&job.student, DType::F32, &Device::Cpu)?;
    let teacher = Arc::new(InProcessTeacher::load(&job.teacher, DType::F32, &Device::Cpu)?);
    teacher.check_student(&student, 9 + LONGEST)?;
    let tokenizer = Tokenizer::load(&job.student)?;
    let read = |path: &std::path::Path| -> Result<TokenizedPrompts> {
        let fields = Fields::default();
        Ok(TokenizedPrompts::load(path, &fields, &tokenizer, student.config(), LONGEST)?)
    };
    let (train, validation) = (read(&job.train)?, read(&job.validation)?);
    let before = pass_at_1(&student, &tokenizer, &validation)?;

    let config = OptimizerConfig {
        lr: 5e-4,
        beta2: 0.95,
        warmup: 5,
        schedule: Schedule::Cosine,
        min_lr_ratio: 0.1,
        ..OptimizerConfig::default()
    };
    let rate = LearningRate::new(&config, steps);
    let mut optimizer = AdamW::new(student.parameters())?;
    for step in 0..steps {
        let rollouts = rollout(&student, &train, step)?;
        let scores = teacher.score(&ScoreRequest::for_batch(&rollouts, 1.0))?;
        let scored = ScoredBatch::from_sampler(&rollouts).with_teacher(scores)?;
        let advantages = ReverseKl::default().advantages(&scored)?;
        let batch = LossBatch::new(&scored, advantages, &Aggregation::TokenMean)?;
        let gradients = gradients(&student, &rollouts, &batch)?;
        optimizer.update(student.parameters(), &gradients, rate.at(step), &config)?;
    }

    let after = pass_at_1(&student, &tokenizer, &validation)?;
    println!(
        "pass@1 on validation prompts: {:.1}% before, {:.1}% after",
        100.0 * before,
        100.0 * after
    );
    anyhow::ensure!(after > before, "distillation did not help");
    Ok(())
}

fn rollout(student: &CausalLm, prompts: &TokenizedPrompts, step: u64) -> Result<RolloutBatch> {
    let mut requests = Vec::new();
    for index in prompts.batch(0, step, PROMPTS) {
        let prompt = prompts.get(index)?.context("no such prompt")?.tokens;
        for _ in 0..SAMPLES {
            let stream = step * (PROMPTS * SAMPLES) as u64 + requests.len() as u64;
            requests.push(Request { prompt: prompt.clone(), stream });
        }
    }
    let sampling = Sampling::at_temperature(1.0, LONGEST, &student.config().eos_token_ids);
    let generations = InProcess::new(student, PROMPTS * SAMPLES).generate(&requests, &sampling)?;
    let rollouts = requests.into_iter().zip(generations).enumerate();
    let rollouts = rollouts.map(|(i, (request, generation))| Rollout {
        prompt: request.prompt,
        response: generation.tokens,
        sampler_logprobs: generation.logprobs,
        group: (i / SAMPLES) as u32,
        finish: generation.finish,
        ..Rollout::default()
    });
    Ok(RolloutBatch::from_rollouts(rollouts.collect())?)
}

fn gradients(student: &CausalLm, rollouts: &RolloutBatch, batch: &LossBatch) -> Result<Gradients> {
    let rows = rollouts.prompts().iter().zip(rollouts.responses().iter());
    let sequences: Vec<_> =
        rows.map(|(prompt, response)| ScoredSequence { prompt, response }).collect();
    let packed = student.pack(&sequences)?;
    let objective = PolicyObjective::new(ImportanceSampling);
    let mut gradients = Gradients::new(student.parameters());
    student.differentiate::<_, anyhow::Error>(
        &packed,
        Checkpointing::Off,
        &mut gradients,
        |hidden, head| {
            let inputs = ObjectiveInputs { hidden, head, temperature: 1.0, batch, teacher: None };
            Ok((objective.compute(&inputs)?.loss, ()))
        },
    )?;
    Ok(gradients)
}

fn pass_at_1(model: &CausalLm, tokenizer: &Tokenizer, prompts: &TokenizedPrompts) -> Result<f64> {
    let evaluator = Evaluator {
        tokenizer,
        endings: Endings::default(),
        reward: &ExactMatch,
        samples_per_prompt: 1,
        temperature: 1.0,
        top_k: None,
        top_p: None,
        max_response_tokens: LONGEST,
        max_sequences: 512,
        packed_weights: false,
        seed: 0,
    };
    let evaluation = evaluator
        .evaluate(Who::After, model, prompts, prompts.len(), |_, _| ControlFlow::Continue(()))?;
    Ok(evaluation.pass_at_1)
}
