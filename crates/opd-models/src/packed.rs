use std::collections::HashMap;

use candle_core::{Device, Tensor};
use opd_batch::{Rows, ScoredSequence};
use opd_kernels::{Span, Spans};

use crate::{Error, ModelConfig, Result};

/// Sequences packed for one forward: no padding, and a prompt that several responses share
/// is computed once.
///
/// Each response token is predicted by one packed row: the first by its prompt's last row,
/// the others by the response token before them. The last response token is never fed in.
#[derive(Clone, Debug)]
pub struct Packed {
    pub(crate) tokens: Tensor,
    pub(crate) positions: Tensor,
    pub(crate) spans: Spans,
    pub(crate) predictors: Tensor,
    pub(crate) n_positions: usize,
    targets: Tensor,
    rows: Rows,
}

impl Packed {
    /// Packs sequences for a model of this config.
    ///
    /// # Errors
    ///
    /// [`Error::EmptySequence`], [`Error::TooLong`] or [`Error::TokenId`], naming the sequence.
    pub fn new(
        sequences: &[ScoredSequence<'_>],
        config: &ModelConfig,
        device: &Device,
    ) -> Result<Self> {
        let mut builder = Builder::default();
        let mut families: Vec<(&[u32], Vec<usize>)> = Vec::new();
        let mut family_of: HashMap<&[u32], usize> = HashMap::new();
        config.check_sequences(sequences)?;
        for (index, sequence) in sequences.iter().enumerate() {
            let family = *family_of.entry(sequence.prompt).or_insert(families.len());
            if family == families.len() {
                families.push((sequence.prompt, Vec::new()));
            }
            families[family].1.push(index);
        }
        let mut predictors: Vec<Vec<u32>> = vec![Vec::new(); sequences.len()];
        for (prompt, members) in families {
            let prompt_rows = builder.push(prompt, 0, 0..0);
            for index in members {
                let Some((_, fed)) = sequences[index].response.split_last() else { continue };
                let rows = builder.push(fed, prompt.len(), prompt_rows.clone());
                let first = prompt_rows.end as u32 - 1;
                predictors[index] = std::iter::once(first).chain(rows.map(|r| r as u32)).collect();
            }
        }
        let n_rows = builder.tokens.len();
        let targets: Vec<u32> =
            sequences.iter().flat_map(|sequence| sequence.response.iter().copied()).collect();
        let rows = Rows::from_lengths(sequences.iter().map(|sequence| sequence.response.len()));
        let vector = |values: Vec<u32>| {
            let n = values.len();
            Tensor::from_vec(values, n, device)
        };
        Ok(Self {
            n_positions: builder.positions.iter().max().map_or(0, |&last| last as usize + 1),
            tokens: vector(builder.tokens)?,
            positions: vector(builder.positions)?,
            spans: Spans::new(builder.spans, n_rows, n_rows)?,
            predictors: vector(predictors.concat())?,
            targets: vector(targets)?,
            rows,
        })
    }

    /// Response tokens, `[T]` (u32), in the order of the sequences.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }

    /// Row boundaries of the responses.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Tokens that the forward computes: less than the sequences hold where prompts are shared.
    pub fn n_computed(&self) -> usize {
        self.spans.n_queries()
    }
}

#[derive(Default)]
struct Builder {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Span>,
}

impl Builder {
    fn push(
        &mut self,
        tokens: &[u32],
        first_position: usize,
        prefix: std::ops::Range<usize>,
    ) -> std::ops::Range<usize> {
        let start = self.tokens.len();
        let rows = start..start + tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((0..tokens.len()).map(|i| (first_position + i) as u32));
        if !tokens.is_empty() {
            self.spans.push(Span { queries: rows.clone(), prefix, keys: rows.clone() });
        }
        rows
    }
}

impl ModelConfig {
    /// Passes if a model of this config can take each of these sequences.
    ///
    /// # Errors
    ///
    /// As [`Packed::new`].
    pub fn check_sequences(&self, sequences: &[ScoredSequence<'_>]) -> Result<()> {
        sequences.iter().enumerate().try_for_each(|(index, sequence)| check(index, sequence, self))
    }
}

fn check(index: usize, sequence: &ScoredSequence<'_>, config: &ModelConfig) -> Result<()> {
    if sequence.prompt.is_empty() {
        return Err(Error::EmptySequence { what: "prompt", index });
    }
    let length = sequence.prompt.len() + sequence.response.len();
    if length > config.context {
        return Err(Error::TooLong { index, length, context: config.context });
    }
    let vocab = config.vocab_size;
    let mut tokens = sequence.prompt.iter().chain(sequence.response);
    match tokens.position(|&id| id as usize >= vocab) {
        None => Ok(()),
        Some(position) => {
            let (prompt, response) = (sequence.prompt, sequence.response);
            let id = *prompt.get(position).unwrap_or_else(|| &response[position - prompt.len()]);
            Err(Error::TokenId { index, position, id, vocab })
        }
    }
}
