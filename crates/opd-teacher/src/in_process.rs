use std::path::Path;

use candle_core::{DType, Device};
use opd_batch::{Ragged, ScoreRequest, ScoredSequence, Teacher, TeacherScores};
use opd_models::{CausalLm, Packed, Tokenizer};

use crate::{DistributionTeacher, Error, Result, States, candidates::Candidates};

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
        Self { name, model, token_budget: TOKEN_BUDGET }
    }

    /// At most this many tokens (at least those of one sequence) are computed at once.
    #[must_use]
    pub fn with_token_budget(mut self, token_budget: usize) -> Self {
        self.token_budget = token_budget;
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
        let context = self.model.config().context;
        if context < longest {
            return Err(Error::Context { teacher: teacher(), context, needed: longest });
        }
        let has_tokenizer = |model: &CausalLm| model.source().join("tokenizer.json").exists();
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

    fn all_scores(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let config = self.model.config();
        config.check_sequences(&request.sequences)?;
        let mut candidates = Candidates::of(request, config.vocab_size)?;
        let mut logprobs = Vec::new();
        for chunk in chunks(&request.sequences, self.token_budget) {
            let packed = self.model.pack(chunk)?;
            let temperature = f64::from(request.temperature);
            match &mut candidates {
                None => logprobs.extend(self.logprobs(&packed, temperature)?),
                Some(candidates) => {
                    let hidden = self.model.hidden(&packed)?;
                    candidates.score(
                        &hidden,
                        self.model.head(),
                        chunk,
                        temperature,
                        &mut logprobs,
                    )?;
                }
            }
        }
        let logprobs = Ragged::new("teacher_logprobs", request.rows(), logprobs)?;
        let scores = TeacherScores::complete(logprobs)?;
        Ok(TeacherScores { top: candidates.map(Candidates::finish), ..scores })
    }

    fn logprobs(&self, packed: &Packed, temperature: f64) -> Result<Vec<f32>> {
        let scores = self.model.token_logprobs(packed, temperature)?;
        let values = scores.logprobs.to_dtype(DType::F32).and_then(|t| t.to_vec1::<f32>());
        Ok(values.map_err(opd_models::Error::from)?)
    }
}

impl DistributionTeacher for InProcessTeacher {
    fn states(&self, sequences: &[ScoredSequence<'_>]) -> Result<States> {
        let hidden = self.model.hidden(&self.model.pack(sequences)?)?;
        Ok(States { hidden, head: self.model.head().clone() })
    }
}

impl Teacher for InProcessTeacher {
    fn name(&self) -> &str {
        &self.name
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

/// Runs of whole sequences of at most `budget` tokens each, but at least one sequence.
fn chunks<'s, 'a>(
    sequences: &'s [ScoredSequence<'a>],
    budget: usize,
) -> impl Iterator<Item = &'s [ScoredSequence<'a>]> {
    let mut rest = sequences;
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|sequence| {
            tokens += sequence.prompt.len() + sequence.response.len();
            tokens <= budget
        });
        let n = fits.count().max(1).min(rest.len());
        let (chunk, after) = rest.split_at(n);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}
