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

    /// A directory that does not say which id ends a response.
    #[error("{}: neither generation_config.json nor config.json has an `eos_token_id`; the end of a response would have no counterpart: copy one of them from the model's repository", dir.display())]
    NoEnd {
        /// The directory.
        dir: PathBuf,
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
    /// A server cannot be asked.
    #[error(transparent)]
    Http(#[from] opd_http::Error),

    /// A server refused one sequence.
    #[error("row {row} of the batch")]
    Row {
        /// Row of the batch.
        row: usize,
        /// What it said.
        #[source]
        source: opd_http::Error,
    },

    /// A server that does not say what it serves.
    #[error(
        "{url} does not say which model it serves: it is no {kind} server; look at the address and the teacher's type"
    )]
    NoDescription {
        /// Its address.
        url: String,
        /// `sglang` or `vllm`.
        kind: &'static str,
    },

    /// Servers of one teacher that are not the same.
    #[error(
        "{first}, but {other}; the addresses of one teacher must serve one model, with one version of its weights"
    )]
    Endpoints {
        /// The first server and what it has.
        first: String,
        /// Another, and what that has.
        other: String,
    },

    /// A sequence that a server must not be sent.
    #[error(
        "teacher `{teacher}`: row {row} has id {id} at token {place}, and its vocabulary holds {vocab_size}; do student and teacher share a tokenizer?"
    )]
    TokenId {
        /// Name of the teacher.
        teacher: String,
        /// Row of the batch.
        row: usize,
        /// Token within prompt and response.
        place: usize,
        /// The id.
        id: u32,
        /// Ids are below this.
        vocab_size: usize,
    },

    /// A sequence without a prompt.
    #[error("teacher `{teacher}`: row {row} has no prompt; nothing predicts its first token")]
    EmptyPrompt {
        /// Name of the teacher.
        teacher: String,
        /// Row of the batch.
        row: usize,
    },

    /// A sequence longer than a server takes.
    #[error(
        "teacher `{teacher}`: row {row} has {length} tokens, and it takes {longest} at most; raise the server's context length or shorten prompts and responses"
    )]
    TooLong {
        /// Name of the teacher.
        teacher: String,
        /// Row of the batch.
        row: usize,
        /// Tokens of prompt and response.
        length: usize,
        /// What the server takes, its margin deducted.
        longest: usize,
    },

    /// Weights that keep changing.
    #[error(
        "teacher `{teacher}`: its weights changed during each of {times} attempts to score a batch; leave them alone while a batch is scored"
    )]
    Weights {
        /// Name of the teacher.
        teacher: String,
        /// Attempts.
        times: usize,
    },

    /// A server that scored at another temperature than it was asked for.
    #[error("scores at temperature {temperature} were asked for and not given")]
    Temperature {
        /// What was asked for.
        temperature: f32,
    },

    /// The journal of scores.
    #[error("journal {}: {what}", path.display())]
    Journal {
        /// Its file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },

    /// Scores that a journal does not hold.
    #[error("journal {}: {missing} of {rows} sequences have no score by `{identity}`, the first in row {row}; score them with the teacher itself", path.display())]
    NotInJournal {
        /// Its file.
        path: PathBuf,
        /// Whose scores.
        identity: String,
        /// The first sequence that is missing.
        row: usize,
        /// How many are.
        missing: usize,
        /// Sequences in the batch.
        rows: usize,
    },

    /// A source of prompts that no teacher is for.
    #[error(
        "no teacher is for prompts of source `{source_name}`; there are teachers for {known}; add its tag to a teacher, or leave one teacher without tags for all others"
    )]
    UnknownSource {
        /// The source.
        source_name: String,
        /// Tags of all teachers.
        known: String,
    },

    /// Teachers that do not go together.
    #[error("{what}")]
    Teachers {
        /// What is wrong, and what to do.
        what: String,
    },

    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(#[from] opd_models::Error),
}

/// A result whose error is [`Error`], unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;
