use candle_core::Tensor;

use crate::{
    Error, Result,
    cpu::{self, Element, by_dtype},
    gpu, shape,
};

/// Each value plus `discount` times the sum after it, within its row.
///
/// `values` is `[T]` (f32; f64 on the CPU); row `i` is `starts[i]..starts[i + 1]`, from 0 to `T`.
///
/// ```text
/// D_t = x_t + discount D_{t+1},   D = 0 after a row's last token
/// ```
///
/// # Errors
///
/// [`Error::Shape`] or [`Error::DType`]; [`Error::Setting`] if the rows do not cover `0..T` in order.
pub fn discounted_sums(values: &Tensor, starts: &[usize], discount: f64) -> Result<Tensor> {
    const OP: &str = "discounted_sums";
    check(OP, values, starts)?;
    Ok(scan(OP, values, None, starts, (0.0, discount))?.0)
}

/// Generalised advantage estimates and returns of ragged rows, `[T]` each.
///
/// `rewards` and `values` are `[T]` (f32; f64 on the CPU); rows as in [`discounted_sums`].
///
/// ```text
/// delta_t  = r_t + gamma V_{t+1} - V_t,   V = 0 after a row's last token
/// A_t      = delta_t + gamma lambda A_{t+1}
/// return_t = A_t + V_t
/// ```
///
/// Source: Schulman et al. 2015, <https://arxiv.org/abs/1506.02438>, eq. 11 and 16.
///
/// # Errors
///
/// As [`discounted_sums`].
pub fn advantages_and_returns(
    rewards: &Tensor,
    values: &Tensor,
    starts: &[usize],
    gamma: f64,
    lambda: f64,
) -> Result<(Tensor, Tensor)> {
    const OP: &str = "advantages_and_returns";
    check(OP, rewards, starts)?;
    shape::expect(OP, "values", values, rewards.dims(), "the shape of the rewards")?;
    shape::same_dtype(OP, "values", values, rewards.dtype())?;
    let (advantages, returns) = scan(OP, rewards, Some(values), starts, (gamma, gamma * lambda))?;
    Ok((advantages.clone(), returns.unwrap_or(advantages)))
}

fn check(op: &'static str, values: &Tensor, starts: &[usize]) -> Result<()> {
    shape::expect(op, "values", values, &[values.elem_count()], "[T]")?;
    let len = values.elem_count();
    let ordered = starts.windows(2).all(|pair| pair[0] <= pair[1]);
    if starts.first() == Some(&0) && starts.last() == Some(&len) && ordered {
        return Ok(());
    }
    let got = starts.last().map_or(f64::NAN, |&end| end as f64);
    let (what, expected) =
        ("end of the last row", "the number of values, after rows in order from 0");
    Err(Error::Setting { op, what, expected, got })
}

fn scan(
    op: &'static str,
    rewards: &Tensor,
    values: Option<&Tensor>,
    starts: &[usize],
    factors: (f64, f64),
) -> Result<(Tensor, Option<Tensor>)> {
    let rewards = rewards.contiguous()?;
    let values = values.map(Tensor::contiguous).transpose()?;
    if let Some(gpu) = gpu::of(&rewards) {
        return gpu::scans::run(&gpu, op, &rewards, values.as_ref(), starts, factors);
    }
    by_dtype!(op, rewards, T => {
        let x = cpu::view::<T>(op, &rewards)?;
        let v = values.as_ref().map(|values| cpu::view::<T>(op, values)).transpose()?;
        let (out, returns) = rows::<T>(&x, v.as_deref(), starts, factors);
        let returns = v.is_some().then(|| cpu::tensor(returns, rewards.shape())).transpose()?;
        Ok((cpu::tensor(out, rewards.shape())?, returns))
    })
}

fn rows<T: Element>(
    rewards: &[T],
    values: Option<&[T]>,
    starts: &[usize],
    (gamma, discount): (f64, f64),
) -> (Vec<T>, Vec<T>) {
    let (mut out, mut returns) = (vec![T::ZERO; rewards.len()], vec![T::ZERO; rewards.len()]);
    for pair in starts.windows(2) {
        let (mut sum, mut next) = (0.0, 0.0);
        for t in (pair[0]..pair[1]).rev() {
            let value = values.map_or(0.0, |values| values[t].as_f64());
            sum = rewards[t].as_f64() + gamma * next - value + discount * sum;
            out[t] = T::of(sum);
            returns[t] = T::of(sum + value);
            next = value;
        }
    }
    (out, returns)
}
