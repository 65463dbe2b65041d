use opd_batch::{Ragged, ScoreRequest, TeacherScores, TopLogprobs};

use crate::protocol::Scored;

/// What has been answered of a batch: each row at most once.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Option<Scored>>);

impl Answers {
    pub(crate) fn new(rows: usize) -> Self {
        Self(vec![None; rows])
    }

    pub(crate) fn put(&mut self, row: usize, scored: Option<Scored>) {
        self.0[row] = scored;
    }

    pub(crate) fn forget(&mut self, rows: &[usize]) {
        for &row in rows {
            self.0[row] = None;
        }
    }

    /// The version of the weights, if the answers name one.
    pub(crate) fn version(&self) -> Option<&str> {
        self.0.iter().rev().flatten().find_map(|scored| scored.version.as_deref())
    }

    /// Whether the answers are by different weights.
    pub(crate) fn are_mixed(&self) -> bool {
        let first = self.version();
        let mut versions = self.0.iter().flatten().filter_map(|scored| scored.version.as_deref());
        versions.any(|version| Some(version) != first)
    }

    /// Rows answered by other weights than those of `version`.
    pub(crate) fn not_of(&self, version: Option<&str>) -> Vec<usize> {
        let other =
            |scored: &Scored| scored.version.is_some() && scored.version.as_deref() != version;
        let rows = self.0.iter().enumerate();
        rows.filter(|(_, scored)| scored.as_ref().is_some_and(other)).map(|(row, _)| row).collect()
    }

    /// Scores in the rows of the request; what was not answered is missing.
    pub(crate) fn into_scores(
        self,
        request: &ScoreRequest<'_>,
        k: usize,
    ) -> opd_batch::Result<TeacherScores> {
        let rows = request.rows();
        let mut logprobs = Vec::with_capacity(rows.n_tokens());
        let (mut ids, mut tops) = (Vec::new(), Vec::new());
        for (scored, length) in self.0.into_iter().zip(rows.lengths()) {
            match scored {
                Some(scored) => {
                    logprobs.extend(scored.logprobs);
                    ids.extend(scored.top.iter().map(|(id, _)| *id));
                    tops.extend(scored.top.iter().map(|(_, logprob)| *logprob));
                }
                None => {
                    logprobs.extend(std::iter::repeat_n(None, length));
                    ids.extend(std::iter::repeat_n(0, length * k));
                    tops.extend(std::iter::repeat_n(f32::NAN, length * k));
                }
            }
        }
        let logprobs = Ragged::new("teacher_logprobs", rows, logprobs)?;
        let top = (k > 0).then_some(TopLogprobs { k, ids, logprobs: tops });
        let scores = TeacherScores { logprobs, top, spans: None };
        scores.check()?;
        Ok(scores)
    }
}
