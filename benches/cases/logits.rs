use candle_core::{Result, Tensor, Var};
use opd_kernels::{
    Softmax, TokenOptions, TokenScores, draw_rows, likeliest_rows, reference, row_loss,
    token_scores,
};
use rayon::prelude::*;

use crate::{
    Case, Size, Work,
    numbers::{ids, tensor, variable},
};

/// What PyTorch's twin computes: the log-prob alone.
const PLAIN: TokenOptions<'static> = TokenOptions {
    softmax: Softmax { temperature: 1.0, soft_cap: None },
    entropy: false,
    argmax: false,
    top_k: 0,
    named: None,
};
const ENTROPY: TokenOptions<'static> = TokenOptions { entropy: true, ..PLAIN };
const TOP: TokenOptions<'static> = TokenOptions { argmax: true, top_k: 8, ..PLAIN };
const CAPPED: TokenOptions<'static> =
    TokenOptions { softmax: Softmax { temperature: 1.0, soft_cap: Some(30.0) }, ..PLAIN };

pub(crate) const CASES: &[Case] = &[
    Case { name: "read_logits", bytes: Size::logits_bytes, prepare: read },
    Case {
        name: "token_logprobs/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, token_scores, PLAIN),
    },
    Case {
        name: "token_logprobs/train",
        bytes: |size| 3 * size.logits_bytes(),
        prepare: |size| train(size, token_scores, PLAIN),
    },
    Case {
        name: "token_entropy/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, token_scores, ENTROPY),
    },
    Case {
        name: "token_top_8/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, token_scores, TOP),
    },
    Case {
        name: "token_soft_cap/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, token_scores, CAPPED),
    },
    Case {
        name: "token_soft_cap/train",
        bytes: |size| 3 * size.logits_bytes(),
        prepare: |size| train(size, token_scores, CAPPED),
    },
    Case { name: "row_loss/train", bytes: |size| 3 * size.logits_bytes(), prepare: in_place },
    Case { name: "draw_rows", bytes: |size| 2 * size.logits_bytes(), prepare: drawn },
    Case { name: "likeliest_rows", bytes: |size| 2 * size.logits_bytes(), prepare: likeliest },
    Case {
        name: "plain_token_logprobs/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, reference::token_scores, PLAIN),
    },
    Case {
        name: "plain_token_logprobs/train",
        bytes: |size| 3 * size.logits_bytes(),
        prepare: |size| train(size, reference::token_scores, PLAIN),
    },
];

type Score = fn(&Tensor, &Tensor, &TokenOptions<'_>) -> opd_kernels::Result<TokenScores>;

fn logits(size: &Size) -> Result<Var> {
    variable(&[size.tokens(), size.vocab], 1, 10.0)
}

/// The floor of a forward: every logit once, and one sum.
fn read(size: &Size) -> Result<Work> {
    const LANES: usize = 128;
    let logits = tensor(&[size.tokens() * size.vocab], 1, 10.0)?;
    Ok(Box::new(move || {
        let (storage, _) = logits.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else { return Ok(()) };
        let sums = storage.as_slice::<f32>()?.par_chunks(1 << 16).map(|values| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let mut lanes = [0f32; LANES];
                    for chunk in values.as_chunks::<LANES>().0 {
                        for (lane, value) in lanes.iter_mut().zip(chunk) {
                            *lane += value;
                        }
                    }
                    lanes.iter().sum::<f32>()
                },
            )
        });
        std::hint::black_box(sums.sum::<f32>());
        Ok(())
    }))
}

/// The temperature is not 1, as in most sampling.
fn drawn(size: &Size) -> Result<Work> {
    let (logits, n) = (tensor(&[size.tokens(), size.vocab], 1, 4.0)?, size.tokens());
    let uniforms: Vec<f64> = (0..n).map(|i| (i * 37 % n) as f64 / n as f64).collect();
    Ok(Box::new(move || {
        std::hint::black_box(draw_rows(&logits, 0.9, &uniforms)?);
        Ok(())
    }))
}

fn likeliest(size: &Size) -> Result<Work> {
    let logits = tensor(&[size.tokens(), size.vocab], 1, 4.0)?;
    Ok(Box::new(move || {
        std::hint::black_box(likeliest_rows(&logits)?);
        Ok(())
    }))
}

fn forward(size: &Size, score: Score, options: TokenOptions<'static>) -> Result<Work> {
    let (logits, ids) = (logits(size)?.into_inner().detach(), ids(size, 1)?);
    Ok(Box::new(move || Ok(score(&logits, &ids, &options).map(drop)?)))
}

fn train(size: &Size, score: Score, options: TokenOptions<'static>) -> Result<Work> {
    let (logits, ids) = (logits(size)?, ids(size, 1)?);
    Ok(Box::new(move || score(&logits, &ids, &options)?.logprobs.sum_all()?.backward().map(drop)))
}

/// The gradient takes the place of the logits and is, run after run, what the next run takes for
/// logits: the same work.
fn in_place(size: &Size) -> Result<Work> {
    let (logits, ids) = (tensor(&[size.tokens(), size.vocab], 1, 10.0)?, ids(size, 1)?);
    Ok(Box::new(move || {
        Ok(row_loss(logits.clone(), &ids, 1.0, |row| row.logprobs.sum_all()).map(drop)?)
    }))
}
