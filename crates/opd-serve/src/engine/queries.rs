use opd_kernels::{RowLogprobs, RowQuery};

use super::{layout::Layout, next};
use crate::{Item, NextToken, Position, Scored};

/// What the tokens of a layout are asked, in their order.
#[derive(Debug)]
pub(crate) struct Queries(Vec<Query>);

/// One question to the row of one token, which may be that of several items.
#[derive(Debug)]
pub(crate) struct Query {
    /// Place of the token among those to compute.
    pub(crate) place: usize,
    temperature: f64,
    ids: Vec<u32>,
    top: usize,
    rank: bool,
    /// Item, and which of its scored tokens; `None` for the position behind its last one.
    askers: Vec<(usize, Option<usize>)>,
}

impl Queries {
    pub(crate) fn of(layout: &Layout<'_>, items: &[&Item], vocab: usize) -> Self {
        let mut all = Vec::new();
        for member in &layout.members {
            let item = items[member.item];
            for j in 0..item.n_scored() {
                let target = item.start + 1 + j;
                let mut ids = vec![item.tokens[target]];
                ids.extend_from_slice(item.named_at(j));
                all.push(Query {
                    place: member.place(target - 1),
                    temperature: item.temperature.into(),
                    ids,
                    top: item.top,
                    rank: item.rank,
                    askers: vec![(member.item, Some(j))],
                });
            }
            if item.next != NextToken::Ignored {
                all.push(Query {
                    place: member.place(item.tokens.len() - 1),
                    temperature: item.temperature.into(),
                    ids: item.named_next().to_vec(),
                    top: next::candidates(item, vocab),
                    rank: false,
                    askers: vec![(member.item, None)],
                });
            }
        }
        all.sort_by_key(|query| query.place);
        let mut merged: Vec<Query> = Vec::with_capacity(all.len());
        let mut first_there = 0;
        for query in all {
            if merged.last().is_some_and(|last| last.place != query.place) {
                first_there = merged.len();
            }
            match merged[first_there..].iter_mut().find(|other| other.asks_the_same(&query)) {
                Some(other) => other.askers.extend(query.askers),
                None => merged.push(query),
            }
        }
        Self(merged)
    }

    /// The queries to tokens before `end` that were not taken yet.
    pub(crate) fn take(&mut self, end: usize) -> Vec<Query> {
        let n = self.0.partition_point(|query| query.place < end);
        self.0.drain(..n).collect()
    }
}

impl Query {
    fn asks_the_same(&self, other: &Self) -> bool {
        (self.place, self.top, self.rank) == (other.place, other.top, other.rank)
            && self.temperature.to_bits() == other.temperature.to_bits()
            && self.ids == other.ids
    }

    pub(crate) fn kernel(&self) -> RowQuery<'_> {
        let Self { temperature, ids, top, rank, .. } = self;
        RowQuery { temperature: *temperature, ids, top: *top, rank: *rank }
    }

    /// Gives the row's answer to all who asked.
    pub(crate) fn hand_out(&self, answer: &RowLogprobs, items: &[&Item], scored: &mut [Scored]) {
        for &(item, j) in &self.askers {
            match j {
                Some(j) => {
                    scored[item].positions[j] = Position {
                        logprob: answer.logprobs[0],
                        rank: answer.rank,
                        named: answer.logprobs[1..].to_vec(),
                        top: answer.top.clone(),
                    };
                }
                None => scored[item].next = Some(next::choose(items[item], answer)),
            }
        }
    }
}
