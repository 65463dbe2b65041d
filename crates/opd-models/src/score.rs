use candle_core::{DType, Tensor};
use opd_batch::ScoredSequence;
use rayon::prelude::*;

use crate::{CausalLm, Packed, Result, ValueHead};

/// Fewest tokens for which a thread computes sequences of its own: with less, all threads share
/// the work of each kernel.
const PART_TOKENS: usize = 512;

/// Most tokens of one forward, so that what a layer writes is still in the cache when it is read.
const CHUNK_TOKENS: usize = 1024;

impl CausalLm {
    /// Log-probs (nats, f32) at a temperature of every response token of `sequences`, in order.
    ///
    /// Forwards compute at most `token_budget` tokens (at least those of one sequence) in all
    /// threads together. Values depend on neither budget nor threads.
    ///
    /// # Errors
    ///
    /// [`Error`](crate::Error) naming the sequence that the model cannot take.
    pub fn sequence_logprobs(
        &self,
        sequences: &[ScoredSequence<'_>],
        temperature: f64,
        token_budget: usize,
    ) -> Result<Vec<f32>> {
        self.over_chunks(sequences, token_budget, |packed| {
            Ok(self.token_logprobs(packed, temperature)?.logprobs)
        })
    }

    /// Values (f32, in units of the reward) that `head` gives at every response token of
    /// `sequences`, in order: of the hidden states that predict the token, before it is known.
    ///
    /// Budget and independence as in [`Self::sequence_logprobs`].
    ///
    /// # Errors
    ///
    /// As [`Self::sequence_logprobs`]; [`opd_kernels::Error::Shape`] for a head of another width.
    pub fn sequence_values(
        &self,
        head: &ValueHead,
        sequences: &[ScoredSequence<'_>],
        token_budget: usize,
    ) -> Result<Vec<f32>> {
        self.over_chunks(sequences, token_budget, |packed| {
            Ok(head.values(&self.hidden(packed)?)?.detach())
        })
    }

    /// One number per response token from forwards over runs of sequences.
    fn over_chunks(
        &self,
        sequences: &[ScoredSequence<'_>],
        token_budget: usize,
        score: impl Fn(&Packed) -> Result<Tensor> + Sync,
    ) -> Result<Vec<f32>> {
        self.config().check_sequences(sequences)?;
        let threads = if self.device().is_cpu() { rayon::current_num_threads() } else { 1 };
        let total: usize = sequences.iter().map(length).sum();
        let parts = parts(sequences, threads.min(total / PART_TOKENS).max(1));
        let budget = (token_budget / parts.len().max(1)).min(CHUNK_TOKENS);
        let score = |part: &&[ScoredSequence<'_>]| -> Result<Vec<f32>> {
            let mut values = Vec::new();
            for chunk in chunks(part, budget) {
                let scores = score(&self.pack(chunk)?)?;
                values.extend(scores.to_dtype(DType::F32)?.to_vec1::<f32>()?);
            }
            Ok(values)
        };
        let scored: Result<Vec<Vec<f32>>> = parts.par_iter().with_max_len(1).map(score).collect();
        Ok(scored?.concat())
    }
}

fn length(sequence: &ScoredSequence<'_>) -> usize {
    sequence.prompt.len() + sequence.response.len()
}

/// Runs of whole sequences of at most `budget` tokens each, but at least one sequence.
pub fn chunks<'s, 'a>(
    sequences: &'s [ScoredSequence<'a>],
    budget: usize,
) -> impl Iterator<Item = &'s [ScoredSequence<'a>]> {
    let mut rest = sequences;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|sequence| {
            tokens += length(sequence);
            tokens <= budget
        });
        let n = fits.count().max(1).min(rest.len());
        let (chunk, after) = rest.split_at(n);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// At most `n` runs of sequences of about as many tokens each; sequences with one prompt that
/// are neighbours stay together.
fn parts<'s, 'a>(sequences: &'s [ScoredSequence<'a>], n: usize) -> Vec<&'s [ScoredSequence<'a>]> {
    let total: usize = sequences.iter().map(length).sum();
    let (mut parts, mut rest, mut taken) = (Vec::with_capacity(n), sequences, 0);
    while !rest.is_empty() {
        let target = total * (parts.len() + 1) / n;
        let mut end = 0;
        for family in rest.chunk_by(|a, b| a.prompt == b.prompt) {
            if end > 0 && taken >= target {
                break;
            }
            taken += family.iter().map(length).sum::<usize>();
            end += family.len();
        }
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}
