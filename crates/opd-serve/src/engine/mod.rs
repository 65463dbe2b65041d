//! From items to scores: who shares what, which rows are computed when and on which thread, and
//! what they predict.

mod families;
mod kept;
mod layout;
mod next;
mod queries;

use candle_core::Tensor;
use opd_kernels::{RowLogprobs, Spans, embedding, linear_row_logprobs};
use opd_models::{CausalLm, Decoder, KvCache};
use rayon::prelude::*;

pub(crate) use self::kept::Kept;
use self::{
    families::{Family, families},
    layout::{Budget, Layout, layouts},
    queries::{Queries, Query},
};
use crate::{Error, Item, Options, Result, Scored};

/// Fewest tokens for which a thread computes rounds of its own: with less, all threads share the
/// work of each kernel.
const PART_TOKENS: usize = 512;

/// Tokens of one round, so that what a layer writes is still in the processor's cache when it is
/// read; larger families are not cut for it.
const ROUND_TOKENS: usize = 1024;

/// Scores items in forwards of a token budget.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    model: &'a CausalLm,
    /// One for each thread that computes rounds of its own.
    caches: Vec<KvCache>,
    budget: usize,
    share: bool,
    kept: &'a Kept,
}

/// A row's question and its answer.
type Answered = (Query, RowLogprobs);

impl<'a> Engine<'a> {
    pub(crate) fn new(model: &'a CausalLm, options: &Options, kept: &'a Kept) -> Result<Self> {
        let budget = options.max_batch_tokens.max(1);
        let caches = vec![cache(model, budget)?];
        Ok(Self { model, caches, budget, share: options.share_prefixes, kept })
    }

    /// Scores of `items`, in order, and the number of tokens that were computed.
    ///
    /// Scores do not depend on what is scored together, on the budget, on threads, on sharing or
    /// on what is kept.
    pub(crate) fn score(&mut self, items: &[&Item]) -> Result<(Vec<Scored>, usize)> {
        let mut scored: Vec<Scored> = items.iter().map(|_| Scored::default()).collect();
        for (item, scored) in items.iter().zip(&mut scored) {
            scored.positions = vec![Default::default(); item.n_scored()];
        }
        let fed: Vec<&[u32]> = items.iter().map(|item| item.fed()).collect();
        let mut families = families(&fed, self.share);
        if self.share {
            let starts: Vec<usize> = items.iter().map(|item| item.first_asked()).collect();
            for family in &mut families {
                family.recall(&fed, &starts, self.kept);
            }
        }
        let n = self.parts(&fed, &families);
        let most = (self.budget / n).max(1);
        let round = if self.model.device().is_cpu() { ROUND_TOKENS } else { most };
        let budget = Budget { families: round.min(most), most };
        let layouts = layouts(&fed, &families, budget);
        let computed = layouts.iter().map(|layout| layout.tokens.len()).sum();
        for member in layouts.iter().flat_map(|layout| &layout.members) {
            scored[member.item].shared = member.shared;
        }
        let parts = parts(&layouts, n);
        while self.caches.len() < parts.len() {
            self.caches.push(cache(self.model, most)?);
        }
        let (model, kept, caches) = (self.model, self.kept, self.caches.par_iter_mut());
        let score = |(part, cache): (&&[Layout<'_>], &mut KvCache)| -> Result<Vec<Answered>> {
            let mut answered = Vec::new();
            for layout in *part {
                forward(model, cache, layout, items, most, &mut answered)?;
                keep(kept, cache, layout, items)?;
            }
            Ok(answered)
        };
        let answered: Result<Vec<_>> =
            parts.par_iter().zip(caches).with_max_len(1).map(score).collect();
        for (query, answer) in answered?.iter().flatten() {
            query.hand_out(answer, items, &mut scored);
        }
        check(&scored, items)?;
        Ok((scored, computed))
    }

    /// Threads that compute rounds of their own: as many as have enough to do, and as leave room
    /// in the budget for the largest family whole.
    fn parts(&self, fed: &[&[u32]], families: &[Family]) -> usize {
        if !self.model.device().is_cpu() {
            return 1;
        }
        let largest = families.iter().map(|family| family.tokens(fed)).max().unwrap_or(0);
        let largest = largest.clamp(PART_TOKENS, self.budget.max(PART_TOKENS));
        let total: usize = families.iter().map(|family| family.to_compute(fed)).sum();
        let threads = rayon::current_num_threads();
        threads.min(total / PART_TOKENS).min(self.budget / largest).max(1)
    }
}

/// At most `n` runs of rounds of about as many tokens each.
fn parts<'l, 'a>(layouts: &'l [Layout<'a>], n: usize) -> Vec<&'l [Layout<'a>]> {
    let total: usize = layouts.iter().map(|layout| layout.tokens.len()).sum();
    let (mut parts, mut rest, mut taken) = (Vec::with_capacity(n), layouts, 0);
    while !rest.is_empty() {
        let target = total * (parts.len() + 1) / n;
        let mut end = 0;
        while end < rest.len() && (end == 0 || taken < target) {
            taken += rest[end].tokens.len();
            end += 1;
        }
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

/// Computes a round, at most `most` tokens at a time.
fn forward(
    model: &CausalLm,
    cache: &mut KvCache,
    layout: &Layout<'_>,
    items: &[&Item],
    most: usize,
    answered: &mut Vec<Answered>,
) -> Result<()> {
    let n = layout.tokens.len();
    if cache.n_rows() < layout.n_rows {
        *cache = self::cache(model, layout.n_rows)?;
    }
    for (first, recalled) in &layout.recalled {
        cache.restore(&recalled.rows, recalled.n, *first)?;
    }
    let decoder = Decoder::new(model);
    let mut queries = Queries::of(layout, items, model.config().vocab_size);
    for start in (0..n).step_by(most) {
        let range = start..(start + most).min(n);
        let rows = &layout.rows[range.clone()];
        let spans = Spans::new(layout.spans(&range), rows.len(), cache.n_rows())?;
        let (tokens, positions) = (&layout.tokens[range.clone()], &layout.positions[range.clone()]);
        let hidden = decoder.hidden(tokens, positions, rows, &spans, cache)?;
        let asked = queries.take(range.end);
        if asked.is_empty() {
            continue;
        }
        let predictors: Vec<u32> = asked.iter().map(|query| (query.place - start) as u32).collect();
        let n = predictors.len();
        let predictors = Tensor::from_vec(predictors, n, model.device())?;
        let hidden = embedding(&hidden, &predictors)?;
        let rows: Vec<_> = asked.iter().map(Query::kernel).collect();
        let answers = linear_row_logprobs(&hidden, model.head(), &rows)?;
        drop(rows);
        answered.extend(asked.into_iter().zip(answers));
    }
    Ok(())
}

/// Keeps the beginnings that no item has a question to, for those who ask later.
fn keep(kept: &Kept, cache: &KvCache, layout: &Layout<'_>, items: &[&Item]) -> Result<()> {
    for member in &layout.members {
        let (item, rows) = (items[member.item], member.prefix_rows());
        let n = rows.len().min(item.first_asked());
        kept.keep(&item.tokens[..n], || Ok(cache.copy_rows(rows.start..rows.start + n)?))?;
    }
    Ok(())
}

fn cache(model: &CausalLm, rows: usize) -> Result<KvCache> {
    Ok(KvCache::new(model.config(), rows, model.dtype(), model.device())?)
}

/// JSON has no word for a number that is not finite.
fn check(scored: &[Scored], items: &[&Item]) -> Result<()> {
    let finite = |position: &crate::Position| {
        position.logprob.is_finite()
            && position.named.iter().all(|x| x.is_finite())
            && position.top.iter().all(|(_, x)| x.is_finite())
    };
    for (scored, item) in scored.iter().zip(items) {
        if let Some(j) = scored.positions.iter().position(|position| !finite(position)) {
            return Err(Error::NotFinite { token: item.start + 1 + j });
        }
        if scored.next.as_ref().is_some_and(|(_, position)| !finite(position)) {
            return Err(Error::NotFinite { token: item.tokens.len() });
        }
    }
    Ok(())
}
