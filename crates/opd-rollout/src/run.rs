use std::ops::Range;

use candle_core::{DType, Tensor};
use opd_batch::Finish;
use opd_kernels::{Span, Spans, draw_rows, embedding, likeliest_rows, token_logprobs};
use opd_models::{Decoder, KvCache};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rayon::prelude::*;

use crate::{
    Error, Generation, InProcess, Request, Result, Sampling,
    in_process::Guide,
    mixture,
    sampling::{Choice, uniform},
    schedule::{Admission, Schedule},
};

/// Sequences of a run whose logits are held at once.
pub const LOGIT_ROWS: usize = 256;

/// Tokens of prompts that a thread computes at once on the CPU: enough for the speed of products, little of
/// activations.
pub const PROMPT_TOKENS: usize = 128;

/// The same on a GPU.
const PROMPT_TOKENS_ON_GPU: usize = 8192;

/// A running sequence.
#[derive(Debug)]
struct Sequence {
    request: usize,
    slot: usize,
    rng: ChaCha8Rng,
}

/// A model that follows the running sequences.
struct Lane<'a> {
    decoder: &'a Decoder<'a>,
    cache: KvCache,
    /// Hidden state behind the last token of each resident prompt.
    prompt_hidden: Vec<(&'a [u32], Tensor)>,
}

/// Sequences on their way, in one thread.
pub(crate) struct Run<'a> {
    engine: InProcess<'a>,
    sampling: &'a Sampling,
    requests: &'a [Request],
    schedule: Schedule<'a>,
    /// The model, then its guide.
    lanes: Vec<Lane<'a>>,
    running: Vec<Sequence>,
    generations: Vec<Generation>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        engine: &InProcess<'a>,
        decoders: &'a [Decoder<'a>],
        requests: &'a [Request],
        sampling: &'a Sampling,
    ) -> Result<Self> {
        let max_new = sampling.max_new_tokens.min(engine.context());
        let schedule = Schedule::new(requests, engine.max_sequences, max_new);
        let rows = schedule.n_cache_rows().max(1);
        let lane = |decoder: &'a Decoder<'a>| -> Result<Lane<'a>> {
            let model = decoder.model();
            let cache = KvCache::new(model.config(), rows, model.dtype(), model.device())?;
            Ok(Lane { decoder, cache, prompt_hidden: Vec::new() })
        };
        let lanes = decoders.iter().map(lane).collect::<Result<_>>()?;
        let empty = Generation {
            tokens: Vec::new(),
            logprobs: Vec::new(),
            truncated_logprobs: sampling.alters().then(Vec::new),
            finish: Finish::Length,
        };
        let generations = vec![empty; requests.len()];
        let running = Vec::new();
        Ok(Self { engine: *engine, sampling, requests, schedule, lanes, running, generations })
    }

    /// What was sampled, in the order of the requests.
    pub(crate) fn into_generations(self) -> Vec<Generation> {
        self.generations
    }

    /// One token for every running sequence; false when none is left.
    pub(crate) fn step(&mut self) -> Result<bool> {
        let mut hidden = self.decode()?;
        let admitted = self.schedule.admit();
        for (hidden, new) in hidden.iter_mut().zip(self.prefill(&admitted)?) {
            hidden.extend(new);
        }
        for admission in &admitted {
            let request = &self.requests[admission.request];
            let mut rng = ChaCha8Rng::seed_from_u64(self.sampling.seed);
            rng.set_stream(request.stream);
            self.running.push(Sequence { request: admission.request, slot: admission.slot, rng });
        }
        if self.running.is_empty() {
            return Ok(false);
        }
        let hidden = hidden.iter().map(|parts| Tensor::cat(parts, 0));
        self.sample(&hidden.collect::<candle_core::Result<Vec<_>>>()?)?;
        self.retire()?;
        Ok(true)
    }

    /// Feeds each running sequence's last token; the hidden states of each lane.
    fn decode(&mut self) -> Result<Vec<Vec<Tensor>>> {
        if self.running.is_empty() {
            return Ok(vec![Vec::new(); self.lanes.len()]);
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
        let spans = Spans::new(spans, n, self.n_cache_rows())?;
        let hidden = |lane: &Lane<'_>| -> Result<Vec<Tensor>> {
            Ok(vec![lane.decoder.hidden(&tokens, &positions, &rows, &spans, &lane.cache)?])
        };
        self.lanes.iter().map(hidden).collect()
    }

    fn n_cache_rows(&self) -> usize {
        self.lanes.first().map_or(0, |lane| lane.cache.n_rows())
    }

    /// Computes the prompts that are new; the hidden state of each admission's prompt, in each
    /// lane.
    fn prefill(&mut self, admitted: &[Admission]) -> Result<Vec<Option<Tensor>>> {
        if admitted.is_empty() {
            return Ok(vec![None; self.lanes.len()]);
        }
        let on_cpu = self.lanes.first().is_some_and(|lane| lane.decoder.model().device().is_cpu());
        let at_once = if on_cpu { PROMPT_TOKENS } else { PROMPT_TOKENS_ON_GPU };
        let new = admitted.iter().filter(|a| a.prefill).map(|a| a.request);
        let lengths: Vec<(usize, usize)> =
            new.map(|request| (request, self.requests[request].prompt.len())).collect();
        for parts in portions(&lengths, at_once) {
            self.read_prompts(&parts)?;
        }
        self.lanes
            .iter()
            .map(|lane| lane.behind_prompts(self.requests, admitted).map(Some))
            .collect()
    }

    /// Computes parts of prompts, of which earlier parts are in the cache; keeps the hidden state behind
    /// each prompt that ends here.
    fn read_prompts(&mut self, parts: &[(usize, Range<usize>)]) -> Result<()> {
        let (mut tokens, mut positions, mut rows) = (Vec::new(), Vec::new(), Vec::new());
        let (mut spans, mut ends) = (Vec::new(), Vec::new());
        for (request, part) in parts {
            let prompt = &self.requests[*request].prompt;
            let place = self.schedule.prompt_range(*request);
            let queries = tokens.len()..tokens.len() + part.len();
            tokens.extend_from_slice(&prompt[part.clone()]);
            positions.extend(part.clone().map(|position| position as u32));
            rows.extend(place.start + part.start..place.start + part.end);
            if part.end == prompt.len() {
                ends.push((prompt.as_slice(), queries.end - 1));
            }
            let keys = place.start..place.start + part.end;
            spans.push(Span { queries, prefix: 0..0, keys });
        }
        let spans = Spans::new(spans, tokens.len(), self.n_cache_rows())?;
        for lane in &mut self.lanes {
            let hidden = lane.decoder.hidden(&tokens, &positions, &rows, &spans, &lane.cache)?;
            for &(prompt, last) in &ends {
                let hidden = hidden.narrow(0, last, 1)?.force_contiguous()?;
                lane.prompt_hidden.push((prompt, hidden));
            }
        }
        Ok(())
    }

    /// Chooses a token for each running sequence from its hidden state in each lane.
    fn sample(&mut self, hidden: &[Tensor]) -> Result<()> {
        let n = self.running.len();
        for start in (0..n).step_by(LOGIT_ROWS) {
            let rows = start..n.min(start + LOGIT_ROWS);
            let mut logits = Vec::with_capacity(hidden.len());
            for (lane, hidden) in self.lanes.iter().zip(hidden) {
                let hidden = hidden.narrow(0, rows.start, rows.len())?.contiguous()?;
                logits.push(lane.decoder.logits(&hidden)?);
            }
            match (logits.as_slice(), self.engine.guide) {
                ([own, guide], Some(Guide { share, .. })) => {
                    self.choose_mixed(rows, own, guide, share)?;
                }
                ([own, ..], _) => self.choose(rows, own)?,
                ([], _) => {}
            }
        }
        Ok(())
    }

    /// Tokens for the running sequences `rows` from the model's logits.
    fn choose(&mut self, rows: Range<usize>, logits: &Tensor) -> Result<()> {
        let sampling = self.sampling;
        let choices = self.choices(rows.clone(), logits)?;
        let mut ids = Vec::with_capacity(rows.len());
        for (choice, sequence) in choices.iter().zip(&self.running[rows.clone()]) {
            ids.push(choice.ok_or_else(|| self.not_finite(sequence))?.id);
        }
        let ids_tensor = Tensor::from_slice(&ids, rows.len(), logits.device())?;
        let logprobs = token_logprobs(logits, &ids_tensor, sampling.temperature())?.logprobs;
        let logprobs = logprobs.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        for (i, choice) in choices.into_iter().flatten().enumerate() {
            let generation = &mut self.generations[self.running[rows.start + i].request];
            generation.tokens.push(choice.id);
            generation.logprobs.push(logprobs[i]);
            if let Some(truncated) = &mut generation.truncated_logprobs {
                truncated.push(choice.log_drawn as f32);
            }
        }
        Ok(())
    }

    /// Choices for the running sequences `rows`; `None` where the logits are no distribution.
    fn choices(&mut self, rows: Range<usize>, logits: &Tensor) -> Result<Vec<Option<Choice>>> {
        let (sampling, requests, generations) = (self.sampling, self.requests, &self.generations);
        // Nobody asks how likely these were to be drawn.
        let only = |ids: Vec<Option<u32>>| {
            ids.into_iter().map(|id| id.map(|id| Choice { id, log_drawn: 0.0 })).collect()
        };
        if sampling.takes_the_likeliest() {
            return Ok(only(likeliest_rows(logits)?));
        }
        let running = &mut self.running[rows];
        if sampling.draws_from_all() {
            let uniforms: Vec<f64> =
                running.iter_mut().map(|sequence| uniform(&mut sequence.rng)).collect();
            return Ok(only(draw_rows(logits, sampling.temperature(), &uniforms)?));
        }
        let (vocab, mut values) = host(logits)?;
        let choices = running.par_iter_mut().zip(values.par_chunks_mut(vocab));
        let choices = choices.map(|(sequence, logits)| {
            let prompt = &requests[sequence.request].prompt;
            let seen = prompt.iter().chain(&generations[sequence.request].tokens);
            sampling.penalise(logits, seen);
            sampling.strategy.choose(logits, &mut sequence.rng)
        });
        Ok(choices.collect())
    }

    /// Tokens for the running sequences `rows` from a mixture of both lanes.
    fn choose_mixed(
        &mut self,
        rows: Range<usize>,
        own: &Tensor,
        guide: &Tensor,
        share: f64,
    ) -> Result<()> {
        let temperature = self.sampling.temperature();
        let ((own_vocab, own), (guide_vocab, guide)) = (host(own)?, host(guide)?);
        let drawn: Vec<Option<mixture::Drawn>> = self.running[rows.clone()]
            .par_iter_mut()
            .zip(own.par_chunks(own_vocab).zip(guide.par_chunks(guide_vocab)))
            .map(|(sequence, (own, guide))| {
                mixture::choose(own, guide, share, temperature, &mut sequence.rng)
            })
            .collect();
        for (drawn, at) in drawn.into_iter().zip(rows) {
            let sequence = &self.running[at];
            let drawn = drawn.ok_or_else(|| self.not_finite(sequence))?;
            let generation = &mut self.generations[sequence.request];
            generation.tokens.push(drawn.id);
            generation.logprobs.push(drawn.logprob as f32);
        }
        Ok(())
    }

    fn not_finite(&self, sequence: &Sequence) -> Error {
        let index = sequence.request;
        Error::NotFinite { index, token: self.generations[index].tokens.len() }
    }

    /// Ends sequences that sampled an end token, completed a stop string or reached their limit.
    fn retire(&mut self) -> Result<()> {
        for sequence in std::mem::take(&mut self.running) {
            match self.finish(sequence.request)? {
                None => self.running.push(sequence),
                Some(finish) => {
                    self.generations[sequence.request].finish = finish;
                    self.schedule.release(sequence.request, sequence.slot);
                }
            }
        }
        let schedule = &self.schedule;
        for lane in &mut self.lanes {
            lane.prompt_hidden.retain(|(prompt, _)| schedule.is_resident(prompt));
        }
        Ok(())
    }

    /// Why a request's sequence ends with its newest token, if it does.
    fn finish(&self, request: usize) -> Result<Option<Finish>> {
        let (sampling, response) = (self.sampling, &self.generations[request].tokens);
        if response.last().is_some_and(|id| sampling.eos_token_ids.contains(id)) {
            return Ok(Some(Finish::Eos));
        }
        if let Some(stop) = &sampling.stop
            && stop.completed(response)?
        {
            return Ok(Some(Finish::Stop));
        }
        let length = self.requests[request].prompt.len() + response.len();
        let full = response.len() >= sampling.max_new_tokens || length >= self.engine.context();
        Ok(full.then_some(Finish::Length))
    }
}

impl Lane<'_> {
    /// Hidden states behind the prompts of what was admitted.
    fn behind_prompts(&self, requests: &[Request], admitted: &[Admission]) -> Result<Tensor> {
        let rows = admitted.iter().map(|admission| {
            let prompt = requests[admission.request].prompt.as_slice();
            self.prompt_hidden.iter().position(|(resident, _)| *resident == prompt).unwrap_or(0)
                as u32
        });
        let rows: Vec<u32> = rows.collect();
        let states: Vec<&Tensor> = self.prompt_hidden.iter().map(|(_, hidden)| hidden).collect();
        let states = Tensor::cat(&states, 0)?;
        let n = rows.len();
        let rows = Tensor::from_vec(rows, n, states.device())?;
        Ok(embedding(&states, &rows)?)
    }
}

/// Prompts, by request and length, cut into portions of at most so many tokens: of each, which tokens.
fn portions(prompts: &[(usize, usize)], at_once: usize) -> Vec<Vec<(usize, Range<usize>)>> {
    let (mut portions, mut room) = (Vec::new(), 0);
    for &(request, length) in prompts {
        let mut start = 0;
        while start < length {
            if room == 0 {
                portions.push(Vec::new());
                room = at_once.max(1);
            }
            let end = length.min(start + room);
            if let Some(portion) = portions.last_mut() {
                portion.push((request, start..end));
            }
            room -= end - start;
            start = end;
        }
    }
    portions
}

/// Width and values of logits.
fn host(logits: &Tensor) -> Result<(usize, Vec<f32>)> {
    let vocab = logits.dims()[1];
    Ok((vocab, logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?))
}

#[cfg(test)]
mod tests {
    use super::portions;

    #[test]
    fn portions_cover_every_token_once_and_in_order() {
        assert!(portions(&[], 4).is_empty());
        let cut = portions(&[(7, 3), (2, 6), (5, 1)], 4);
        assert_eq!(cut, [vec![(7, 0..3), (2, 0..1)], vec![(2, 1..5)], vec![(2, 5..6), (5, 0..1)]]);
        assert_eq!(portions(&[(0, 4), (1, 4)], 4), [[(0, 0..4)], [(1, 0..4)]]);
    }
}
