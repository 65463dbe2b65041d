use candle_core::Tensor;

use crate::Result;

/// `x W^T`: `x` is `[T, K]`, `weight` is `[N, K]`, the result `[T, N]`.
///
/// # Errors
///
/// If the inner sizes or dtypes differ.
pub fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&weight.t()?)?)
}

/// Gradient of [`linear`] with respect to `x`: `dy` is `[T, N]`, the result `[T, K]`.
///
/// # Errors
///
/// If the inner sizes or dtypes differ.
pub fn linear_grad_input(dy: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(dy.matmul(weight)?)
}

/// Gradient of [`linear`] with respect to `weight`: `dy` is `[T, N]`, `x` is `[T, K]`, the
/// result `[N, K]`.
///
/// # Errors
///
/// If the token counts or dtypes differ.
pub fn linear_grad_weight(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(dy.t()?.matmul(x)?)
}
