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

    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] opd_models::Error),
}

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
