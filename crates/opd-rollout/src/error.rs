/// Why sampling failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A sampling setting outside its range.
    #[error("{what} must be {expected}, got {got}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        got: String,
    },

    /// A prompt without tokens.
    #[error("prompt {index} is empty; a model needs at least one token")]
    EmptyPrompt {
        /// Index of the request.
        index: usize,
    },

    /// A prompt that leaves no room for a response.
    #[error(
        "prompt {index} has {length} tokens, the model's context holds {context} with at least one for the response; shorten it or drop it"
    )]
    PromptTooLong {
        /// Index of the request.
        index: usize,
        /// Tokens of the prompt.
        length: usize,
        /// The context.
        context: usize,
    },

    /// A token id outside the vocabulary.
    #[error("prompt {index}: token id {id} is outside the vocabulary of {vocab}")]
    TokenId {
        /// Index of the request.
        index: usize,
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: usize,
    },

    /// Logits from which nothing can be drawn.
    #[error(
        "sequence {index}: the logits of response token {token} are not finite; the model's weights are damaged or training diverged"
    )]
    NotFinite {
        /// Index of the request.
        index: usize,
        /// Token within the response.
        token: usize,
    },

    /// The model failed.
    #[error(transparent)]
    Model(#[from] opd_models::Error),

    /// A kernel failed.
    #[error(transparent)]
    Kernel(#[from] opd_kernels::Error),

    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// The same fault of the request that comes `by` requests later.
    pub(crate) fn shifted(self, by: usize) -> Self {
        match self {
            Self::NotFinite { index, token } => Self::NotFinite { index: index + by, token },
            other => other,
        }
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
