//! From items to scores: who shares what, which rows are computed when, and what they predict.

mod families;
mod layout;
mod next;
mod queries;

use candle_core::Tensor;
use opd_kernels::{Spans, embedding, linear_row_logprobs};
use opd_models::{CausalLm, KvCache};

use self::{
    families::families,
    layout::{Layout, layouts},
    queries::Queries,
};
use crate::{Error, Item, Result, Scored};

/// Scores items in forwards of a token budget.
#[derive(Debug)]
pub(crate) struct Engine<'a> {
    model: &'a CausalLm,
    cache: KvCache,
    budget: usize,
    share: bool,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(model: &'a CausalLm, budget: usize, share: bool) -> Result<Self> {
        let budget = budget.max(1);
        let cache = cache(model, budget)?;
        Ok(Self { model, cache, budget, share })
    }

    /// Scores of `items`, in order, and the number of tokens that were computed.
    ///
    /// Scores do not depend on what is scored together, on the budget or on sharing.
    pub(crate) fn score(&mut self, items: &[&Item]) -> Result<(Vec<Scored>, usize)> {
        let mut scored: Vec<Scored> = items.iter().map(|_| Scored::default()).collect();
        for (item, scored) in items.iter().zip(&mut scored) {
            scored.positions = vec![Default::default(); item.n_scored()];
        }
        let fed: Vec<&[u32]> = items.iter().map(|item| item.fed()).collect();
        let mut computed = 0;
        for layout in layouts(&fed, families(&fed, self.share), self.budget) {
            computed += layout.tokens.len();
            for member in &layout.members {
                scored[member.item].shared = member.shared;
            }
            self.forward(&layout, items, &mut scored)?;
        }
        check(&scored, items)?;
        Ok((scored, computed))
    }

    fn forward(
        &mut self,
        layout: &Layout<'_>,
        items: &[&Item],
        scored: &mut [Scored],
    ) -> Result<()> {
        let n = layout.tokens.len();
        if self.cache.n_rows() < n {
            self.cache = cache(self.model, n)?;
        }
        let queries = Queries::of(layout, items, self.model.config().vocab_size);
        for start in (0..n).step_by(self.budget) {
            let rows: Vec<usize> = (start..(start + self.budget).min(n)).collect();
            let range = start..start + rows.len();
            let spans = Spans::new(layout.spans(&range), rows.len(), self.cache.n_rows())?;
            let (tokens, positions) =
                (&layout.tokens[range.clone()], &layout.positions[range.clone()]);
            let hidden = self.model.hidden_cached(tokens, positions, &rows, &spans, &self.cache)?;
            let asked = queries.within(&range);
            if asked.is_empty() {
                continue;
            }
            let predictors: Vec<u32> =
                asked.iter().map(|query| (query.row - start) as u32).collect();
            let n = predictors.len();
            let predictors = Tensor::from_vec(predictors, n, self.model.device())?;
            let hidden = embedding(&hidden, &predictors)?;
            let rows: Vec<_> = asked.iter().map(|query| query.kernel()).collect();
            let answers = linear_row_logprobs(&hidden, self.model.head(), &rows)?;
            for (query, answer) in asked.iter().zip(&answers) {
                query.hand_out(answer, items, scored);
            }
        }
        Ok(())
    }
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
