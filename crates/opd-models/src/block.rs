use candle_core::Tensor;
use opd_kernels::{
    HeadNorms, Heads, PackedWeight, Products, RotaryTable, Spans, Weight, add_rms_norm, attention,
    attention_backward, linear_packed, rms_norm, rms_norm_backward, rotate_heads,
    rotate_heads_backward,
};

use crate::{
    Gradients, Result,
    feed_forward::{FeedForward, PackedDense},
    kv_cache::CacheRows,
    lora::Adapter,
    parameters::ParameterId,
    tape::{Residual, Saved},
};

/// A trainable vector.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) id: ParameterId,
    pub(crate) values: Tensor,
}

/// The embedding `[V, H]`, or the head.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) id: ParameterId,
    pub(crate) name: &'static str,
    pub(crate) values: Weight,
}

/// A trainable matrix `[N, K]` with an optional bias `[N]`, or a frozen one with an adapter.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) id: ParameterId,
    /// Hugging Face name and rows of each tensor that is stacked in it.
    pub(crate) parts: Vec<(String, usize)>,
    pub(crate) weight: Weight,
    /// Those with the weight, forward and backward; not those of the adapter.
    pub(crate) products: Products,
    pub(crate) bias: Option<Vector>,
    pub(crate) adapter: Option<Adapter>,
}

impl Matrix {
    pub(crate) fn packed(&self) -> Result<PackedWeight> {
        Ok(self.products.pack(&self.weight)?)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_from(None, x)
    }

    /// [`Self::forward`] that reads the weight from its packed form, if there is one.
    pub(crate) fn forward_from(&self, packed: Option<&PackedWeight>, x: &Tensor) -> Result<Tensor> {
        let y = match packed {
            Some(packed) => linear_packed(x, packed)?,
            None => self.products.linear(x, &self.weight)?,
        };
        let y = match &self.bias {
            None => y,
            Some(bias) => y.broadcast_add(&bias.values)?,
        };
        if let Some(adapter) = &self.adapter {
            adapter.forward(x, &y)?;
        }
        Ok(y)
    }

    pub(crate) fn backward(
        &self,
        x: &Tensor,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        gradients.add_product(self.id, dy, x, self.products)?;
        if let Some(bias) = &self.bias {
            gradients.add_column_sums(bias.id, dy)?;
        }
        let dx = self.products.grad_input(dy, &self.weight)?;
        if let Some(adapter) = &self.adapter {
            adapter.backward(x, dy, &dx, gradients)?;
        }
        Ok(dx)
    }
}

/// Where the rows of one forward sit: shared by all its layers.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) positions: &'a Tensor,
    pub(crate) rotary: &'a RotaryTable,
    pub(crate) spans: &'a Spans,
}

/// One transformer layer: attention and feed-forward, each behind a norm, on a residual stream.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) heads: Heads,
    pub(crate) eps: f64,
    pub(crate) input_norm: Vector,
    pub(crate) qkv: Matrix,
    pub(crate) head_norms: Option<(Vector, Vector)>,
    pub(crate) output: Matrix,
    pub(crate) mlp_norm: Vector,
    pub(crate) feed_forward: FeedForward,
}

/// The matrices of a [`Block`], packed.
#[derive(Debug)]
pub(crate) struct PackedBlock {
    qkv: PackedWeight,
    output: PackedWeight,
    feed_forward: Option<PackedDense>,
}

impl PackedBlock {
    pub(crate) fn new(block: &Block) -> Result<Self> {
        let qkv = block.qkv.packed()?;
        let output = block.output.packed()?;
        Ok(Self { qkv, output, feed_forward: block.feed_forward.packed()? })
    }
}

impl Block {
    /// Its matrices that may have adapters, in the order of the forward.
    pub(crate) fn matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let mut matrices = vec![&mut self.qkv, &mut self.output];
        if let FeedForward::Dense { gate_up, down } = &mut self.feed_forward {
            matrices.extend([gate_up, down]);
        }
        matrices
    }

    /// All its matrices but a router.
    pub(crate) fn layer_matrices_mut(&mut self) -> Vec<&mut Matrix> {
        let mut matrices = vec![&mut self.qkv, &mut self.output];
        match &mut self.feed_forward {
            FeedForward::Dense { gate_up, down } => matrices.extend([gate_up, down]),
            FeedForward::Mixture(mixture) => {
                let experts = mixture.experts.iter_mut();
                matrices.extend(experts.flat_map(|expert| [&mut expert.gate_up, &mut expert.down]));
            }
        }
        matrices
    }

    /// As [`Self::matrices_mut`].
    pub(crate) fn matrices(&self) -> Vec<&Matrix> {
        let mut matrices = vec![&self.qkv, &self.output];
        if let FeedForward::Dense { gate_up, down } = &self.feed_forward {
            matrices.extend([gate_up, down]);
        }
        matrices
    }

    /// All its matrices.
    pub(crate) fn all_matrices(&self) -> Vec<&Matrix> {
        let mut matrices = self.matrices();
        if let FeedForward::Mixture(mixture) = &self.feed_forward {
            let experts = mixture.experts.iter();
            matrices.push(&mixture.router);
            matrices.extend(experts.flat_map(|expert| [&expert.gate_up, &expert.down]));
        }
        matrices
    }

    fn norms(&self) -> Option<HeadNorms<'_>> {
        let (query, key) = self.head_norms.as_ref()?;
        Some(HeadNorms { query: &query.values, key: &key.values, eps: self.eps })
    }

    fn enter(&self, residual: Residual) -> Result<(Tensor, Tensor)> {
        let (x, norm) = (residual.x, &self.input_norm.values);
        match residual.delta {
            Some(delta) => Ok(add_rms_norm(&x, &delta, norm, self.eps)?),
            None => {
                let normed = rms_norm(&x, norm, self.eps)?;
                Ok((x, normed))
            }
        }
    }

    /// Forward that keeps what the backward needs.
    pub(crate) fn forward(
        &self,
        residual: Residual,
        place: &Place<'_>,
    ) -> Result<(Residual, Saved)> {
        let (x, input) = self.enter(residual)?;
        let (n, width) = (x.dims()[0], self.heads.heads * self.heads.head_dim);
        let Heads { heads, kv_heads, .. } = self.heads;
        let qkv = self.qkv.products.stored(self.qkv.forward(&input)?)?;
        drop(input);
        let rotated = self.rotate(&qkv, place)?;
        let attention = attention(
            &rotated.narrow(1, 0, heads)?,
            &rotated.narrow(1, heads, kv_heads)?,
            &rotated.narrow(1, heads + kv_heads, kv_heads)?,
            place.spans,
        )?;
        drop(rotated);
        let delta = self.output.forward(&attention.out.reshape((n, width))?)?;
        let (middle, mlp_input) = add_rms_norm(&x, &delta, &self.mlp_norm.values, self.eps)?;
        let (delta, inner) = self.feed_forward.forward(&mlp_input)?;
        let residual = Residual { x: middle.clone(), delta: Some(delta) };
        Ok((residual, Saved { x, qkv, attention, middle, inner }))
    }

    fn rotate(&self, qkv: &Tensor, place: &Place<'_>) -> Result<Tensor> {
        Ok(rotate_heads(qkv, self.heads, self.norms(), place.rotary, place.positions)?)
    }

    /// Gradient of the layer's input from the gradient `dy` of its output (`[T, H]`, the
    /// residual stream with its delta added).
    pub(crate) fn backward(
        &self,
        saved: Saved,
        place: &Place<'_>,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<Tensor> {
        let Saved { x, qkv, attention, middle, inner } = saved;
        let norm = &self.mlp_norm;
        let mlp_input = rms_norm(&middle, &norm.values, self.eps)?;
        let dmlp_input = self.feed_forward.backward(&mlp_input, inner, dy, gradients)?;
        drop(mlp_input);
        let (dmiddle, dnorm) =
            rms_norm_backward(&middle, &norm.values, &dmlp_input, Some(dy), self.eps)?;
        gradients.add_tensor(norm.id, dnorm)?;
        drop((middle, dmlp_input));

        let out = &attention.out;
        let flat = out.reshape((out.dims()[0], out.dims()[1] * out.dims()[2]))?;
        let dout = self.output.backward(&flat, &dmiddle, gradients)?.reshape(out.shape())?;
        let rotated = self.rotate(&qkv, place)?;
        let drotated = attention_backward(&rotated, self.heads, place.spans, &attention, &dout)?;
        drop((rotated, attention, flat, dout));
        let (rotary, positions) = (place.rotary, place.positions);
        let rotation =
            rotate_heads_backward(&qkv, self.heads, self.norms(), rotary, positions, &drotated)?;
        if let (Some((query, key)), Some((dquery, dkey))) = (&self.head_norms, rotation.norms) {
            gradients.add_tensor(query.id, dquery)?;
            gradients.add_tensor(key.id, dkey)?;
        }
        drop((qkv, drotated));
        let norm = &self.input_norm;
        let input = rms_norm(&x, &norm.values, self.eps)?;
        let dinput = self.qkv.backward(&input, &rotation.qkv, gradients)?;
        let (dx, dnorm) = rms_norm_backward(&x, &norm.values, &dinput, Some(&dmiddle), self.eps)?;
        gradients.add_tensor(norm.id, dnorm)?;
        Ok(dx)
    }

    /// Forward of new rows over a key-value cache.
    pub(crate) fn forward_cached(
        &self,
        residual: Residual,
        place: &Place<'_>,
        cache: &CacheRows<'_>,
        packed: Option<&PackedBlock>,
    ) -> Result<Residual> {
        let (x, normed) = self.enter(residual)?;
        let (n, width) = (x.dims()[0], self.heads.heads * self.heads.head_dim);
        let qkv = self.qkv.forward_from(packed.map(|packed| &packed.qkv), &normed)?;
        let qkv = self.qkv.products.stored(qkv)?;
        let rotated = self.rotate(&qkv, place)?;
        let (keys, values) = cache.write(&rotated, self.heads)?;
        let queries = rotated.narrow(1, 0, self.heads.heads)?;
        let attention = attention(&queries, &keys, &values, place.spans)?;
        let out = attention.out.reshape((n, width))?;
        let delta = self.output.forward_from(packed.map(|packed| &packed.output), &out)?;
        let (x, normed) = add_rms_norm(&x, &delta, &self.mlp_norm.values, self.eps)?;
        let packed = packed.and_then(|packed| packed.feed_forward.as_ref());
        Ok(Residual { x, delta: Some(self.feed_forward.forward_from(packed, &normed)?.0) })
    }
}
