use std::sync::Arc;

use opd_batch::{ScoreRequest, Teacher, TeacherScores};

use crate::{
    Error, Journal,
    journal::keys,
    part::{Part, RowScores, k_of},
};

/// A teacher whose scores are kept in a [`Journal`] and not asked for twice.
#[derive(Debug)]
pub struct JournaledTeacher<T> {
    teacher: T,
    journal: Arc<Journal>,
}

impl<T: Teacher> JournaledTeacher<T> {
    /// Keeps the scores of `teacher` in `journal`.
    pub fn new(teacher: T, journal: Arc<Journal>) -> Self {
        Self { teacher, journal }
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
        let failed = |source: Error| opd_batch::Error::Teacher {
            teacher: self.name().to_owned(),
            source: Box::new(source),
        };
        let identity = self.teacher.identity()?;
        let keys = keys(&identity, request);
        let lengths: Vec<usize> = request.rows().lengths().collect();
        let k = k_of(request.wanted);
        let mut rows = self.journal.get(&keys, &lengths, k).map_err(failed)?;
        let unknown: Vec<usize> = (0..rows.len()).filter(|&row| rows[row].is_none()).collect();
        if !unknown.is_empty() {
            let part = Part::new(request, unknown);
            let scores = self.teacher.score(&part.request(request.temperature, request.wanted))?;
            if scores.spans.is_some() {
                return Err(opd_batch::Error::Unsupported {
                    teacher: self.name().to_owned(),
                    wanted: "scores of spans for a journal".into(),
                    remedy: "keep those of the teacher's own tokens: journal the teacher inside CrossTokenizerTeacher".into(),
                });
            }
            let after = self.teacher.identity();
            if after.is_ok_and(|after| after != identity) {
                // Scores of the old weights must not be mixed with those of the new.
                return self.score(request);
            }
            let scored: Vec<_> = part.rows().iter().copied().zip(RowScores::of(&scores)).collect();
            let entries: Vec<_> =
                scored.iter().map(|(row, scores)| (keys[*row], scores.clone())).collect();
            self.journal.put(&identity, &entries).map_err(failed)?;
            for (row, scores) in scored {
                rows[row] = Some(scores);
            }
        }
        RowScores::join(request, rows)
    }
}
