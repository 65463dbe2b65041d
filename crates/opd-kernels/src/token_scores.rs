use candle_core::Tensor;

use crate::{
    Result, Softmax, TokenOptions, TokenScores,
    cpu::{
        self, Element, by_dtype,
        part::Part,
        score_rows::{ScoreGradient, ScoreRows, Scored},
        token_rows::TokenRows,
    },
    gpu::{self, Gpu, Recorded1},
    logprob::{check_device, device_ids, matrix, token_ids, widened},
};

const OP: &str = "token_scores";

/// Log-prob and log-sum-exp of the tokens `ids` under `logits`, and what `options` ask beside:
/// entropy, likeliest ids, log-probs of named ids.
///
/// `logits` is `[T, V]` (f32, bf16 or f16; f64 on the CPU), `ids` is `[T]` (u32). One read of the
/// logits forward, whatever is asked; backward one read and one write. What is not asked for costs
/// nothing. On the CPU bf16 and f16 are widened to a copy first.
///
/// ```text
/// z = cap(logits) / temperature,  lse_t = log sum_v exp(z_tv),  log p_tv = z_tv - lse_t
/// logprob_t = log p_t[id_t],  named_tk = log p_t[named_id_tk],  entropy_t = -sum_v p_tv log p_tv
/// dz_tv = sum_k g_tk (1[v = id_tk] - p_tv) + g_lse p_tv - g_entropy p_tv (log p_tv + entropy_t)
/// dlogits_tv = dz_tv cap'(logits_tv) / temperature
/// ```
///
/// `k` goes over the token, the named and the likeliest ids. NaN or positive infinity in a row, or no
/// finite value, makes all log-probs, the log-sum-exp and the entropy of the row NaN; among the likeliest ids
/// NaN ranks as negative infinity. A row whose upstream gradients are 0 is not read and gets
/// gradient 0. Log-probs have the same bits whatever is asked.
///
/// Definition: [`reference::token_scores`](crate::reference::token_scores).
///
/// # Errors
///
/// [`Error::Shape`](crate::Error::Shape), [`Error::DType`](crate::Error::DType),
/// [`Error::Device`](crate::Error::Device); [`Error::TokenId`](crate::Error::TokenId) naming the position,
/// among named ids that in `[T, n]`, row by row; [`Error::Setting`](crate::Error::Setting) for the
/// temperature, the cap, or more likeliest ids than there are.
pub fn token_scores(
    logits: &Tensor,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> Result<TokenScores> {
    let (values, found) = of_logits(OP, logits, ids, options)?;
    options.scores(&values, found.as_ref())
}

/// The values `[5 + k, T]`, which carry the graph, and the likeliest ids `[T, found]`, if any are wanted.
pub(crate) fn of_logits(
    op: &'static str,
    logits: &Tensor,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> Result<(Tensor, Option<Tensor>)> {
    check_device(op, logits)?;
    let (rows, width) = matrix(op, "logits", logits)?;
    options.check(op, rows, width)?;
    if let Some(gpu) = gpu::of(logits) {
        let ids = device_ids(&gpu, op, ids, rows, width)?;
        return on_gpu(gpu, op, &logits.contiguous()?, ids, options);
    }
    if let Some(wide) = widened(logits)? {
        return of_logits(op, &wide, ids, options);
    }
    by_dtype!(op, logits, T => {
        let asked = Asked::new(op, token_ids(op, ids, rows, width)?, options, width)?;
        let logits = logits.contiguous()?;
        let mut scored = asked.room::<T>();
        asked.forward(&mut scored, 0, &cpu::view::<T>(op, &logits)?);
        let (value, asked, found) = asked.finish(scored)?;
        let backward = move |logits: &Tensor, saved: &Tensor, upstream: &Tensor| {
            let upstream = upstream.contiguous()?;
            let values = cpu::view::<T>(op, logits)?;
            let (saved, upstream) = (cpu::view::<T>(op, saved)?, cpu::view::<T>(op, &upstream)?);
            let mut out = vec![0.0 as T; values.len()];
            let part = Part::of_rows(0..rows, width);
            asked.backward(&mut out, &part, Some(&values), (&saved, &upstream));
            cpu::tensor(out, logits.shape())
        };
        Ok((logits.apply_op1(Recorded1 { name: op, value, backward })?, found))
    })
}

fn on_gpu(
    gpu: Gpu,
    op: &'static str,
    logits: &Tensor,
    ids: Tensor,
    options: &TokenOptions<'_>,
) -> Result<(Tensor, Option<Tensor>)> {
    let width = logits.dims()[1];
    let asked = gpu::score_rows::Asked::new(&gpu, op, ids, options, width)?;
    let (value, found) = asked.forward(&gpu, logits, 0)?;
    let asked = asked.with_found(found.as_ref())?;
    let backward = move |logits: &Tensor, saved: &Tensor, upstream: &Tensor| {
        let out = gpu::empty(logits.shape(), logits.dtype(), logits.device())?;
        asked.backward(&gpu, logits, 0, (saved, &upstream.contiguous()?), &out)?;
        Ok(out)
    };
    Ok((logits.apply_op1(Recorded1 { name: op, value, backward })?, found))
}

/// What is asked of the rows of a CPU tensor.
#[derive(Debug)]
pub(crate) struct Asked {
    ids: Vec<u32>,
    /// `[T, k]`: before the forward the named ids, then also the likeliest.
    further: Vec<u32>,
    n_named: usize,
    found: usize,
    width: usize,
    softmax: Softmax,
    entropy: bool,
}

impl Asked {
    /// Of checked `ids` and options.
    pub(crate) fn new(
        op: &'static str,
        ids: Vec<u32>,
        options: &TokenOptions<'_>,
        width: usize,
    ) -> Result<Self> {
        let further = options.named_ids(op, width)?;
        let &TokenOptions { softmax, entropy, .. } = options;
        let (n_named, found) = (options.n_named(), options.found());
        Ok(Self { ids, further, n_named, found, width, softmax, entropy })
    }

    fn tokens(&self) -> TokenRows<'_> {
        let &Self { width, softmax, entropy, .. } = self;
        TokenRows { ids: &self.ids, width, softmax, entropy }
    }

    pub(crate) fn rows(&self) -> ScoreRows<'_> {
        let (named, n_named) = (&self.further, self.n_named);
        ScoreRows { tokens: self.tokens(), named, n_named, top: self.found }
    }

    /// How many ids are asked of each row beside its token.
    pub(crate) fn further_ids(&self) -> usize {
        self.n_named + self.found
    }

    /// Room for what is found.
    pub(crate) fn room<T: Element>(&self) -> Scored<T> {
        self.rows().room()
    }

    /// Scores the next rows from their logits.
    fn forward<T: Element>(&self, out: &mut Scored<T>, first: usize, logits: &[T]) {
        self.rows().forward(out, first, logits);
    }

    /// The values `[5 + k, T]`, what the backward asks, and the likeliest ids as a tensor `[T, found]`.
    pub(crate) fn finish<T: Element>(
        self,
        scored: Scored<T>,
    ) -> Result<(Tensor, Self, Option<Tensor>)> {
        let (values, found) = scored.finish()?;
        let mut further = Vec::with_capacity(self.further.len() + found.len());
        for row in 0..self.ids.len() {
            further.extend(&self.further[row * self.n_named..][..self.n_named]);
            further.extend(&found[row * self.found..][..self.found]);
        }
        let dims = (self.ids.len(), self.found);
        let found = (self.found > 0).then(|| cpu::tensor(found, dims)).transpose()?;
        Ok((values, Self { further, ..self }, found))
    }

    /// Gradients of `part` into `out`, which holds its logits if `logits` is `None`.
    pub(crate) fn backward<T: Element>(
        &self,
        out: &mut [T],
        part: &Part,
        logits: Option<&[T]>,
        (values, upstream): (&[T], &[T]),
    ) {
        let score = ScoreGradient { values, upstream, further: &self.further };
        self.tokens().backward_of_score(out, part, logits, score);
    }
}
