use opd_kernels::Heads;

/// A batch of packed rows and the model that it goes through.
#[derive(Clone, Debug)]
pub struct Size {
    /// As benches name it: tokens and vocabulary.
    pub name: &'static str,
    /// Tokens of each row.
    pub lengths: Vec<usize>,
    /// Tokens that the model tells apart.
    pub vocab: usize,
    /// Of the hidden states.
    pub width: usize,
    /// Of the feed-forward layers.
    pub inner: usize,
    /// Of the attention.
    pub heads: Heads,
}

impl Size {
    /// Every size, small ones first.
    pub fn all() -> [Self; 4] {
        let heads = |heads, kv_heads, head_dim| Heads { heads, kv_heads, head_dim };
        [
            Self {
                name: "64x320",
                lengths: vec![8; 8],
                vocab: 320,
                width: 64,
                inner: 176,
                heads: heads(4, 4, 16),
            },
            Self {
                name: "512x49152",
                lengths: vec![128; 4],
                vocab: 49_152,
                width: 576,
                inner: 1536,
                heads: heads(9, 3, 64),
            },
            // Rows of 64 to 512 tokens, evenly, and a vocabulary that no power of 2 divides.
            Self {
                name: "ragged",
                lengths: (0..16).map(|row| 64 + row * 7 % 16 * 448 / 15).collect(),
                vocab: 5003,
                width: 576,
                inner: 1536,
                heads: heads(9, 3, 64),
            },
            Self {
                name: "2048x151936",
                lengths: vec![512; 4],
                vocab: 151_936,
                width: 1024,
                inner: 3072,
                heads: heads(16, 8, 128),
            },
        ]
    }

    /// Tokens of all rows.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Bytes of logits in f32.
    pub(crate) fn logits_bytes(&self) -> usize {
        4 * self.tokens() * self.vocab
    }

    /// Bytes of hidden states in f32.
    pub(crate) fn hidden_bytes(&self) -> usize {
        4 * self.tokens() * self.width
    }

    /// Bytes of a head in f32.
    pub(crate) fn head_bytes(&self) -> usize {
        4 * self.vocab * self.width
    }

    /// Bytes of fused queries, keys and values in f32.
    pub(crate) fn qkv_bytes(&self) -> usize {
        4 * self.tokens() * self.heads.total() * self.heads.head_dim
    }
}
