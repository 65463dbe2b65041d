use std::path::PathBuf;

/// Why a teacher cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The teacher's tokenizer is not the student's.
    #[error("teacher {}: token ids do not agree with the student's", teacher.display())]
    Tokenizer {
        /// The teacher's directory.
        teacher: PathBuf,
        /// On which token they differ.
        #[source]
        source: Box<opd_models::Error>,
    },

    /// The teacher embeds fewer tokens than the student may sample.
    #[error(
        "teacher {}: vocabulary of {teacher_vocab}, the student samples from {student_vocab}; teacher and student must share one vocabulary",
        teacher.display()
    )]
    Vocabulary {
        /// The teacher's directory.
        teacher: PathBuf,
        /// The teacher's `vocab_size`.
        teacher_vocab: usize,
        /// The student's.
        student_vocab: usize,
    },

    /// The teacher's context is shorter than the sequences to score.
    #[error(
        "teacher {}: a context of {context} tokens, sequences may have {needed}; shorten the responses or take another teacher",
        teacher.display()
    )]
    Context {
        /// The teacher's directory.
        teacher: PathBuf,
        /// The teacher's context.
        context: usize,
        /// Longest prompt plus response.
        needed: usize,
    },

    /// More likeliest ids are wanted than there are.
    #[error(
        "the {k} likeliest ids per position: the vocabulary holds {vocab}; ask for at most {vocab}"
    )]
    TopK {
        /// Ids wanted.
        k: usize,
        /// The teacher's `vocab_size`.
        vocab: usize,
    },

    /// The named ids are not `k` for each response token.
    #[error("named ids: expected {expected}, {k} for each of {tokens} response tokens, got {got}")]
    NamedIds {
        /// Ids per position.
        k: usize,
        /// Response tokens in all.
        tokens: usize,
        /// `k * tokens`.
        expected: usize,
        /// How many there are.
        got: usize,
    },

    /// A named id that the teacher has no logit for.
    #[error(
        "named id {id} (number {place}) at token {token} of response {sequence} is outside the vocabulary of {vocab}"
    )]
    NamedId {
        /// Index of the sequence.
        sequence: usize,
        /// Token of its response.
        token: usize,
        /// Place among the position's ids.
        place: usize,
        /// The id.
        id: u32,
        /// The teacher's `vocab_size`.
        vocab: usize,
    },

    /// The scores are no log-probs.
    #[error(transparent)]
    Batch(#[from] opd_batch::Error),

    /// A kernel refused its input.
    #[error(transparent)]
    Kernel(#[from] opd_kernels::Error),

    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] opd_models::Error),
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
