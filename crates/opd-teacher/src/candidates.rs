use candle_core::Tensor;
use opd_batch::{ScoreRequest, ScoredSequence, TopLogprobs, Wanted};
use opd_kernels::{Head, RowQuery, linear_row_logprobs};

use crate::{Error, Result};

/// Ids whose log-probs are wanted beside those of the response tokens, gathered chunk by chunk.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    top: usize,
    named: Option<&'a [u32]>,
    gathered: TopLogprobs,
}

impl<'a> Candidates<'a> {
    /// What `request` wants, checked; `None` if it wants nothing more than the sampled tokens.
    pub(crate) fn of(request: &ScoreRequest<'a>, vocab: usize) -> Result<Option<Self>> {
        let gathered = |k| TopLogprobs { k, ids: Vec::new(), logprobs: Vec::new() };
        match request.wanted {
            Wanted::Sampled => Ok(None),
            Wanted::TopK(k) if k > vocab => Err(Error::TopK { k, vocab }),
            Wanted::TopK(k) => Ok(Some(Self { top: k, named: None, gathered: gathered(k) })),
            Wanted::Ids { k, ids } => {
                check_named(request, k, ids, vocab)?;
                Ok(Some(Self { top: 0, named: Some(ids), gathered: gathered(k) }))
            }
            wanted => Err(Error::Batch(opd_batch::Error::Unsupported {
                teacher: "in-process".into(),
                wanted: wanted.to_string(),
                remedy: "ask for sampled tokens, the likeliest ids or named ids".into(),
            })),
        }
    }

    /// Scores the positions that `hidden` predicts: the response tokens of `sequences`, whose
    /// own log-probs are added to `sampled`.
    pub(crate) fn score(
        &mut self,
        hidden: &Tensor,
        head: Head<'_>,
        sequences: &[ScoredSequence<'_>],
        temperature: f64,
        sampled: &mut Vec<f32>,
    ) -> Result<()> {
        let k = self.gathered.k;
        let first = sampled.len();
        let targets: Vec<u32> =
            sequences.iter().flat_map(|sequence| sequence.response).copied().collect();
        // Each position's own token, then the named ids.
        let ids: Vec<Vec<u32>> = targets
            .iter()
            .enumerate()
            .map(|(t, &target)| {
                let named =
                    self.named.map_or(&[][..], |ids| &ids[(first + t) * k..(first + t + 1) * k]);
                std::iter::once(target).chain(named.iter().copied()).collect()
            })
            .collect();
        let query = |ids| RowQuery { temperature, ids, top: self.top, rank: false };
        let queries: Vec<RowQuery<'_>> = ids.iter().map(|ids| query(ids)).collect();
        let answers = linear_row_logprobs(hidden, head, &queries)?;
        for (answer, ids) in answers.iter().zip(&ids) {
            sampled.push(answer.logprobs[0]);
            match self.named {
                Some(_) => {
                    self.gathered.ids.extend(&ids[1..]);
                    self.gathered.logprobs.extend(&answer.logprobs[1..]);
                }
                None => {
                    self.gathered.ids.extend(answer.top.iter().map(|(id, _)| id));
                    self.gathered.logprobs.extend(answer.top.iter().map(|(_, logprob)| logprob));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> TopLogprobs {
        self.gathered
    }
}

fn check_named(request: &ScoreRequest<'_>, k: usize, ids: &[u32], vocab: usize) -> Result<()> {
    let rows = request.rows();
    let tokens = rows.n_tokens();
    let expected = tokens.saturating_mul(k);
    if ids.len() != expected {
        return Err(Error::NamedIds { k, tokens, expected, got: ids.len() });
    }
    let Some(at) = ids.iter().position(|&id| id as usize >= vocab) else { return Ok(()) };
    let (position, place) = (at / k, at % k);
    let ranges = rows.ranges().enumerate();
    let holding = ranges.filter(|(_, range)| range.contains(&position)).map(|(row, range)| {
        Error::NamedId { sequence: row, token: position - range.start, place, id: ids[at], vocab }
    });
    holding.last().map_or(Ok(()), Err)
}
