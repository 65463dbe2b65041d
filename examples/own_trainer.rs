//! On-policy distillation in somebody else's trainer: `opd-core` and a loop.
//!
//! `cargo run --release --example own_trainer`. The student is a table of bigram logits, the
//! teacher another; the student samples, the teacher says how likely it finds each token, and
//! the reverse KL falls to a tenth.

use opd_core::{
    ScoreRequest, Teacher, TeacherScores,
    advantage::{AdvantageEstimator, ReverseKl},
    batch::{Ragged, Rollout, RolloutBatch, ScoredBatch},
    candle::{D, Device, Result as CandleResult, Tensor, Var},
    kernels::token_logprobs,
    loss::{Aggregation, ImportanceSampling, LossBatch, PolicyLoss},
};

const VOCAB: usize = 6;
const LENGTH: usize = 8;

struct Bigram(Vec<Vec<f32>>);

impl Teacher for Bigram {
    fn name(&self) -> &str {
        "bigram"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_core::batch::Result<TeacherScores> {
        let rows = request.sequences.iter().map(|sequence| {
            let before = sequence.prompt.iter().chain(sequence.response);
            let pairs = before.skip(sequence.prompt.len() - 1).zip(sequence.response);
            pairs.map(|(&before, &token)| self.0[before as usize][token as usize]).collect()
        });
        TeacherScores::complete(Ragged::from_rows(rows))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let logits =
        Var::from_tensor(&Tensor::zeros((VOCAB, VOCAB), opd_core::candle::DType::F32, &device)?)?;
    let teacher = teacher();
    let before = kl(&logits, &teacher)?;
    for step in 0..300 {
        let batch = sample(&logits, 64, step)?;
        let scores = teacher.score(&ScoreRequest::for_batch(&batch, 1.0))?;
        let scored = ScoredBatch::from_sampler(&batch).with_teacher(scores)?;
        let advantages = ReverseKl::default().advantages(&scored)?;
        let loss_batch = LossBatch::new(&scored, advantages, &Aggregation::default())?;

        let contexts = contexts(&batch, &device)?;
        let targets =
            Tensor::from_slice(batch.responses().values(), batch.rows().n_tokens(), &device)?;
        let student = token_logprobs(&logits.index_select(&contexts, 0)?, &targets, 1.0)?;
        let loss = ImportanceSampling.loss(&student.logprobs, &loss_batch)?.loss;
        let gradients = loss.backward()?;
        if let Some(gradient) = gradients.get(&logits) {
            logits.set(&(logits.as_tensor() - (gradient * 5.0)?)?)?;
        }
    }
    let after = kl(&logits, &teacher)?;
    println!("reverse KL: {before:.3} nats a token before, {after:.3} after");
    assert!(after < before / 10.0, "the student did not reach the teacher");
    Ok(())
}

/// Log-probs of a teacher that prefers the next token in the alphabet.
fn teacher() -> Bigram {
    let row = |before: usize| -> Vec<f32> {
        let logits: Vec<f32> = (0..VOCAB)
            .map(|token| if token == (before + 1) % VOCAB { 2.5 } else { 0.3 * token as f32 })
            .collect();
        let lse = logits.iter().map(|l| l.exp()).sum::<f32>().ln();
        logits.into_iter().map(|l| l - lse).collect()
    };
    Bigram((0..VOCAB).map(row).collect())
}

/// `n` responses sampled from the student, with the log-probs that they were sampled with.
fn sample(logits: &Var, n: usize, step: u64) -> Result<RolloutBatch, Box<dyn std::error::Error>> {
    let table = log_softmax(logits)?.to_vec2::<f32>()?;
    let mut state = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let rollouts = (0..n).map(|i| {
        let mut last = i % VOCAB;
        let prompt = vec![last as u32];
        let (mut response, mut sampler_logprobs) = (Vec::new(), Vec::new());
        for _ in 0..LENGTH {
            let mut rest = uniform();
            let token = table[last].iter().position(|logprob| {
                rest -= logprob.exp();
                rest < 0.0
            });
            let token = token.unwrap_or(VOCAB - 1);
            sampler_logprobs.push(table[last][token]);
            response.push(token as u32);
            last = token;
        }
        Rollout { prompt, response, sampler_logprobs, ..Rollout::default() }
    });
    Ok(RolloutBatch::from_rollouts(rollouts.collect())?)
}

/// The token before each response token.
fn contexts(batch: &RolloutBatch, device: &Device) -> CandleResult<Tensor> {
    let rows = batch.prompts().iter().zip(batch.responses().iter());
    let contexts = rows.flat_map(|(prompt, response)| {
        prompt.iter().rev().take(1).chain(&response[..response.len() - 1]).copied()
    });
    let contexts: Vec<u32> = contexts.collect();
    let n = contexts.len();
    Tensor::from_vec(contexts, n, device)
}

/// Mean over contexts of KL(student || teacher).
fn kl(logits: &Var, teacher: &Bigram) -> CandleResult<f32> {
    let student = log_softmax(logits)?;
    let teacher = Tensor::new(teacher.0.clone(), &Device::Cpu)?;
    let kl = (student.exp()? * (student - teacher)?)?.sum(D::Minus1)?;
    kl.mean_all()?.to_scalar()
}

fn log_softmax(logits: &Tensor) -> CandleResult<Tensor> {
    let lse = logits.exp()?.sum_keepdim(D::Minus1)?.log()?;
    logits.broadcast_sub(&lse)
}
