use opd_kernels::{Products, head_chunk_rows};

use crate::{Checkpointing, LoraConfig, LoraTarget, ModelConfig};

/// Bytes of a value: weights and everything that is computed of them are f32.
const VALUE: u64 = 4;

/// What a model takes of memory, in bytes, from its config alone.
///
/// Per-token numbers follow the forward and the backward tensor by tensor: what lives at the
/// same time is counted, and nothing else. Buffers of matrix products are not (a few MB).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    layers: u64,
    hidden: u64,
    /// Width inside a feed-forward: the widest, of those that a token enters.
    inner: u64,
    vocab: u64,
    heads: u64,
    queries: u64,
    /// Queries, keys and values together.
    fused: u64,
    keys: u64,
    /// Values of all matrices in the layers but routers and experts.
    matrices: u64,
    /// Values of the matrices of all experts.
    experts: u64,
    tied: bool,
    weights: u64,
    products: Products,
}

impl Footprint {
    /// Of a model with this config and these products.
    pub fn of(config: &ModelConfig, products: Products) -> Self {
        let [layers, hidden, dense, vocab, heads, key_heads, head] = [
            config.n_layers,
            config.hidden_size,
            config.intermediate_size,
            config.vocab_size,
            config.n_heads,
            config.n_kv_heads,
            config.head_dim,
        ]
        .map(|n| n as u64);
        let (queries, keys) = (heads * head, key_heads * head);
        let fused = queries + 2 * keys;
        let (mixtures, mixture, own, experts) = match &config.experts {
            None => (0, 0, 0, 0),
            Some(experts) => {
                let n = (0..config.n_layers).filter(|&layer| experts.in_layer(layer)).count();
                let [count, own] = [experts.n_experts, experts.intermediate_size].map(|n| n as u64);
                let biases = u64::from(config.mlp_bias) * (2 * own + hidden);
                let each = 3 * own * hidden;
                let n = n as u64;
                (n, count * (hidden + each + biases), own, n * count * each)
            }
        };
        let inner = match mixtures == layers {
            true => own,
            false => dense.max(own),
        };
        let biases = layers
            * (u64::from(config.qkv_bias) * fused + u64::from(config.output_bias) * hidden)
            + (layers - mixtures) * u64::from(config.mlp_bias) * (2 * dense + hidden);
        let norms = layers * (2 * hidden + u64::from(config.qk_norm()) * 2 * head) + hidden;
        let matrices =
            layers * (fused + queries) * hidden + (layers - mixtures) * 3 * dense * hidden;
        let tables = if config.tie_word_embeddings { 1 } else { 2 };
        let weights = matrices + mixtures * mixture + biases + norms + tables * vocab * hidden;
        Self {
            layers,
            hidden,
            inner,
            vocab,
            heads,
            queries,
            fused,
            keys,
            matrices,
            experts,
            tied: config.tie_word_embeddings,
            weights,
            products,
        }
    }

    /// Number of layers.
    pub fn layers(&self) -> u64 {
        self.layers
    }

    /// All weights, in f32.
    pub fn weights(&self) -> u64 {
        VALUE * self.weights
    }

    /// All weights of a frozen model whose matrices are held as the products read them: in half the
    /// bytes for bf16, but for routers.
    pub fn frozen(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 } * self.table();
        let read = VALUE * (self.matrices + self.experts) + tables;
        self.weights() - read + self.as_products_read(read)
    }

    /// The embedding table, or the head: the largest tensor of most models.
    pub fn table(&self) -> u64 {
        VALUE * self.vocab * self.hidden
    }

    /// The matrices that [`Decoder::packed`](crate::Decoder::packed) copies.
    pub fn packed(&self) -> u64 {
        self.as_products_read(VALUE * self.matrices + self.table())
    }

    /// Bytes of f32 values as the products take them.
    fn as_products_read(&self, bytes: u64) -> u64 {
        match self.products {
            Products::Full => bytes,
            Products::Bf16 => bytes / 2,
        }
    }

    /// Adapters on every layer.
    pub fn adapters(&self, config: &LoraConfig) -> u64 {
        let sizes = config.targets.iter().map(|target| match target {
            LoraTarget::QProj => self.hidden + self.queries,
            LoraTarget::KProj | LoraTarget::VProj => self.hidden + self.keys,
            LoraTarget::OProj => self.queries + self.hidden,
            LoraTarget::GateProj | LoraTarget::UpProj => self.hidden + self.inner,
            LoraTarget::DownProj => self.inner + self.hidden,
        });
        VALUE * self.layers * config.rank as u64 * sizes.sum::<u64>()
    }

    /// What a layer keeps of a token for its backward.
    fn layer_per_token(&self) -> u64 {
        VALUE * (2 * self.hidden + self.queries + self.heads)
            + self.as_products_read(VALUE * (self.fused + 2 * self.inner))
    }

    /// What a training forward keeps of a token for its backward, all layers together.
    pub fn kept_per_token(&self, checkpointing: Checkpointing) -> u64 {
        match checkpointing {
            Checkpointing::Off => self.layers * self.layer_per_token(),
            Checkpointing::PerLayer => self.layers * VALUE * self.hidden,
        }
    }

    /// What a forward that keeps nothing needs of a token while it is in a layer.
    pub fn forward_per_token(&self) -> u64 {
        let rounded = match self.products {
            Products::Full => 0,
            Products::Bf16 => 2 * self.inner,
        };
        self.layer_per_token() + VALUE * (2 * self.hidden + self.inner.max(rounded))
    }

    /// What the backward of a layer needs of a token beside what was kept: the fuller of its two
    /// halves and, if the layer is computed again, what it keeps.
    pub fn backward_per_token(&self, checkpointing: Checkpointing) -> u64 {
        let feed_forward = 3 * self.hidden + 3 * self.inner;
        let attention = 3 * self.hidden + 2 * self.queries + 2 * self.fused;
        let gradients = VALUE * feed_forward.max(attention);
        match checkpointing {
            Checkpointing::Off => gradients,
            Checkpointing::PerLayer => gradients + self.layer_per_token(),
        }
    }

    /// A hidden state.
    pub fn hidden_per_token(&self) -> u64 {
        VALUE * self.hidden
    }

    /// Logits of a token.
    pub fn logits_per_token(&self) -> u64 {
        VALUE * self.vocab
    }

    /// What a fused head on the CPU holds of `rows` tokens in a forward: logits, and the head if its
    /// products read it rounded.
    pub fn head_chunk(&self, rows: u64) -> u64 {
        let logits = (head_chunk_rows(self.vocab as usize) as u64).min(rows);
        logits * self.logits_per_token() + self.rounded_head()
    }

    /// The head as its products read it, if that is a copy: a forward and a backward have one each.
    pub fn rounded_head(&self) -> u64 {
        match self.products {
            Products::Full => 0,
            Products::Bf16 => self.table() / 2,
        }
    }

    /// Keys and values of a token in the cache.
    pub fn cache_per_token(&self) -> u64 {
        VALUE * self.layers * 2 * self.keys
    }
}
