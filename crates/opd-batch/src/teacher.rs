use std::fmt;

use crate::{
    Error, Ragged, Result, RolloutBatch, Rows, Source, SpanToken, logprob::check_row,
    span::check_spans,
};

/// A sequence to be scored: log-probs are wanted for the tokens of `response`.
#[derive(Clone, Copy, Debug)]
pub struct ScoredSequence<'a> {
    /// Context, at least one token.
    pub prompt: &'a [u32],
    /// Tokens to score.
    pub response: &'a [u32],
}

/// What a teacher is asked for beside the log-probs of the tokens themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted<'a> {
    /// Nothing more.
    Sampled,
    /// The teacher's `k` likeliest ids at every scored position, with their log-probs.
    TopK(usize),
    /// Log-probs of ids that the caller names, the same number at every scored position.
    Ids {
        /// Ids per position.
        k: usize,
        /// `[T * k]` ids, position after position, in the order of the response tokens.
        ids: &'a [u32],
    },
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampled => write!(f, "log-probs of the sampled tokens"),
            Self::TopK(k) => write!(f, "the {k} likeliest ids per position"),
            Self::Ids { k, .. } => write!(f, "log-probs of {k} named ids per position"),
        }
    }
}

impl fmt::Debug for Wanted<'_> {
    /// Says how many ids there are, not which: they may be millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sampled => write!(f, "Sampled"),
            Self::TopK(k) => write!(f, "TopK({k})"),
            Self::Ids { k, ids } => write!(f, "Ids {{ k: {k}, ids: [{} ids] }}", ids.len()),
        }
    }
}

/// What to score, and how.
#[derive(Clone, Debug)]
pub struct ScoreRequest<'a> {
    /// The sequences; identical prompts may be computed once.
    pub sequences: Vec<ScoredSequence<'a>>,
    /// Logits are divided by this before the softmax; above 0.
    pub temperature: f32,
    /// What to return beside the log-probs of the response tokens.
    pub wanted: Wanted<'a>,
    /// Where each sequence's prompt came from, which routes it to one of several teachers;
    /// empty where there is one teacher.
    pub sources: &'a [Source],
}

impl<'a> ScoreRequest<'a> {
    /// Every response of `batch` after the prompt that the teacher sees, at the temperature it
    /// was sampled at.
    pub fn for_batch(batch: &'a RolloutBatch, temperature: f32) -> Self {
        let pairs = batch.teacher_prompts().iter().zip(batch.responses().iter());
        let sequences = pairs.map(|(prompt, response)| ScoredSequence { prompt, response });
        Self {
            sequences: sequences.collect(),
            temperature,
            wanted: Wanted::Sampled,
            sources: batch.sources(),
        }
    }

    /// Row boundaries that the answer must have.
    pub fn rows(&self) -> Rows {
        Rows::from_lengths(self.sequences.iter().map(|sequence| sequence.response.len()))
    }
}

/// `k` ids of each position with their log-probs: likeliest first for [`Wanted::TopK`], in the
/// caller's order for [`Wanted::Ids`].
#[derive(Clone, Debug, PartialEq)]
pub struct TopLogprobs {
    /// Ids per position.
    pub k: usize,
    /// `[T * k]` ids.
    pub ids: Vec<u32>,
    /// `[T * k]` log-probs (nats); NaN at tokens without a score.
    pub logprobs: Vec<f32>,
}

/// What a teacher says of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct TeacherScores {
    /// Log-prob (nats) of each response token; `None` where the teacher gave none.
    ///
    /// A missing score is data: it leaves both numerator and denominator of the loss. Where
    /// there are [`spans`](Self::spans), each token of a span has the log-prob of all of it.
    pub logprobs: Ragged<Option<f32>>,
    /// What [`Wanted::TopK`] or [`Wanted::Ids`] asked for.
    pub top: Option<TopLogprobs>,
    /// Where each token stands in its span, if the teacher cuts text into other tokens than the
    /// student; without it every token is scored by itself.
    pub spans: Option<Ragged<SpanToken>>,
}

impl TeacherScores {
    /// Scores without a gap.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`] or [`Error::PositiveLogprob`], naming row and token.
    pub fn complete(logprobs: Ragged<f32>) -> Result<Self> {
        let scores = Self { logprobs: logprobs.map(|&value| Some(value)), top: None, spans: None };
        scores.check()?;
        Ok(scores)
    }

    /// Passes if every score is a log-prob, `top` has `k` entries per token, and the tokens of a
    /// span have one score.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`], [`Error::PositiveLogprob`] or [`Error::Span`], naming row and
    /// token; [`Error::Length`]; [`Error::Rows`].
    pub fn check(&self) -> Result<()> {
        for (row, scores) in self.logprobs.iter().enumerate() {
            check_row("teacher_logprobs", row, scores.iter().copied())?;
        }
        if let Some(spans) = &self.spans {
            check_spans(spans, &self.logprobs)?;
        }
        let Some(top) = &self.top else { return Ok(()) };
        let expected = self.logprobs.rows().n_tokens() * top.k;
        let streams = [("top ids", top.ids.len()), ("top log-probs", top.logprobs.len())];
        match streams.into_iter().find(|&(_, got)| got != expected) {
            Some((what, got)) => Err(Error::Length { what, expected, got }),
            None => Ok(()),
        }
    }

    /// Number of tokens that should have a score and have none.
    pub fn n_missing(&self) -> usize {
        self.logprobs.values().iter().filter(|score| score.is_none()).count() - self.n_unaligned()
    }

    /// Number of tokens for which the teacher has no counterpart.
    pub fn n_unaligned(&self) -> usize {
        let spans = self.spans.iter().flat_map(|spans| spans.values());
        spans.filter(|&&token| token == SpanToken::Unaligned).count()
    }
}

/// Scores sequences under a frozen model.
///
/// The call takes everything at once and blocks. A remote backend sends its requests
/// concurrently inside; a caller that wants to overlap scoring with other work runs it on a
/// thread. So this crate needs no async runtime, and a loop of one request at a time cannot
/// be written against it.
pub trait Teacher: Send + Sync {
    /// Name for logs and errors, e.g. `"qwen3-32b@localhost:8001"`.
    fn name(&self) -> &str;

    /// What the scores depend on beside the request: the model and the version of its weights.
    ///
    /// Two teachers of one identity give one score, so that stored scores may be used again.
    /// A remote backend asks its server, whose weights may have changed.
    ///
    /// # Errors
    ///
    /// [`Error::Teacher`] if it cannot be known.
    fn identity(&self) -> Result<String> {
        Ok(self.name().to_owned())
    }

    /// Log-prob (nats) of every response token, given its prompt and the response before it.
    ///
    /// Rows are those of [`ScoreRequest::rows`].
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the backend cannot give what is wanted,
    /// [`Error::Teacher`] if it fails.
    fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores>;
}

macro_rules! forward_teacher {
    ($($pointer:ty),*) => {$(
        impl<T: Teacher + ?Sized> Teacher for $pointer {
            fn name(&self) -> &str {
                (**self).name()
            }

            fn identity(&self) -> Result<String> {
                (**self).identity()
            }

            fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
                (**self).score(request)
            }
        }
    )*};
}

forward_teacher!(&T, Box<T>, std::sync::Arc<T>);

#[cfg(test)]
mod tests {
    use super::Wanted;

    #[test]
    fn what_is_wanted_is_said_without_the_ids() {
        let ids = vec![7; 100_000];
        let wanted = Wanted::Ids { k: 100, ids: &ids };
        assert_eq!(wanted.to_string(), "log-probs of 100 named ids per position");
        assert_eq!(format!("{wanted:?}"), "Ids { k: 100, ids: [100000 ids] }");
        assert_eq!(Wanted::TopK(3).to_string(), "the 3 likeliest ids per position");
    }
}
