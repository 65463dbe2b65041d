use candle_core::Tensor;
use opd_kernels::{PackedWeight, swiglu_as, swiglu_backward};

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
    /// As its [`Products`](opd_kernels::Products) store it.
    Dense {
        gate_up: Tensor,
    },
    Mixture,
}

/// The matrices of [`FeedForward::Dense`], packed.
#[derive(Debug)]
pub(crate) struct PackedDense {
    gate_up: PackedWeight,
    down: PackedWeight,
}

impl FeedForward {
    /// `None` for a mixture.
    pub(crate) fn packed(&self) -> Result<Option<PackedDense>> {
        let Self::Dense { gate_up, down } = self else { return Ok(None) };
        Ok(Some(PackedDense { gate_up: gate_up.packed()?, down: down.packed()? }))
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<(Tensor, Inner)> {
        self.forward_from(None, x)
    }

    /// [`Self::forward`] that reads the weights from their packed form, if there is one.
    pub(crate) fn forward_from(
        &self,
        packed: Option<&PackedDense>,
        x: &Tensor,
    ) -> Result<(Tensor, Inner)> {
        match self {
            Self::Dense { gate_up, down } => {
                let between = gate_up.forward_from(packed.map(|packed| &packed.gate_up), x)?;
                let between = gate_up.products.stored(between)?;
                let activated = swiglu_as(&between, x.dtype())?;
                let y = down.forward_from(packed.map(|packed| &packed.down), &activated)?;
                Ok((y, Inner::Dense { gate_up: between }))
            }
            Self::Mixture(mixture) => Ok((mixture.forward(x)?, Inner::Mixture)),
        }
    }

    /// Gradient of the input `x` from the gradient `dy` of the result.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        inner: Inner,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let (Self::Dense { gate_up, down }, Inner::Dense { gate_up: between }) = (self, inner)
        else {
            return Err(Error::Frozen { what: "a mixture of experts" });
        };
        let dactivated = down.backward(&swiglu_as(&between, dy.dtype())?, dy, gradients)?;
        let dbetween = swiglu_backward(&between, &dactivated)?;
        drop((between, dactivated));
        gate_up.backward(x, &dbetween, gradients)
    }
}
