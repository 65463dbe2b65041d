use std::ops::Range;

use opd_kernels::Products;
use opd_models::{CausalLm, Decoder};
use rayon::prelude::*;

use crate::{Error, Generation, Request, Result, RolloutEngine, Sampling, run::Run};

/// Fewest sequences side by side for which a thread runs sequences of its own: with less, it
/// would read all weights for few rows, and all threads share the work of each kernel instead.
const PART_SEQUENCES: usize = 64;

/// Samples with the model in this process: batched, with cached keys and values, finished
/// slots refilled at once, and each distinct prompt computed once.
#[derive(Clone, Copy, Debug)]
pub struct InProcess<'a> {
    pub(crate) model: &'a CausalLm,
    pub(crate) max_sequences: usize,
    pub(crate) guide: Option<Guide<'a>>,
    held: Option<&'a Decoder<'a>>,
    packs: bool,
}

/// Fewest new tokens for which [`InProcess`] copies the weights of a model with these products: with
/// less the copy costs more than it saves. Without a copy, products of bf16 round all weights for
/// every token.
pub fn packed_tokens(products: Products) -> usize {
    match products {
        Products::Full => 32,
        Products::Bf16 => 8,
    }
}

/// A model that has a share in every token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guide<'a> {
    pub(crate) model: &'a CausalLm,
    pub(crate) share: f64,
}

impl<'a> InProcess<'a> {
    /// An engine that runs at most `max_sequences` (at least 1) side by side.
    pub fn new(model: &'a CausalLm, max_sequences: usize) -> Self {
        Self { model, max_sequences: max_sequences.max(1), guide: None, held: None, packs: true }
    }

    /// As [`Self::new`], but reads the model through a decoder that the caller made, call after call:
    /// what is copied there is copied once. It must be as new as the weights.
    pub fn through(decoder: &'a Decoder<'a>, max_sequences: usize) -> Self {
        Self { held: Some(decoder), ..Self::new(decoder.model(), max_sequences) }
    }

    /// Whether to copy the weights into the form in which few rows read them fastest, as
    /// [`Decoder::packed`] does where it pays, for as long as one call takes: faster for models that
    /// do not fit into the processor's caches, at the price of that memory. What is sampled is the
    /// same, bit for bit. True unless said otherwise.
    #[must_use]
    pub fn packing_weights(self, packs: bool) -> Self {
        Self { packs, ..self }
    }

    /// The model and its guide, as one call reads them.
    fn decoders(&self, sampling: &Sampling) -> Result<Vec<Decoder<'a>>> {
        let decoder = |model: &'a CausalLm| match self.packs
            && sampling.max_new_tokens >= packed_tokens(model.products())
        {
            true => Ok(Decoder::packed(model)?),
            false => Ok(Decoder::new(model)),
        };
        let own = self.held.map_or_else(|| decoder(self.model), |held| Ok(held.clone()));
        let guides = self.guide.map(|guide| decoder(guide.model));
        std::iter::once(own).chain(guides).collect()
    }

    /// Draws every token from a mixture with another model of the same tokenizer, at the
    /// sampling temperature on both sides:
    ///
    /// ```text
    /// y_t ~ share * guide(.|h_t) + (1 - share) * model(.|h_t)
    /// ```
    ///
    /// `share` is in 0..=1. [`Generation::logprobs`] are then those of the mixture, so that
    /// `exp(model's log-prob - logprob)` is a token's importance weight, of at most
    /// `1 / (1 - share)`.
    ///
    /// Source: Gu et al. 2023 (MiniLLM), <https://arxiv.org/abs/2306.08543>, section 2.2,
    /// teacher-mixed sampling.
    #[must_use]
    pub fn guided_by(self, guide: &'a CausalLm, share: f64) -> Self {
        Self { guide: Some(Guide { model: guide, share }), ..self }
    }

    /// The shortest context of the models.
    pub(crate) fn context(&self) -> usize {
        let own = self.model.config().context;
        self.guide.map_or(own, |guide| own.min(guide.model.config().context))
    }

    fn check_guide(&self, sampling: &Sampling) -> Result<()> {
        let Some(Guide { model, share }) = self.guide else { return Ok(()) };
        let bad = |what, expected, got: String| Err(Error::Setting { what, expected, got });
        if !(0.0..=1.0).contains(&share) {
            return bad("the guide's share", "from 0 to 1", share.to_string());
        }
        let (own, its) = (self.model.config().vocab_size, model.config().vocab_size);
        if its < own {
            let got = format!("{its} for a model of {own}");
            return bad("the guide's vocabulary", "at least that of the model", got);
        }
        if sampling.draws_from_all() {
            return Ok(());
        }
        let (strategy, penalty) = (sampling.strategy, sampling.repetition_penalty);
        let got = format!("{strategy:?} with repetition_penalty {penalty}");
        bad("the strategy of a guided engine", "a draw from the full softmax", got)
    }

    fn check(&self, requests: &[Request], sampling: &Sampling) -> Result<()> {
        sampling.validate()?;
        self.check_guide(sampling)?;
        let (config, context) = (self.model.config(), self.context());
        for (index, request) in requests.iter().enumerate() {
            let length = request.prompt.len();
            if length == 0 {
                return Err(Error::EmptyPrompt { index });
            }
            if length >= context {
                return Err(Error::PromptTooLong { index, length, context });
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
        let decoders = self.decoders(sampling)?;
        let run = |part: &Range<usize>| {
            let mut run = Run::new(&engine, &decoders, &requests[part.clone()], sampling)?;
            while run.step().map_err(|error| error.shifted(part.start))? {}
            Ok(run.into_generations())
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
