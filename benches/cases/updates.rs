use candle_core::Result;
use opd_kernels::{
    AdamWStep, adamw_moments, adamw_step, advantages_and_returns, discounted_sums, sum_of_squares,
};

use crate::{Case, Size, Work, numbers::tensor};

pub(crate) const CASES: &[Case] = &[
    Case { name: "adamw", bytes: |size| 7 * size.head_bytes(), prepare: adamw },
    Case { name: "sum_of_squares", bytes: Size::head_bytes, prepare: squares },
    Case { name: "discounted_sums", bytes: |size| 8 * size.tokens(), prepare: sums },
    Case { name: "advantages_and_returns", bytes: |size| 16 * size.tokens(), prepare: gae },
];

/// Of a head.
fn adamw(size: &Size) -> Result<Work> {
    let dims = [size.vocab, size.width];
    let (parameter, gradient) = (tensor(&dims, 1, 0.1)?, tensor(&dims, 2, 0.1)?);
    let [first, second] = adamw_moments(&parameter)?;
    let mut settings = AdamWStep {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.01,
        gradient_scale: 1.0,
        step: 0,
    };
    Ok(Box::new(move || {
        settings.step += 1;
        Ok(adamw_step(&parameter, &gradient, &first, &second, &settings)?)
    }))
}

fn squares(size: &Size) -> Result<Work> {
    let values = tensor(&[size.vocab, size.width], 1, 1.0)?;
    Ok(Box::new(move || Ok(sum_of_squares(&values).map(drop)?)))
}

/// Where the rows start, and where the last ends.
fn starts(size: &Size) -> Vec<usize> {
    let mut end = 0;
    let ends = size.lengths.iter().map(|length| {
        end += length;
        end
    });
    std::iter::once(0).chain(ends).collect()
}

fn sums(size: &Size) -> Result<Work> {
    let (values, starts) = (tensor(&[size.tokens()], 1, 1.0)?, starts(size));
    Ok(Box::new(move || Ok(discounted_sums(&values, &starts, 0.99).map(drop)?)))
}

fn gae(size: &Size) -> Result<Work> {
    let (rewards, values) = (tensor(&[size.tokens()], 1, 1.0)?, tensor(&[size.tokens()], 2, 1.0)?);
    let starts = starts(size);
    Ok(Box::new(move || {
        Ok(advantages_and_returns(&rewards, &values, &starts, 0.99, 0.95).map(drop)?)
    }))
}
