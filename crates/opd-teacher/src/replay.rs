use std::sync::Arc;

use opd_batch::{ScoreRequest, Teacher, TeacherScores};

use crate::{
    Error, Journal, Result,
    journal::keys,
    part::{RowScores, k_of},
};

/// A teacher that is not there any more: its scores come from a [`Journal`].
#[derive(Debug)]
pub struct ReplayTeacher {
    name: String,
    identity: String,
    journal: Arc<Journal>,
}

impl ReplayTeacher {
    /// The teacher of this identity, or the only one in the journal.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if the journal cannot be read, or holds no or several teachers and
    /// none of them is named.
    pub fn new(journal: Arc<Journal>, identity: Option<String>) -> Result<Self> {
        let held = journal.identities()?;
        let listed = || match held.len() {
            0 => "it holds no scores".to_owned(),
            _ => format!("it holds scores by: {}", held.join("; ")),
        };
        let identity = match (identity, held.as_slice()) {
            (Some(identity), held) if held.contains(&identity) => identity,
            (None, [only]) => only.clone(),
            (asked, _) => {
                let asked =
                    asked.map_or("name a teacher".to_owned(), |a| format!("no scores by {a}"));
                let what = format!("{asked}; {}", listed());
                return Err(Error::Journal { path: journal.path().to_owned(), what });
            }
        };
        Ok(Self { name: format!("journal of {identity}"), identity, journal })
    }
}

impl Teacher for ReplayTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> opd_batch::Result<String> {
        Ok(self.identity.clone())
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        let failed = |source: Error| opd_batch::Error::Teacher {
            teacher: self.name.clone(),
            source: Box::new(source),
        };
        let lengths: Vec<usize> = request.rows().lengths().collect();
        let keys = keys(&self.identity, request);
        let rows = self.journal.get(&keys, &lengths, k_of(request.wanted)).map_err(failed)?;
        let missing = rows.iter().filter(|row| row.is_none()).count();
        if let Some(row) = rows.iter().position(Option::is_none) {
            return Err(failed(Error::NotInJournal {
                path: self.journal.path().to_owned(),
                identity: self.identity.clone(),
                row,
                missing,
                rows: rows.len(),
            }));
        }
        RowScores::join(request, rows)
    }
}
