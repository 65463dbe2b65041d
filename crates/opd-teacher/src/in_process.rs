use std::{path::Path, sync::OnceLock};

use candle_core::{DType, Device};
use opd_batch::{Ragged, ScoreRequest, ScoredSequence, Teacher, TeacherScores};
use opd_kernels::{Head, Products};
use opd_models::{CausalLm, LoraConfig, Tokenizer, chunks};

use crate::{DistributionTeacher, Error, Result, States, candidates::Candidates, digest::digest};

/// Tokens that one forward computes at most, unless told otherwise.
const TOKEN_BUDGET: usize = 4096;

/// A frozen model in this process: any architecture that `opd-models` loads; no graph is kept.
///
/// Temperature is honoured exactly, every [`Wanted`](opd_batch::Wanted) is given exactly, and a
/// prompt that several sequences share is computed once. `[T, V]` logits exist for a chunk of
/// positions at a time.
#[derive(Debug)]
pub struct InProcessTeacher {
    name: String,
    model: CausalLm,
    token_budget: usize,
    digest: OnceLock<String>,
}

impl InProcessTeacher {
    /// Loads a teacher from a Hugging Face directory.
    ///
    /// # Errors
    ///
    /// [`Error::Model`].
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self::new(CausalLm::load(dir, dtype, device)?))
    }

    /// Takes a loaded model as teacher.
    pub fn new(model: CausalLm) -> Self {
        let name = model.source().display().to_string();
        Self { name, model, token_budget: TOKEN_BUDGET, digest: OnceLock::new() }
    }

    /// At most this many tokens (at least those of one sequence) are computed at once.
    #[must_use]
    pub fn with_token_budget(mut self, token_budget: usize) -> Self {
        self.token_budget = token_budget;
        self
    }

    /// Under another name than its directory's, for logs and errors.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        &self.model
    }

    /// Passes if this teacher can score what `student` samples: one tokenizer, a vocabulary
    /// that holds the student's ids, a context of at least `longest` tokens.
    ///
    /// Tokenizers are compared, not tensor sizes: a config's `vocab_size` may count padding
    /// rows. Where neither directory has a tokenizer the sizes must agree.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`], [`Error::Vocabulary`] or [`Error::Context`].
    pub fn check_student(&self, student: &CausalLm, longest: usize) -> Result<()> {
        let teacher = || self.model.source().to_owned();
        self.check_context(longest)?;
        let has_tokenizer = |model: &CausalLm| Tokenizer::exists(model.source());
        let with_tokenizer = has_tokenizer(&self.model) || has_tokenizer(student);
        if with_tokenizer {
            Tokenizer::load(student.source())?
                .check_same(&Tokenizer::load(self.model.source())?)
                .map_err(|source| Error::Tokenizer { teacher: teacher(), source: Box::new(source) })?;
        }
        let (teacher_vocab, student_vocab) =
            (self.model.config().vocab_size, student.config().vocab_size);
        if teacher_vocab < student_vocab || (!with_tokenizer && teacher_vocab != student_vocab) {
            return Err(Error::Vocabulary { teacher: teacher(), teacher_vocab, student_vocab });
        }
        Ok(())
    }

    /// Passes if the context holds `longest` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Context`].
    pub fn check_context(&self, longest: usize) -> Result<()> {
        let context = self.model.config().context;
        match context < longest {
            true => {
                let teacher = self.model.source().to_owned();
                Err(Error::Context { teacher, context, needed: longest })
            }
            false => Ok(()),
        }
    }

    fn all_scores(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let (config, sequences) = (self.model.config(), &request.sequences);
        config.check_sequences(sequences)?;
        let temperature = f64::from(request.temperature);
        let mut candidates = Candidates::of(request, config.vocab_size)?;
        let logprobs = match &mut candidates {
            None => self.model.sequence_logprobs(sequences, temperature, self.token_budget)?,
            Some(candidates) => {
                let mut logprobs = Vec::new();
                for chunk in chunks(sequences, self.token_budget) {
                    let hidden = self.model.hidden(&self.model.pack(chunk)?)?;
                    let head = self.model.head();
                    candidates.score(&hidden, head, chunk, temperature, &mut logprobs)?;
                }
                logprobs
            }
        };
        let logprobs = Ragged::new("teacher_logprobs", request.rows(), logprobs)?;
        let scores = TeacherScores::complete(logprobs)?;
        Ok(TeacherScores { top: candidates.map(Candidates::finish), ..scores })
    }
}

impl DistributionTeacher for InProcessTeacher {
    fn states(&self, sequences: &[ScoredSequence<'_>]) -> Result<States> {
        let hidden = self.model.hidden(&self.model.pack(sequences)?)?;
        let Head { weight, products, .. } = self.model.head();
        Ok(States { hidden, head: weight.detach(), products })
    }
}

impl Teacher for InProcessTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> opd_batch::Result<String> {
        if let Some(digest) = self.digest.get() {
            return Ok(digest.clone());
        }
        let of = |dir: &Path| {
            digest(dir).map_err(|source| opd_batch::Error::Teacher {
                teacher: self.name.clone(),
                source: Box::new(source),
            })
        };
        let mut identity = format!("in-process model sha256:{}", of(self.model.source())?);
        if let Some(adapter) = self.model.adapter_source() {
            let scale = self.model.lora().map_or(0.0, LoraConfig::scale);
            identity += &format!(" with adapter sha256:{} at scale {scale}", of(adapter)?);
        }
        if self.model.products() == Products::Bf16 {
            identity += " with bf16 products";
        }
        Ok(self.digest.get_or_init(|| identity).clone())
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        self.all_scores(request).map_err(|error| match error {
            Error::Batch(error) => error,
            source => {
                opd_batch::Error::Teacher { teacher: self.name.clone(), source: Box::new(source) }
            }
        })
    }
}
