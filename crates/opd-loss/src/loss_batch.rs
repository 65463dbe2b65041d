use opd_batch::{Ragged, Rows, ScoredBatch};

use crate::{Aggregation, Error, Result, Totals};

/// Everything a loss reads beside the model's own output: plain host data of a whole batch, or
/// of a micro-batch that keeps the whole batch's weights.
///
/// All streams share their rows. Where the mask is false the other streams mean nothing.
#[derive(Clone, Debug)]
pub struct LossBatch {
    origin: Vec<usize>,
    targets: Ragged<u32>,
    old_logprobs: Ragged<f32>,
    sampler_logprobs: Ragged<f32>,
    teacher_logprobs: Option<Ragged<Option<f32>>>,
    teacher_top: Option<TeacherTop>,
    reference_logprobs: Option<Ragged<f32>>,
    advantages: Ragged<f32>,
    mask: Ragged<bool>,
    weights: Ragged<f32>,
}

/// The same number of ids per token, with the teacher's log-probs.
#[derive(Clone, Debug)]
struct TeacherTop {
    k: usize,
    /// Rows of `k` entries a token, a token's entries side by side.
    entries: Ragged<(u32, f32)>,
}

impl TeacherTop {
    fn of(scored: &ScoredBatch<'_>) -> Result<Option<Self>> {
        let Some(top) = scored.teacher().and_then(|scores| scores.top.as_ref()) else {
            return Ok(None);
        };
        let lengths = scored.rollouts().rows().lengths().map(|n| n * top.k);
        let entries = top.ids.iter().copied().zip(top.logprobs.iter().copied()).collect();
        let rows = Rows::from_lengths(lengths);
        Ok(Some(Self { k: top.k, entries: Ragged::new("top log-probs", rows, entries)? }))
    }
}

impl LossBatch {
    /// A whole batch: its own trained sequences and tokens are the totals.
    ///
    /// # Errors
    ///
    /// [`Error::AllMasked`]; [`opd_batch::Error::Rows`] if `advantages` has other rows than the
    /// batch; [`Error::NotFinite`] for an advantage that is trained on.
    pub fn new(
        scored: &ScoredBatch<'_>,
        advantages: Ragged<f32>,
        aggregation: &Aggregation,
    ) -> Result<Self> {
        Self::with_totals(scored, advantages, aggregation, &Totals::of(scored.mask()))
    }

    /// Part of a global batch with these totals, as each of several ranks holds one.
    ///
    /// # Errors
    ///
    /// As [`Self::new`]; all masked is an error only if the totals say that nothing is trained
    /// on anywhere.
    pub fn with_totals(
        scored: &ScoredBatch<'_>,
        advantages: Ragged<f32>,
        aggregation: &Aggregation,
        totals: &Totals,
    ) -> Result<Self> {
        let rollouts = scored.rollouts();
        advantages.check_rows(rollouts.rows(), "advantages")?;
        let batch = Self {
            origin: (0..rollouts.n_rows()).collect(),
            targets: rollouts.responses().clone(),
            old_logprobs: scored.old_logprobs().clone(),
            sampler_logprobs: rollouts.sampler_logprobs().clone(),
            teacher_logprobs: scored
                .teacher()
                .filter(|scores| scores.spans.is_none())
                .map(|scores| scores.logprobs.clone()),
            teacher_top: TeacherTop::of(scored)?,
            reference_logprobs: scored.reference_logprobs("LossBatch").ok().cloned(),
            advantages,
            mask: scored.mask().clone(),
            weights: weights(scored.mask(), aggregation, totals)?,
        };
        batch.check_trained("advantages", batch.advantages.values().iter().map(|&a| a.into()))?;
        Ok(batch)
    }

    /// A batch for supervised objectives: targets without log-probs or advantages, which are 0.
    ///
    /// # Errors
    ///
    /// [`Error::AllMasked`]; [`opd_batch::Error::Rows`] if `mask` has other rows than `targets`.
    pub fn supervised(
        targets: Ragged<u32>,
        mask: Ragged<bool>,
        aggregation: &Aggregation,
    ) -> Result<Self> {
        let totals = Totals::of(&mask);
        Self::supervised_with_totals(targets, mask, aggregation, &totals)
    }

    /// As [`Self::supervised`], part of a global batch with these totals.
    ///
    /// # Errors
    ///
    /// As [`Self::supervised`].
    pub fn supervised_with_totals(
        targets: Ragged<u32>,
        mask: Ragged<bool>,
        aggregation: &Aggregation,
        totals: &Totals,
    ) -> Result<Self> {
        mask.check_rows(targets.rows(), "loss_mask")?;
        let zeros = targets.map(|_| 0.0);
        Ok(Self {
            origin: (0..targets.rows().n_rows()).collect(),
            old_logprobs: zeros.clone(),
            sampler_logprobs: zeros.clone(),
            teacher_logprobs: None,
            teacher_top: None,
            reference_logprobs: None,
            advantages: zeros,
            weights: weights(&mask, aggregation, totals)?,
            targets,
            mask,
        })
    }

    /// The given rows as a batch of their own, weighted by their own counts: for several
    /// optimizer steps on one batch of rollouts.
    ///
    /// # Errors
    ///
    /// As [`Self::select`]; [`Error::AllMasked`].
    pub fn part(&self, rows: &[usize], aggregation: &Aggregation) -> Result<Self> {
        let mut part = self.select(rows)?;
        part.weights = weights(&part.mask, aggregation, &Totals::of(&part.mask))?;
        Ok(part)
    }

    /// A micro-batch of the given rows; each token keeps its weight.
    ///
    /// # Errors
    ///
    /// [`opd_batch::Error::RowIndex`] if there is no such row,
    /// [`opd_batch::Error::EmptyBatch`] for no rows.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if rows.is_empty() {
            return Err(opd_batch::Error::EmptyBatch.into());
        }
        let teacher = self.teacher_logprobs.as_ref().map(|stream| stream.select(rows));
        let reference = self.reference_logprobs.as_ref().map(|stream| stream.select(rows));
        let top = self.teacher_top.as_ref().map(|top| -> Result<TeacherTop> {
            Ok(TeacherTop { k: top.k, entries: top.entries.select(rows)? })
        });
        let targets = self.targets.select(rows)?;
        Ok(Self {
            origin: rows.iter().map(|&row| self.origin[row]).collect(),
            targets,
            old_logprobs: self.old_logprobs.select(rows)?,
            sampler_logprobs: self.sampler_logprobs.select(rows)?,
            teacher_logprobs: teacher.transpose()?,
            teacher_top: top.transpose()?,
            reference_logprobs: reference.transpose()?,
            advantages: self.advantages.select(rows)?,
            mask: self.mask.select(rows)?,
            weights: self.weights.select(rows)?,
        })
    }

    /// Row boundaries of all streams.
    pub fn rows(&self) -> &Rows {
        self.targets.rows()
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.rows().n_rows()
    }

    /// Number of tokens `T`, trained on or not.
    pub fn n_tokens(&self) -> usize {
        self.rows().n_tokens()
    }

    /// Which row of the whole batch each row is.
    pub fn origin(&self) -> &[usize] {
        &self.origin
    }

    /// Response token ids.
    pub fn targets(&self) -> &Ragged<u32> {
        &self.targets
    }

    /// Log-probs (nats) of the student before this batch's updates.
    pub fn old_logprobs(&self) -> &Ragged<f32> {
        &self.old_logprobs
    }

    /// Log-probs (nats) that the sampler reported.
    pub fn sampler_logprobs(&self) -> &Ragged<f32> {
        &self.sampler_logprobs
    }

    /// The teacher's log-probs (nats), if a teacher scored the batch token by token.
    pub fn teacher_logprobs(&self) -> Option<&Ragged<Option<f32>>> {
        self.teacher_logprobs.as_ref()
    }

    /// Ids per token that the teacher scored beside the sampled ones, and their log-probs
    /// (nats), `[T * k]`, a token's side by side; NaN at tokens without a score.
    pub fn teacher_top(&self) -> Option<(usize, &[(u32, f32)])> {
        self.teacher_top.as_ref().map(|top| (top.k, top.entries.values()))
    }

    /// Log-probs (nats) of the frozen start policy.
    ///
    /// # Errors
    ///
    /// [`opd_batch::Error::MissingStream`] naming `needed_by` if there are none.
    pub fn reference_logprobs(&self, needed_by: &'static str) -> Result<&Ragged<f32>> {
        let missing = opd_batch::Error::MissingStream {
            needed_by,
            what: "reference log-probs",
            remedy: "score the batch with the start policy and call `ScoredBatch::with_reference`",
        };
        Ok(self.reference_logprobs.as_ref().ok_or(missing)?)
    }

    /// Advantages; higher makes the token more likely.
    pub fn advantages(&self) -> &Ragged<f32> {
        &self.advantages
    }

    /// Which tokens are trained on.
    pub fn mask(&self) -> &Ragged<bool> {
        &self.mask
    }

    /// Weights of the per-token losses, 0 where the mask is false.
    pub fn weights(&self) -> &Ragged<f32> {
        &self.weights
    }

    /// Passes if every value of a trained token is finite; `values` are `[T]` in order.
    pub(crate) fn check_trained(
        &self,
        what: &'static str,
        values: impl IntoIterator<Item = f64>,
    ) -> Result<()> {
        let mut values = values.into_iter().zip(self.mask.values()).enumerate();
        match values.find(|(_, (value, mask))| **mask && !value.is_finite()) {
            None => Ok(()),
            Some((at, (value, _))) => {
                let (row, token) = self.rows().locate(at).unwrap_or_default();
                Err(Error::NotFinite { what, row: self.origin[row], token, value })
            }
        }
    }
}

fn weights(mask: &Ragged<bool>, aggregation: &Aggregation, totals: &Totals) -> Result<Ragged<f32>> {
    if totals.tokens == 0 {
        return Err(Error::AllMasked { tokens: mask.rows().n_tokens() });
    }
    if let Aggregation::SequenceMeanTokenSum { horizon: 0 } = aggregation {
        return Err(Error::Setting { what: "horizon", expected: "at least 1", got: 0.0 });
    }
    Ok(aggregation.weights(mask, totals))
}
