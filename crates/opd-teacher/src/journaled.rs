use std::sync::{Arc, Mutex, PoisonError};

use opd_batch::{ScoreRequest, Teacher, TeacherScores};

use crate::{
    Error, Journal,
    journal::keys,
    part::{Part, RowScores, k_of},
    remote::RESCORINGS,
};

/// A teacher whose scores are kept in a [`Journal`] and not asked for twice.
///
/// While the teacher is out of reach it is taken for what it last was: scores that are held are
/// given, the others are missing.
#[derive(Debug)]
pub struct JournaledTeacher<T> {
    teacher: T,
    journal: Arc<Journal>,
    /// Identity, as last seen.
    seen: Mutex<Option<String>>,
}

impl<T: Teacher> JournaledTeacher<T> {
    /// Keeps the scores of `teacher` in `journal`.
    pub fn new(teacher: T, journal: Arc<Journal>) -> Self {
        Self { teacher, journal, seen: Mutex::default() }
    }

    /// The identity by which scores are looked up.
    fn identity_for_lookup(&self) -> opd_batch::Result<String> {
        let now = self.teacher.identity();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match (now, seen.as_ref()) {
            (Ok(identity), _) => {
                *seen = Some(identity.clone());
                Ok(identity)
            }
            (Err(error), Some(last)) if is_outage(&error) => {
                tracing::warn!("teacher `{}` is taken for `{last}`: {error}", self.name());
                Ok(last.clone())
            }
            (Err(error), _) => Err(error),
        }
    }

    fn failed(&self, source: Error) -> opd_batch::Error {
        opd_batch::Error::Teacher { teacher: self.name().to_owned(), source: Box::new(source) }
    }
}

impl<T: Teacher> Teacher for JournaledTeacher<T> {
    fn name(&self) -> &str {
        self.teacher.name()
    }

    fn identity(&self) -> opd_batch::Result<String> {
        self.teacher.identity()
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        let lengths: Vec<usize> = request.rows().lengths().collect();
        let k = k_of(request.wanted);
        for _ in 0..=RESCORINGS {
            let identity = self.identity_for_lookup()?;
            let keys = keys(&identity, request);
            let held = self.journal.get(&keys, &lengths, k);
            let mut rows = held.map_err(|error| self.failed(error))?;
            let unknown: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].is_none()).collect();
            if unknown.is_empty() {
                return RowScores::join(request, rows);
            }
            let part = Part::new(request, unknown);
            let scores = self.teacher.score(&part.request(request.temperature, request.wanted))?;
            if scores.spans.is_some() {
                return Err(opd_batch::Error::Unsupported {
                    teacher: self.name().to_owned(),
                    wanted: "scores of spans for a journal".into(),
                    remedy: "keep those of the teacher's own tokens: journal the teacher inside CrossTokenizerTeacher".into(),
                });
            }
            let scored: Vec<_> = part.rows().iter().copied().zip(RowScores::of(&scores)).collect();
            match self.teacher.identity() {
                // Scores of the old weights must not be mixed with those of the new.
                Ok(after) if after != identity => continue,
                Ok(_) => {
                    let entry = |(row, scores): &(usize, RowScores)| (keys[*row], scores.clone());
                    let entries: Vec<_> = scored.iter().map(entry).collect();
                    let kept = self.journal.put(&identity, &entries);
                    kept.map_err(|error| self.failed(error))?;
                }
                // Whose they are cannot be told: they are not kept.
                Err(_) => {}
            }
            for (row, scores) in scored {
                rows[row] = Some(scores);
            }
            return RowScores::join(request, rows);
        }
        let (teacher, times) = (self.name().to_owned(), RESCORINGS + 1);
        Err(self.failed(Error::Weights { teacher, times }))
    }
}

/// Whether a teacher could not be reached, which may pass.
fn is_outage(error: &opd_batch::Error) -> bool {
    let opd_batch::Error::Teacher { source, .. } = error else { return false };
    matches!(source.downcast_ref(), Some(Error::Http(error)) if error.is_outage())
}
