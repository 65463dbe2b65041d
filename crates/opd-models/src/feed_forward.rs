use candle_core::Tensor;
use opd_kernels::{swiglu, swiglu_backward};

use crate::{Error, Gradients, Result, block::Matrix, mixture::Mixture};

/// What follows attention in a layer.
#[derive(Clone, Debug)]
pub(crate) enum FeedForward {
    /// `down(silu(gate(x)) * up(x))`.
    Dense { gate_up: Matrix, down: Matrix },
    /// Some of many of these.
    Mixture(Mixture),
}

/// What the backward of a [`FeedForward`] needs.
#[derive(Debug)]
pub(crate) enum Inner {
    Dense { gate_up: Tensor, activated: Tensor },
    Mixture,
}

impl FeedForward {
    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, Inner)> {
        match self {
            Self::Dense { gate_up, down } => {
                let gate_up = gate_up.forward(x)?;
                let activated = swiglu(&gate_up)?;
                Ok((down.forward(&activated)?, Inner::Dense { gate_up, activated }))
            }
            Self::Mixture(mixture) => Ok((mixture.forward(x)?, Inner::Mixture)),
        }
    }

    /// Gradient of the input `x` from the gradient `dy` of the result.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        inner: &Inner,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let (Self::Dense { gate_up, down }, Inner::Dense { gate_up: between, activated }) =
            (self, inner)
        else {
            return Err(Error::Frozen { what: "a mixture of experts" });
        };
        let dactivated = down.backward(activated, dy, gradients)?;
        let dbetween = swiglu_backward(between, &dactivated)?;
        gate_up.backward(x, &dbetween, gradients)
    }
}
