use candle_core::{DType, Tensor};

use crate::{
    Error, Result, Softmax,
    cpu::{check_ids, token_rows::STATISTICS},
    gpu::{self, Gpu},
};

/// What is asked of each row of logits beside the log-prob of its token and the log-sum-exp.
///
/// ```
/// use opd_kernels::{Softmax, TokenOptions};
///
/// let softmax = Softmax { temperature: 0.7, soft_cap: Some(30.0) };
/// let options = TokenOptions { softmax, entropy: true, top_k: 8, ..TokenOptions::default() };
/// assert!(options.named.is_none());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenOptions<'a> {
    /// How logits become probabilities.
    pub softmax: Softmax,
    /// Whether the entropy is wanted.
    pub entropy: bool,
    /// Whether the likeliest id is wanted.
    pub argmax: bool,
    /// How many of the likeliest ids are wanted, with their log-probs; at most the vocabulary, on a
    /// GPU 1,024 together with those that are named.
    pub top_k: usize,
    /// `[T, n]` (u32): ids of each row whose log-probs are wanted; may repeat.
    pub named: Option<&'a Tensor>,
}

/// What a model says of each token that was there, and what else was asked; nats.
///
/// In f32, or f64 for f64; ids are u32. All but ids are differentiable.
#[derive(Clone, Debug)]
pub struct TokenScores {
    /// `[T]`: `log softmax` at the token's id.
    pub logprobs: Tensor,
    /// `[T]`: log of the sum of the exponentials of capped logits over the temperature.
    pub lse: Tensor,
    /// `[T]`: `-sum_v p_v log p_v`.
    pub entropy: Option<Tensor>,
    /// `[T]`: the id with the largest logit, of equal ones the lowest.
    pub argmax: Option<Tensor>,
    /// The likeliest ids.
    pub top: Option<TopTokens>,
    /// `[T, n]`: log-probs of the named ids.
    pub named: Option<Tensor>,
}

/// The likeliest ids of each row, largest logit first, of equal ones the lowest id.
#[derive(Clone, Debug)]
pub struct TopTokens {
    /// `[T, k]`, u32.
    pub ids: Tensor,
    /// `[T, k]`, nats.
    pub logprobs: Tensor,
}

impl TokenOptions<'_> {
    /// How many of the likeliest ids are to be found.
    pub(crate) fn found(&self) -> usize {
        self.top_k.max(usize::from(self.argmax))
    }

    /// How many ids are named for each row.
    pub(crate) fn n_named(&self) -> usize {
        self.named.map_or(0, |named| named.dims().last().copied().unwrap_or(0))
    }

    /// Passes if this can be asked of `rows` rows of `width` logits; says nothing of named ids' values.
    pub(crate) fn check(&self, op: &'static str, rows: usize, width: usize) -> Result<()> {
        self.softmax.check(op)?;
        // No row, no vocabulary to be too small.
        if self.found() > width && rows > 0 {
            let (what, got) = ("top_k", self.found() as f64);
            return Err(Error::Setting { op, what, expected: "at most the vocabulary", got });
        }
        let Some(named) = self.named else { return Ok(()) };
        if named.dtype() != DType::U32 {
            let (got, remedy) = (named.dtype(), "token ids are u32");
            return Err(Error::DType { op, what: "named ids", got, remedy });
        }
        match named.dims() {
            [n, _] if *n == rows => Ok(()),
            got => {
                let expected = format!("[{rows}, n], ids of each row");
                Err(Error::Shape { op, what: "named ids", expected, got: got.to_vec() })
            }
        }
    }

    /// The named ids, all inside the vocabulary; row by row.
    pub(crate) fn named_ids(&self, op: &'static str, vocab: usize) -> Result<Vec<u32>> {
        let Some(named) = self.named else { return Ok(Vec::new()) };
        let ids = named.flatten_all()?.to_vec1::<u32>()?;
        check_ids(of_named(op), &ids, vocab)?;
        Ok(ids)
    }

    /// As [`Self::named_ids`], contiguous on their device; `None` if no row has any.
    pub(crate) fn device_named(
        &self,
        gpu: &Gpu,
        op: &'static str,
        vocab: usize,
    ) -> Result<Option<Tensor>> {
        let Some(named) = self.named.filter(|_| self.n_named() > 0) else { return Ok(None) };
        let named = named.contiguous()?;
        if named.elem_count() > 0 {
            gpu::check_ids(gpu, of_named(op), &named, vocab)?;
        }
        Ok(Some(named))
    }

    /// What was asked, from the values `[5 + n + found, T]` and the ids `[T, found]`, if any were to be found.
    pub(crate) fn scores(&self, values: &Tensor, found: Option<&Tensor>) -> Result<TokenScores> {
        let column = |i| values.narrow(0, i, 1)?.squeeze(0);
        let of_ids = |first, n| values.narrow(0, STATISTICS + first, n)?.t()?.contiguous();
        let first = |found: &Tensor| found.get_on_dim(1, 0)?.contiguous();
        let top = |found: &Tensor| {
            let ids = found.narrow(1, 0, self.top_k)?.contiguous()?;
            let logprobs = of_ids(self.n_named(), self.top_k)?;
            Ok::<_, candle_core::Error>(TopTokens { ids, logprobs })
        };
        Ok(TokenScores {
            logprobs: column(0)?,
            lse: column(1)?,
            entropy: self.entropy.then(|| column(2)).transpose()?,
            argmax: found.filter(|_| self.argmax).map(first).transpose()?,
            top: found.filter(|_| self.top_k > 0).map(top).transpose()?,
            named: self.named.map(|_| of_ids(0, self.n_named())).transpose()?,
        })
    }
}

/// Positions in a message are then those among the named ids.
fn of_named(op: &'static str) -> &'static str {
    match op {
        "linear_token_scores" => "linear_token_scores, named ids",
        _ => "token_scores, named ids",
    }
}
