use opd_kernels::{RowLogprobs, RowQuery};

use super::{layout::Layout, next};
use crate::{Item, NextToken, Position, Scored};

/// What the rows of a layout are asked, by row.
#[derive(Debug)]
pub(crate) struct Queries(Vec<Query>);

/// One question to one row, which may be that of several items.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) row: usize,
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
                    row: member.row(target - 1),
                    temperature: item.temperature.into(),
                    ids,
                    top: item.top,
                    rank: item.rank,
                    askers: vec![(member.item, Some(j))],
                });
            }
            if item.next != NextToken::Ignored {
                all.push(Query {
                    row: member.row(item.tokens.len() - 1),
                    temperature: item.temperature.into(),
                    ids: item.named_next().to_vec(),
                    top: next::candidates(item, vocab),
                    rank: false,
                    askers: vec![(member.item, None)],
                });
            }
        }
        all.sort_by_key(|query| query.row);
        let mut merged: Vec<Query> = Vec::with_capacity(all.len());
        let mut first_of_row = 0;
        for query in all {
            if merged.last().is_some_and(|last| last.row != query.row) {
                first_of_row = merged.len();
            }
            match merged[first_of_row..].iter_mut().find(|other| other.asks_the_same(&query)) {
                Some(other) => other.askers.extend(query.askers),
                None => merged.push(query),
            }
        }
        Self(merged)
    }

    /// The queries to rows before `end` that were not taken yet.
    pub(crate) fn take(&mut self, end: usize) -> Vec<Query> {
        let n = self.0.partition_point(|query| query.row < end);
        self.0.drain(..n).collect()
    }
}

impl Query {
    fn asks_the_same(&self, other: &Self) -> bool {
        (self.row, self.top, self.rank) == (other.row, other.top, other.rank)
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
