use std::{collections::BTreeMap, fmt, sync::Arc, thread};

use opd_batch::{ScoreRequest, Source, Teacher, TeacherScores};

use crate::{
    Error, Result,
    part::{Part, RowScores},
};

/// Several teachers, each for the prompts of its sources.
///
/// Their parts of a batch are scored at the same time.
#[derive(Clone)]
pub struct RoutedTeacher {
    name: String,
    teachers: Vec<Arc<dyn Teacher>>,
    routes: BTreeMap<Source, usize>,
    others: Option<usize>,
}

impl RoutedTeacher {
    /// Each teacher with the sources that it is for; one without any is for all the others.
    ///
    /// # Errors
    ///
    /// [`Error::Teachers`] if there is none, if two are for one source or two for the rest.
    pub fn new(routes: Vec<(Arc<dyn Teacher>, Vec<Source>)>) -> Result<Self> {
        let conflict = |what: String| Error::Teachers { what };
        let names: Vec<&str> = routes.iter().map(|(teacher, _)| teacher.name()).collect();
        let name = names.join(" + ");
        let mut routed = Self { name, teachers: Vec::new(), routes: BTreeMap::new(), others: None };
        for (index, (teacher, sources)) in routes.into_iter().enumerate() {
            let twice = |what: String, first: usize| {
                let (first, second) = (routed.teachers[first].name(), teacher.name());
                conflict(format!(
                    "teachers `{first}` and `{second}` are both for {what}; \
                     make an ensemble of them or take one away"
                ))
            };
            if sources.is_empty() {
                if let Some(first) = routed.others {
                    return Err(twice("prompts that no tag names".into(), first));
                }
                routed.others = Some(index);
            }
            for source in sources {
                if let Some(&first) = routed.routes.get(&source) {
                    return Err(twice(format!("prompts of source `{source}`"), first));
                }
                routed.routes.insert(source, index);
            }
            routed.teachers.push(teacher);
        }
        if routed.teachers.is_empty() {
            return Err(conflict("there is no teacher to route to".into()));
        }
        Ok(routed)
    }

    /// Index of the teacher for prompts of a source.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSource`].
    pub fn route(&self, source: &Source) -> Result<usize> {
        self.routes.get(source).copied().or(self.others).ok_or_else(|| {
            let known = self.routes.keys().map(|source| format!("`{source}`"));
            let known = known.collect::<Vec<_>>().join(", ");
            Error::UnknownSource { source_name: source.to_string(), known }
        })
    }

    fn failed(&self, source: Error) -> opd_batch::Error {
        opd_batch::Error::Teacher { teacher: self.name.clone(), source: Box::new(source) }
    }
}

impl Teacher for RoutedTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> opd_batch::Result<String> {
        let identities: Vec<String> =
            self.teachers.iter().map(Teacher::identity).collect::<opd_batch::Result<_>>()?;
        let routes: Vec<String> =
            self.routes.iter().map(|(source, index)| format!("{source}={index}")).collect();
        Ok(format!("[{}] by {} else {:?}", identities.join("; "), routes.join(","), self.others))
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        let n = request.sequences.len();
        let unnamed = Source::default();
        let mut rows = vec![Vec::new(); self.teachers.len()];
        for row in 0..n {
            let source = request.sources.get(row).unwrap_or(&unnamed);
            rows[self.route(source).map_err(|error| self.failed(error))?].push(row);
        }
        let parts = self.teachers.iter().zip(rows).filter(|(_, rows)| !rows.is_empty());
        let parts: Vec<_> =
            parts.map(|(teacher, rows)| (teacher, Part::new(request, rows))).collect();
        let scores = thread::scope(|scope| {
            let threads: Vec<_> = parts
                .iter()
                .map(|(teacher, part)| {
                    let ask = || teacher.score(&part.request(request.temperature, request.wanted));
                    scope.spawn(ask)
                })
                .collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect::<opd_batch::Result<Vec<TeacherScores>>>()
        })?;
        let mut whole = vec![None; n];
        for ((_, part), scores) in parts.iter().zip(&scores) {
            for (&row, scored) in part.rows().iter().zip(RowScores::of(scores)) {
                whole[row] = Some(scored);
            }
        }
        RowScores::join(request, whole)
    }
}

impl fmt::Debug for RoutedTeacher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutedTeacher")
            .field("name", &self.name)
            .field("routes", &self.routes)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}
