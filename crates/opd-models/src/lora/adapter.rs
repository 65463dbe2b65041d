use candle_core::Tensor;
use opd_kernels::{Products, linear, linear_acc, linear_grad_input};

use crate::{Gradients, Result, block::Vector};

/// Low-rank adapters of a matrix `[N, K]` that may be a stack of several.
///
/// The first factors of all parts are one product; each part has a second factor of its own,
/// whose product lands in the part's columns of the output.
#[derive(Clone, Debug)]
pub(crate) struct Adapter {
    pub(crate) scale: f64,
    pub(crate) rank: usize,
    /// `[parts * rank, K]`.
    pub(crate) down: Vector,
    pub(crate) ups: Vec<Up>,
}

/// The second factor of a part.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    /// Row of the matrix at which the part starts.
    pub(crate) start: usize,
    /// `[rows, rank]`.
    pub(crate) factor: Vector,
}

impl Adapter {
    /// Adds what the adapters make of `x` (`[T, K]`) to `y` (`[T, N]`).
    pub(crate) fn forward(&self, x: &Tensor, y: &Tensor) -> Result<()> {
        let low = self.low(x)?;
        for (part, up) in self.ups.iter().enumerate() {
            linear_acc(&self.of_part(&low, part)?, &up.factor.values, y, up.start)?;
        }
        Ok(())
    }

    /// Adds the gradient of `x` that flows through the adapters to `dx`.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        dx: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<()> {
        let low = self.low(x)?;
        let mut parts = Vec::with_capacity(self.ups.len());
        for (part, up) in self.ups.iter().enumerate() {
            let factor = &up.factor.values;
            let of_part = dy.narrow(1, up.start, factor.dims()[0])?;
            let low = self.of_part(&low, part)?;
            gradients.add_product(up.factor.id, &of_part, &low, Products::Full)?;
            parts.push(linear_grad_input(&of_part, factor)?);
        }
        let dlow = (Tensor::cat(&parts, 1)? * self.scale)?;
        gradients.add_product(self.down.id, &dlow, x, Products::Full)?;
        Ok(linear_acc(&dlow, &self.down.values.t()?, dx, 0)?)
    }

    /// `scale * x down^T`, `[T, parts * rank]`.
    fn low(&self, x: &Tensor) -> Result<Tensor> {
        Ok((linear(x, &self.down.values)? * self.scale)?)
    }

    fn of_part(&self, low: &Tensor, part: usize) -> Result<Tensor> {
        Ok(low.narrow(1, part * self.rank, self.rank)?)
    }

    /// Adds the adapters to a copy of the matrix: `W + scale * up down`.
    pub(crate) fn merged(&self, weight: &Tensor) -> Result<Tensor> {
        let sum = weight.copy()?;
        for (part, up) in self.ups.iter().enumerate() {
            let factor = (&up.factor.values * self.scale)?;
            let down = self.down.values.narrow(0, part * self.rank, self.rank)?;
            let rows = sum.narrow(0, up.start, factor.dims()[0])?;
            linear_acc(&factor, &down.t()?, &rows, 0)?;
        }
        Ok(sum)
    }
}
