//! Which teachers are for which prompts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use opd_batch::{Source, Teacher};
use opd_teacher::EnsembleTeacher;

use crate::{
    Result, TeacherNames,
    config::{ConfigError, TeacherConfig},
};

/// Sources that an error lists.
const SOURCES_NAMED: usize = 10;

/// Passes if every tag is the source of a prompt: a misspelt one would leave its teacher unasked.
pub(crate) fn check_tags(all: &[TeacherConfig], sources: &BTreeSet<Source>) -> Result<()> {
    for teacher in all {
        let unused = teacher.tags.iter().find(|tag| !sources.contains(&Source::new(tag)));
        let Some(tag) = unused else { continue };
        let mut named: Vec<String> =
            sources.iter().take(SOURCES_NAMED).map(|source| format!("`{source}`")).collect();
        let more = sources.len() - named.len();
        named.extend((more > 0).then(|| format!("{more} more")));
        return Err(ConfigError::Conflict {
            what: format!(
                "teacher `{}` has the tag `{tag}`, and no prompt is of that source; there are {}",
                teacher.name,
                named.join(", ")
            ),
            remedy: "correct the tag or take it away; a prompt's source is its field `source`",
        }
        .into());
    }
    Ok(())
}

/// Teachers by index, and the sources that they are for together.
pub(crate) type Route = (Vec<usize>, Vec<Source>);

/// A teacher and the sources that it is for.
pub(crate) type Served = (Arc<dyn Teacher>, Vec<Source>);

/// Teachers of the same tags are one route; those without tags are the route of the others.
pub(crate) fn routes(all: &[TeacherConfig]) -> Vec<Route> {
    let tags: BTreeSet<&String> = all.iter().flat_map(|teacher| &teacher.tags).collect();
    let of = |has: &dyn Fn(&TeacherConfig) -> bool| -> Vec<usize> {
        (0..all.len()).filter(|&i| has(&all[i])).collect()
    };
    let mut routes: BTreeMap<Vec<usize>, Vec<Source>> = BTreeMap::new();
    for tag in tags {
        let members = of(&|teacher| teacher.tags.contains(tag));
        routes.entry(members).or_default().push(Source::new(tag));
    }
    let others = of(&|teacher| teacher.tags.is_empty());
    let rest = (!others.is_empty()).then_some((others, Vec::new()));
    routes.into_iter().chain(rest).collect()
}

pub(crate) fn built_routes(
    routes: &[Route],
    all: &[TeacherConfig],
    teachers: &[Arc<dyn Teacher>],
) -> Result<Vec<Served>> {
    let built = routes.iter().map(|(members, sources)| {
        let teacher: Arc<dyn Teacher> = match members.as_slice() {
            [only] => teachers[*only].clone(),
            several => {
                let weighted = several.iter().map(|&i| (all[i].weight, teachers[i].clone()));
                Arc::new(EnsembleTeacher::new(weighted.collect())?)
            }
        };
        Ok((teacher, sources.clone()))
    });
    built.collect()
}

pub(crate) fn names(routes: &[Route], all: &[TeacherConfig]) -> TeacherNames {
    let mut names = TeacherNames::default();
    for (members, sources) in routes {
        let name: Vec<&str> = members.iter().map(|&i| all[i].name.as_str()).collect();
        let name = name.join("+");
        if sources.is_empty() {
            names.others = Some(name.clone());
        }
        names.by_source.extend(sources.iter().map(|source| (source.clone(), name.clone())));
    }
    names
}

/// Factors of the reverse KL by source, and that of the others; `None` if all are 1.
pub(crate) fn factors(all: &[TeacherConfig]) -> Option<(BTreeMap<Source, f32>, f32)> {
    if all.iter().all(|teacher| teacher.coef == 1.0) {
        return None;
    }
    let tagged = all
        .iter()
        .flat_map(|teacher| teacher.tags.iter().map(|tag| (Source::new(tag), teacher.coef as f32)));
    let others = all.iter().find(|teacher| teacher.tags.is_empty());
    Some((tagged.collect(), others.map_or(1.0, |teacher| teacher.coef as f32)))
}
