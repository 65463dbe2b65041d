use candle_core::{Result, Tensor, Var};
use opd_kernels::{TokenLogprobs, reference, row_loss, token_logprobs};
use rayon::prelude::*;

use crate::{
    Case, Size, Work,
    numbers::{ids, tensor, variable},
};

pub(crate) const CASES: &[Case] = &[
    Case { name: "read_logits", bytes: Size::logits_bytes, prepare: read },
    Case {
        name: "token_logprobs/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, token_logprobs),
    },
    Case {
        name: "token_logprobs/train",
        bytes: |size| 3 * size.logits_bytes(),
        prepare: |size| train(size, token_logprobs),
    },
    Case { name: "row_loss/train", bytes: |size| 3 * size.logits_bytes(), prepare: in_place },
    Case {
        name: "plain_token_logprobs/forward",
        bytes: Size::logits_bytes,
        prepare: |size| forward(size, reference::token_logprobs),
    },
    Case {
        name: "plain_token_logprobs/train",
        bytes: |size| 3 * size.logits_bytes(),
        prepare: |size| train(size, reference::token_logprobs),
    },
];

type Score = fn(&Tensor, &Tensor, f64) -> opd_kernels::Result<TokenLogprobs>;

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

fn forward(size: &Size, score: Score) -> Result<Work> {
    let (logits, ids) = (logits(size)?.into_inner().detach(), ids(size, 1)?);
    Ok(Box::new(move || Ok(score(&logits, &ids, 1.0).map(drop)?)))
}

fn train(size: &Size, score: Score) -> Result<Work> {
    let (logits, ids) = (logits(size)?, ids(size, 1)?);
    Ok(Box::new(move || score(&logits, &ids, 1.0)?.logprobs.sum_all()?.backward().map(drop)))
}

/// The gradient takes the place of the logits and is, run after run, what the next run takes for
/// logits: the same work.
fn in_place(size: &Size) -> Result<Work> {
    let (logits, ids) = (tensor(&[size.tokens(), size.vocab], 1, 10.0)?, ids(size, 1)?);
    Ok(Box::new(move || {
        Ok(row_loss(logits.clone(), &ids, 1.0, |row| row.logprobs.sum_all()).map(drop)?)
    }))
}
