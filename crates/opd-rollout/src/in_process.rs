use std::ops::Range;

use candle_core::{DType, Tensor};
use opd_batch::Finish;
use opd_kernels::{Span, Spans, embedding, linear, token_logprobs};
use opd_models::{CausalLm, KvCache};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::prelude::*;

use crate::{
    Error, Generation, Request, Result, RolloutEngine, Sampling,
    sampling::Choice,
    schedule::{Admission, Schedule},
};

/// Rows whose logits are held at once.
const LOGIT_ROWS: usize = 256;

/// Fewest sequences side by side for which a thread runs sequences of its own: with less, it
/// would read all weights for few rows, and all threads share the work of each kernel instead.
const PART_SEQUENCES: usize = 64;

/// Samples with the model in this process: batched, with cached keys and values, finished
/// slots refilled at once, and each distinct prompt computed once.
#[derive(Clone, Copy, Debug)]
pub struct InProcess<'a> {
    model: &'a CausalLm,
    max_sequences: usize,
}

impl<'a> InProcess<'a> {
    /// An engine that runs at most `max_sequences` (at least 1) side by side.
    pub fn new(model: &'a CausalLm, max_sequences: usize) -> Self {
        Self { model, max_sequences: max_sequences.max(1) }
    }

    fn check(&self, requests: &[Request], sampling: &Sampling) -> Result<()> {
        sampling.validate()?;
        let config = self.model.config();
        for (index, request) in requests.iter().enumerate() {
            let length = request.prompt.len();
            if length == 0 {
                return Err(Error::EmptyPrompt { index });
            }
            if length >= config.context {
                return Err(Error::PromptTooLong { index, length, context: config.context });
            }
            let vocab = config.vocab_size;
            if let Some(&id) = request.prompt.iter().find(|&&id| id as usize >= vocab) {
                return Err(Error::TokenId { index, id, vocab });
            }
        }
        Ok(())
    }
}

impl RolloutEngine for InProcess<'_> {
    fn generate(&self, requests: &[Request], sampling: &Sampling) -> Result<Vec<Generation>> {
        self.check(requests, sampling)?;
        let threads = if self.model.device().is_cpu() { rayon::current_num_threads() } else { 1 };
        let side_by_side = self.max_sequences.min(requests.len());
        let parts = parts(requests, threads.min(side_by_side / PART_SEQUENCES).max(1));
        let engine =
            Self { max_sequences: (self.max_sequences / parts.len().max(1)).max(1), ..*self };
        let run = |part: &Range<usize>| {
            let mut run = Run::new(&engine, &requests[part.clone()], sampling)?;
            while run.step().map_err(|error| error.shifted(part.start))? {}
            Ok(run.generations)
        };
        let generations: Result<Vec<Vec<Generation>>> =
            parts.par_iter().with_max_len(1).map(run).collect();
        Ok(generations?.concat())
    }
}

/// `n` runs of requests at most, of about one size; neighbours with one prompt stay together.
fn parts(requests: &[Request], n: usize) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = Vec::with_capacity(n);
    let (mut end, mut next) = (0, requests.len().div_ceil(n));
    for family in requests.chunk_by(|a, b| a.prompt == b.prompt) {
        end += family.len();
        if end >= next || end == requests.len() {
            ends.push(end);
            next = requests.len() * (ends.len() + 1) / n;
        }
    }
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, &end)| start..end).collect()
}

/// A running sequence.
#[derive(Debug)]
struct Sequence {
    request: usize,
    slot: usize,
    rng: ChaCha8Rng,
}

struct Run<'a> {
    model: &'a CausalLm,
    sampling: &'a Sampling,
    requests: &'a [Request],
    schedule: Schedule<'a>,
    cache: KvCache,
    running: Vec<Sequence>,
    generations: Vec<Generation>,
    /// Hidden state behind the last token of each resident prompt.
    prompt_hidden: Vec<(&'a [u32], Tensor)>,
}

impl<'a> Run<'a> {
    fn new(
        engine: &InProcess<'a>,
        requests: &'a [Request],
        sampling: &'a Sampling,
    ) -> Result<Self> {
        let model = engine.model;
        let max_new = sampling.max_new_tokens.min(model.config().context);
        let schedule = Schedule::new(requests, engine.max_sequences, max_new);
        let rows = schedule.n_cache_rows().max(1);
        let cache = KvCache::new(model.config(), rows, model.dtype(), model.device())?;
        let truncates = sampling.strategy.truncates();
        let empty = Generation {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            truncated_logprobs: truncates.then(Vec::new),
            finish: Finish::Length,
        };
        let generations = vec![empty; requests.len()];
        let (running, prompt_hidden) = (Vec::new(), Vec::new());
        Ok(Self { model, sampling, requests, schedule, cache, running, generations, prompt_hidden })
    }

    /// One token for every running sequence; false when none is left.
    fn step(&mut self) -> Result<bool> {
        let hidden_continued = self.decode()?;
        let admitted = self.schedule.admit();
        let hidden_admitted = self.prefill(&admitted)?;
        for admission in &admitted {
            let request = &self.requests[admission.request];
            let mut rng = ChaCha8Rng::seed_from_u64(self.sampling.seed);
            rng.set_stream(request.stream);
            self.running.push(Sequence { request: admission.request, slot: admission.slot, rng });
        }
        let hidden: Vec<Tensor> = hidden_continued.into_iter().chain(hidden_admitted).collect();
        if self.running.is_empty() {
            return Ok(false);
        }
        self.sample(&Tensor::cat(&hidden, 0)?)?;
        self.retire();
        Ok(true)
    }

    /// Feeds each running sequence's last token.
    fn decode(&mut self) -> Result<Option<Tensor>> {
        if self.running.is_empty() {
            return Ok(None);
        }
        let n = self.running.len();
        let (mut tokens, mut positions) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let (mut rows, mut spans) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for (query, sequence) in self.running.iter().enumerate() {
            let response = &self.generations[sequence.request].tokens;
            let token = response.len() - 1;
            let prompt_len = self.requests[sequence.request].prompt.len();
            tokens.push(response[token]);
            positions.push((prompt_len + token) as u32);
            rows.push(self.schedule.response_row(sequence.slot, token));
            spans.push(self.schedule.span(query, sequence.request, sequence.slot, token));
        }
        let spans = Spans::new(spans, n, self.cache.n_rows())?;
        let hidden = self.model.hidden_cached(&tokens, &positions, &rows, &spans, &self.cache)?;
        Ok(Some(hidden))
    }

    /// Computes the prompts that are new; returns the hidden state of each admission's prompt.
    fn prefill(&mut self, admitted: &[Admission]) -> Result<Option<Tensor>> {
        if admitted.is_empty() {
            return Ok(None);
        }
        let new: Vec<usize> = admitted.iter().filter(|a| a.prefill).map(|a| a.request).collect();
        if !new.is_empty() {
            let (mut tokens, mut positions, mut rows) = (Vec::new(), Vec::new(), Vec::new());
            let (mut spans, mut last) = (Vec::new(), Vec::new());
            for &request in &new {
                let prompt = &self.requests[request].prompt;
                let keys = self.schedule.prompt_range(request);
                let queries = tokens.len()..tokens.len() + prompt.len();
                tokens.extend_from_slice(prompt);
                positions.extend(0..prompt.len() as u32);
                rows.extend(keys.clone());
                last.push(queries.end as u32 - 1);
                spans.push(Span { queries, prefix: 0..0, keys });
            }
            let spans = Spans::new(spans, tokens.len(), self.cache.n_rows())?;
            let hidden =
                self.model.hidden_cached(&tokens, &positions, &rows, &spans, &self.cache)?;
            for (&request, last) in new.iter().zip(last) {
                let prompt = self.requests[request].prompt.as_slice();
                let hidden = hidden.narrow(0, last as usize, 1)?.force_contiguous()?;
                self.prompt_hidden.push((prompt, hidden));
            }
        }
        let rows = admitted.iter().map(|admission| {
            let prompt = self.requests[admission.request].prompt.as_slice();
            self.prompt_hidden.iter().position(|(resident, _)| *resident == prompt).unwrap_or(0)
                as u32
        });
        let rows: Vec<u32> = rows.collect();
        let states: Vec<&Tensor> = self.prompt_hidden.iter().map(|(_, hidden)| hidden).collect();
        let states = Tensor::cat(&states, 0)?;
        let n = rows.len();
        let rows = Tensor::from_vec(rows, n, states.device())?;
        Ok(Some(embedding(&states, &rows)?))
    }

    /// Chooses a token for each running sequence from its hidden state.
    fn sample(&mut self, hidden: &Tensor) -> Result<()> {
        let (strategy, temperature) = (self.sampling.strategy, self.sampling.temperature());
        let n = self.running.len();
        for start in (0..n).step_by(LOGIT_ROWS) {
            let rows = LOGIT_ROWS.min(n - start);
            let logits = linear(&hidden.narrow(0, start, rows)?.contiguous()?, self.model.head())?;
            let vocab = logits.dims()[1];
            let values = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let sequences = &mut self.running[start..start + rows];
            let choices: Vec<Option<Choice>> = sequences
                .par_iter_mut()
                .zip(values.par_chunks(vocab))
                .map(|(sequence, logits)| strategy.choose(logits, &mut sequence.rng))
                .collect();
            let mut ids = Vec::with_capacity(rows);
            for (choice, sequence) in choices.iter().zip(&self.running[start..]) {
                let index = sequence.request;
                let token = self.generations[index].tokens.len();
                ids.push(choice.ok_or(Error::NotFinite { index, token })?.id);
            }
            let ids_tensor = Tensor::from_slice(&ids, rows, logits.device())?;
            let logprobs = token_logprobs(&logits, &ids_tensor, temperature)?.logprobs;
            let logprobs = logprobs.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            for (i, choice) in choices.into_iter().flatten().enumerate() {
                let generation = &mut self.generations[self.running[start + i].request];
                generation.tokens.push(choice.id);
                generation.logprobs.push(logprobs[i]);
                if let Some(truncated) = &mut generation.truncated_logprobs {
                    truncated.push((f64::from(logprobs[i]) - choice.log_kept).min(0.0) as f32);
                }
            }
        }
        Ok(())
    }

    /// Ends sequences that sampled an end token or reached their limit.
    fn retire(&mut self) {
        let context = self.model.config().context;
        let (sampling, requests) = (self.sampling, self.requests);
        let (generations, schedule) = (&mut self.generations, &mut self.schedule);
        self.running.retain(|sequence| {
            let generation = &mut generations[sequence.request];
            let eos =
                generation.tokens.last().is_some_and(|id| sampling.eos_token_ids.contains(id));
            let length = generation.tokens.len();
            let full = length >= sampling.max_new_tokens
                || requests[sequence.request].prompt.len() + length >= context;
            if eos {
                generation.finish = Finish::Eos;
            }
            if eos || full {
                schedule.release(sequence.request, sequence.slot);
            }
            !(eos || full)
        });
        let schedule = &self.schedule;
        self.prompt_hidden.retain(|(prompt, _)| schedule.is_resident(prompt));
    }
}
