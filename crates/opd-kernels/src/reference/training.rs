use candle_core::{DType, Tensor};

use crate::{AdamWStep, Result};

/// Definition of [`adamw_step`](crate::adamw_step): the new parameter, first and second moment.
///
/// # Errors
///
/// If candle fails.
pub fn adamw_step(
    parameter: &Tensor,
    gradient: &Tensor,
    first_moment: &Tensor,
    second_moment: &Tensor,
    settings: &AdamWStep,
) -> Result<[Tensor; 3]> {
    let &AdamWStep { lr, beta1, beta2, eps, weight_decay, gradient_scale, step } = settings;
    let gradient = (gradient.to_dtype(parameter.dtype())? * gradient_scale)?;
    let first = ((first_moment * beta1)? + (&gradient * (1.0 - beta1))?)?;
    let second = ((second_moment * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    let unbiased = |moment: &Tensor, beta: f64| moment / (1.0 - beta.powf(step as f64));
    let root = (unbiased(&second, beta2)?.sqrt()? + eps)?;
    let update = ((unbiased(&first, beta1)? / root)? * lr)?;
    let kept = (parameter * (1.0 - lr * weight_decay))?;
    Ok([(kept - update)?, first, second])
}

/// Definition of [`moving_average`](crate::moving_average): the new average.
///
/// # Errors
///
/// If candle fails.
pub fn moving_average(average: &Tensor, values: &Tensor, decay: f64) -> Result<Tensor> {
    Ok(((average * decay)? + (values * (1.0 - decay))?)?)
}

/// Definition of [`sum_of_squares`](crate::sum_of_squares).
///
/// # Errors
///
/// If candle fails.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    Ok(tensor.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()?)
}

/// The Euclidean norm of the values of all tensors together: the root of the sum of
/// [`sum_of_squares`](crate::sum_of_squares) over them, by which gradients are clipped.
///
/// # Errors
///
/// If candle fails.
pub fn global_norm<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<f64> {
    let squares: Result<f64> = tensors.into_iter().map(sum_of_squares).sum();
    Ok(squares?.sqrt())
}

/// Definition of [`discounted_sums`](crate::discounted_sums): the product with a matrix that has
/// `discount^(s - t)` where `s` is `t` or behind it in its row.
///
/// # Errors
///
/// If candle fails.
pub fn discounted_sums(values: &Tensor, starts: &[usize], discount: f64) -> Result<Tensor> {
    let powers = by_distance(values, starts, |distance| discount.powi(distance as i32))?;
    Ok(powers.matmul(&values.unsqueeze(1)?)?.squeeze(1)?)
}

/// Definition of [`advantages_and_returns`](crate::advantages_and_returns): discounted sums of the
/// temporal differences.
///
/// # Errors
///
/// If candle fails.
pub fn advantages_and_returns(
    rewards: &Tensor,
    values: &Tensor,
    starts: &[usize],
    gamma: f64,
    lambda: f64,
) -> Result<(Tensor, Tensor)> {
    let follows = by_distance(values, starts, |distance| if distance == 1 { gamma } else { 0.0 })?;
    let next = follows.matmul(&values.unsqueeze(1)?)?.squeeze(1)?;
    let delta = ((rewards + next)? - values)?;
    let advantages = discounted_sums(&delta, starts, gamma * lambda)?;
    let returns = (&advantages + values)?;
    Ok((advantages, returns))
}

/// `[T, T]`: `weight(s - t)` at row `t` and column `s` of one ragged row with `s >= t`, else 0.
fn by_distance(
    like: &Tensor,
    starts: &[usize],
    weight: impl Fn(usize) -> f64,
) -> candle_core::Result<Tensor> {
    let n = like.elem_count();
    let mut matrix = vec![0.0; n * n];
    for row in starts.windows(2) {
        for t in row[0]..row[1] {
            for s in t..row[1] {
                matrix[t * n + s] = weight(s - t);
            }
        }
    }
    Tensor::from_vec(matrix, (n, n), like.device())?.to_dtype(like.dtype())
}
