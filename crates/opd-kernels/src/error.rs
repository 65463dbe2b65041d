use candle_core::DType;

/// Why a kernel refused its input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has the wrong shape.
    #[error("{op}: {what} must be {expected}, got {got:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The tensor.
        what: &'static str,
        /// The shape it must have.
        expected: String,
        /// The shape it has.
        got: Vec<usize>,
    },

    /// A tensor has a dtype for which there is no kernel, or another than its partner.
    #[error("{op}: {what} is {got:?}; {remedy}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The tensor.
        what: &'static str,
        /// The dtype it has.
        got: DType,
        /// What to do.
        remedy: &'static str,
    },

    /// There is no kernel for this device.
    #[error("{op}: no kernel for device {device}; move the tensors to the CPU")]
    Device {
        /// The operation.
        op: &'static str,
        /// Where the tensors are.
        device: String,
    },

    /// A token id that the vocabulary does not hold.
    #[error("{op}: token id {id} at position {position} is outside the vocabulary of {vocab}")]
    TokenId {
        /// The operation.
        op: &'static str,
        /// Place in the packed tokens.
        position: usize,
        /// The id.
        id: u32,
        /// Number of entries.
        vocab: usize,
    },

    /// A row or position beyond the end of what it indexes.
    #[error("{op}: {what} {got} (entry {index}) does not exist; there are {len}")]
    Index {
        /// The operation.
        op: &'static str,
        /// What the number names.
        what: &'static str,
        /// Its place among its like.
        index: usize,
        /// The number.
        got: usize,
        /// How many there are.
        len: usize,
    },

    /// A tensor that is changed in place shares its storage with one that is read.
    #[error("{op}: {changed} and {other} share their storage; give {other} a copy")]
    Shared {
        /// The operation.
        op: &'static str,
        /// The tensor that is changed.
        changed: &'static str,
        /// The other.
        other: &'static str,
    },

    /// A scalar setting outside its range.
    #[error("{op}: {what} must be {expected}, got {got}")]
    Setting {
        /// The operation.
        op: &'static str,
        /// The setting.
        what: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        got: f64,
    },

    /// candle failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Candle(error) => error,
            other => candle_core::Error::wrap(other),
        }
    }
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
