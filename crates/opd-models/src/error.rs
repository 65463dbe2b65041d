use std::path::PathBuf;

use candle_core::DType;

/// Why a model cannot be loaded, run or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// `read`, `write`, ..
        action: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// A JSON file is malformed or lacks a field.
    #[error("{}: {what}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Which field, expected, got.
        what: String,
    },

    /// An architecture that there is no forward for.
    #[error(
        "{}: architecture `{got}` is not supported; supported: {supported}",
        path.display()
    )]
    Architecture {
        /// The `config.json`.
        path: PathBuf,
        /// What it names.
        got: String,
        /// What there is.
        supported: String,
    },

    /// A weight file is damaged.
    #[error("{}: {what}; fetch or save it again", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },

    /// A GGUF file says what there is no model for.
    #[error("{}: {what}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Which entry, expected, got.
        what: String,
    },

    /// A model of the hub cannot be fetched.
    #[error("{id} of {endpoint}: {what}; {remedy}")]
    Hub {
        /// Name and revision.
        id: String,
        /// The server.
        endpoint: String,
        /// Why.
        what: String,
        /// What to do.
        remedy: String,
    },

    /// A tensor that the architecture needs is not in the files.
    #[error("{}: tensor `{name}` {expected:?} is missing", path.display())]
    MissingTensor {
        /// The model directory.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Shape it should have.
        expected: Vec<usize>,
    },

    /// A tensor has another shape than the config implies.
    #[error("{}: tensor `{name}` has shape {got:?}, config.json implies {expected:?}", path.display())]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// Shape that the config implies.
        expected: Vec<usize>,
        /// Shape in the file.
        got: Vec<usize>,
    },

    /// A tensor that the architecture would not use.
    #[error(
        "{}: tensor `{name}` is not part of {architecture}; the checkpoint is of another architecture than config.json says",
        path.display()
    )]
    UnusedTensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor.
        name: String,
        /// What config.json names.
        architecture: &'static str,
    },

    /// A dtype that weights cannot be read from or computed in.
    #[error("{what}: dtype {got:?} is not supported; use {supported}")]
    DType {
        /// What has it.
        what: String,
        /// The dtype.
        got: DType,
        /// What there is.
        supported: &'static str,
    },

    /// A sequence is longer than the model's context.
    #[error(
        "sequence {index} has {length} tokens, the model's context holds {context}; shorten the prompt or the response"
    )]
    TooLong {
        /// Index of the sequence.
        index: usize,
        /// Its length.
        length: usize,
        /// `max_position_embeddings`, or the window of attention where that is shorter.
        context: usize,
    },

    /// A prompt or response has no tokens.
    #[error("{what} of sequence {index} is empty; a model needs at least one token")]
    EmptySequence {
        /// `prompt` or `response`.
        what: &'static str,
        /// Index of the sequence.
        index: usize,
    },

    /// A token id that the model has no embedding for.
    #[error(
        "token id {id} at token {position} of sequence {index} is outside the vocabulary of {vocab}"
    )]
    TokenId {
        /// Index of the sequence.
        index: usize,
        /// Place in prompt plus response.
        position: usize,
        /// The id.
        id: u32,
        /// `vocab_size`.
        vocab: usize,
    },

    /// A cache that was made for another model.
    #[error("the cache has {got} layers, the model {expected}; make it from the model's config")]
    Cache {
        /// Layers of the model.
        expected: usize,
        /// Layers of the cache.
        got: usize,
    },

    /// A loss of more than one value.
    #[error("the loss must be a scalar, got shape {got:?}; sum or average it")]
    NotScalar {
        /// Its shape.
        got: Vec<usize>,
    },

    /// There is no memory for what a config asks for.
    #[error("tensor `{name}` {shape:?} does not fit into memory; check the sizes in config.json")]
    TooLarge {
        /// Name of the tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },

    /// A model that is run and not trained.
    #[error("{what} cannot be trained, for it has no backward; take it as a teacher")]
    Frozen {
        /// What has no backward.
        what: &'static str,
    },

    /// A model whose matrices are held as their files have them, or as products read them, is asked for
    /// more than a forward.
    #[error(
        "{}: `{name}` is held for reading alone and cannot be {action}; load the model in f32, or train adapters on it",
        path.display()
    )]
    Encoded {
        /// Where the model was loaded from.
        path: PathBuf,
        /// The first such tensor.
        name: String,
        /// `trained`, `replaced`.
        action: &'static str,
    },

    /// Adapters cannot be made, loaded or saved.
    #[error("LoRA: {what}")]
    Lora {
        /// Why.
        what: String,
    },

    /// The loss does not depend on the model.
    #[error(
        "the loss has no gradient for the hidden states; compute it from the tensors that the closure is given"
    )]
    NoGradient,

    /// A value of a tensor is NaN or infinite.
    #[error("{what} of `{name}` is not finite")]
    NotFinite {
        /// `gradient`, `weight`, ..
        what: &'static str,
        /// The parameter.
        name: String,
    },

    /// A tokenizer file cannot be used.
    #[error("{}: {what}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },

    /// A chat template is missing or cannot be used.
    #[error("{}: {what}", path.display())]
    ChatTemplate {
        /// The file.
        path: PathBuf,
        /// Why.
        what: String,
    },

    /// A kernel refused its input.
    #[error(transparent)]
    Kernel(#[from] opd_kernels::Error),

    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn io(
        path: impl Into<PathBuf>,
        action: &'static str,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, action, source }
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
