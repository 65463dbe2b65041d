use crate::{Error, Ragged, Result, RolloutBatch, SpanToken, TeacherScores};

/// A rollout batch and every per-token stream that estimators read.
///
/// All streams share the rows of [`RolloutBatch::responses`].
#[derive(Clone, Debug)]
pub struct ScoredBatch<'a> {
    rollouts: &'a RolloutBatch,
    old_logprobs: Ragged<f32>,
    teacher: Option<TeacherScores>,
    reference_logprobs: Option<Ragged<f32>>,
    values: Option<Ragged<f32>>,
    mask: Ragged<bool>,
}

impl<'a> ScoredBatch<'a> {
    /// A batch with the log-probs (nats) of the student before this batch's updates.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] or [`Error::NotFinite`].
    pub fn new(rollouts: &'a RolloutBatch, old_logprobs: Ragged<f32>) -> Result<Self> {
        checked(&old_logprobs, rollouts, "old_logprobs")?;
        let mask = rollouts.loss_mask().clone();
        Ok(Self {
            rollouts,
            old_logprobs,
            teacher: None,
            reference_logprobs: None,
            values: None,
            mask,
        })
    }

    /// A batch that takes the sampler's log-probs as the old ones.
    ///
    /// Right only where the sampler computes what the student computes, as the in-process
    /// engine does in f32.
    pub fn from_sampler(rollouts: &'a RolloutBatch) -> Self {
        Self {
            rollouts,
            old_logprobs: rollouts.sampler_logprobs().clone(),
            teacher: None,
            reference_logprobs: None,
            values: None,
            mask: rollouts.loss_mask().clone(),
        }
    }

    /// Adds the teacher's scores; tokens without a score leave [`Self::mask`].
    ///
    /// # Errors
    ///
    /// [`Error::Rows`], or those of [`TeacherScores::check`].
    pub fn with_teacher(mut self, scores: TeacherScores) -> Result<Self> {
        scores.check()?;
        self.mask = self.rollouts.loss_mask().zip_with(
            &scores.logprobs,
            "teacher_logprobs",
            |&mask, score| mask && score.is_some(),
        )?;
        self.teacher = Some(scores);
        Ok(self)
    }

    /// Adds log-probs (nats) of the frozen start policy.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] or [`Error::NotFinite`].
    pub fn with_reference(mut self, logprobs: Ragged<f32>) -> Result<Self> {
        checked(&logprobs, self.rollouts, "reference_logprobs")?;
        self.reference_logprobs = Some(logprobs);
        Ok(self)
    }

    /// Adds value estimates, one per response token.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] or [`Error::NotFinite`].
    pub fn with_values(mut self, values: Ragged<f32>) -> Result<Self> {
        checked(&values, self.rollouts, "values")?;
        self.values = Some(values);
        Ok(self)
    }

    /// Trains only on tokens at which `mask` is true, too.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`].
    pub fn masked(mut self, mask: &Ragged<bool>) -> Result<Self> {
        self.mask = self.mask.zip_with(mask, "mask", |&own, &other| own && other)?;
        Ok(self)
    }

    /// The rollouts.
    pub fn rollouts(&self) -> &'a RolloutBatch {
        self.rollouts
    }

    /// Log-probs (nats) of the student before this batch's updates.
    pub fn old_logprobs(&self) -> &Ragged<f32> {
        &self.old_logprobs
    }

    /// Tokens that are trained on: the loss mask less those without a teacher's score.
    pub fn mask(&self) -> &Ragged<bool> {
        &self.mask
    }

    /// The teacher's scores, if there is a teacher.
    pub fn teacher(&self) -> Option<&TeacherScores> {
        self.teacher.as_ref()
    }

    /// The teacher's log-probs.
    ///
    /// # Errors
    ///
    /// [`Error::MissingStream`] naming `needed_by` if no teacher scored the batch.
    pub fn teacher_logprobs(&self, needed_by: &'static str) -> Result<&Ragged<Option<f32>>> {
        let scores = self.teacher.as_ref().ok_or(Error::MissingStream {
            needed_by,
            what: "teacher log-probs",
            remedy: "call `Teacher::score` and `ScoredBatch::with_teacher` first",
        })?;
        Ok(&scores.logprobs)
    }

    /// Each token's value (nats), or the sum over its span where the teacher scored spans: what
    /// is to be compared with [`Self::teacher_logprobs`].
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] if `logprobs` has other rows than the batch.
    pub fn per_span(&self, logprobs: &Ragged<f32>) -> Result<Vec<f64>> {
        logprobs.check_rows(self.rollouts.rows(), "log-probs to be summed over spans")?;
        let mut values: Vec<f64> = logprobs.values().iter().map(|&x| x.into()).collect();
        let mut start = 0;
        for token in 0..values.len() {
            if self.ends_span(token) {
                let sum = values[start..=token].iter().sum();
                values[start..=token].fill(sum);
                start = token + 1;
            }
        }
        Ok(values)
    }

    /// Whether a token, by its place in the packed streams, is the last of what the teacher
    /// scored as one.
    pub fn ends_span(&self, token: usize) -> bool {
        let spans = self.teacher.as_ref().and_then(|scores| scores.spans.as_ref());
        spans.is_none_or(|spans| spans.values().get(token) != Some(&SpanToken::Inside))
    }

    /// Log-probs of the frozen start policy.
    ///
    /// # Errors
    ///
    /// [`Error::MissingStream`] naming `needed_by` if there are none.
    pub fn reference_logprobs(&self, needed_by: &'static str) -> Result<&Ragged<f32>> {
        self.reference_logprobs.as_ref().ok_or(Error::MissingStream {
            needed_by,
            what: "reference log-probs",
            remedy: "score the batch with the start policy and call `ScoredBatch::with_reference`",
        })
    }

    /// Value estimates.
    ///
    /// # Errors
    ///
    /// [`Error::MissingStream`] naming `needed_by` if there are none.
    pub fn values(&self, needed_by: &'static str) -> Result<&Ragged<f32>> {
        self.values.as_ref().ok_or(Error::MissingStream {
            needed_by,
            what: "value estimates",
            remedy: "call `ScoredBatch::with_values`",
        })
    }
}

fn checked(stream: &Ragged<f32>, rollouts: &RolloutBatch, what: &'static str) -> Result<()> {
    stream.check_rows(rollouts.rows(), what)?;
    stream.check_finite(what)
}
