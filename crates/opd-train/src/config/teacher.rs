use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, TeacherKind, error::check};

/// One of several teachers: a `[[teacher]]` of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TeacherConfig {
    /// Names it in metrics and messages.
    pub name: String,
    /// Where its scores come from.
    #[serde(rename = "type")]
    pub kind: TeacherKind,
    /// Its directory, for `in-process`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Take `checkpoints/step-N` of `path`, one of our own runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Whose scores to take from `distillation.journal`, for `replay`, where it holds those of
    /// several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Directory of its `tokenizer.json`, where that is not the student's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<PathBuf>,
    /// Its servers, for `sglang` and `vllm`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Environment variable of the servers' bearer key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// File of the servers' bearer key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Sources of prompts (field `source` of the prompt file) that it is for; without any it is
    /// for all that no other teacher names. Teachers of one tag form an ensemble.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its share of an ensemble, above 0.
    pub weight: f64,
    /// Multiplies the weight of the reverse KL on its prompts.
    pub coef: f64,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        Self {
            name: "teacher".to_owned(),
            kind: TeacherKind::InProcess,
            path: None,
            step: None,
            identity: None,
            tokenizer: None,
            urls: Vec::new(),
            api_key_env: None,
            api_key_file: None,
            tags: Vec::new(),
            weight: 1.0,
            coef: 1.0,
        }
    }
}

impl TeacherConfig {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = !name.is_empty() && name.chars().all(plain);
        check(good, "teacher.name", "letters, digits, `-`, `_` and `.`", format!("`{name}`"))?;
        let above = |x: f64| x > 0.0 && x.is_finite();
        check(above(self.weight), "teacher.weight", "finite and above 0", self.weight)?;
        let coef = self.coef >= 0.0 && self.coef.is_finite();
        check(coef, "teacher.coef", "finite and at least 0", self.coef)?;
        let conflict = |what: &str, remedy| {
            Err(ConfigError::Conflict { what: format!("teacher `{name}`: {what}"), remedy })
        };
        if self.kind.is_own() {
            return conflict(
                "a teacher that is made of the student is the only one",
                "name it in [distillation], without [[teacher]]",
            );
        }
        match self.misplaced() {
            None => Ok(()),
            Some(Misplaced::Identity) => {
                conflict("`identity` goes with replay", "drop it, or set its type to replay")
            }
            Some(Misplaced::NoPath) => {
                conflict("it has no `path`", "name the directory of its model, or its type")
            }
            Some(Misplaced::Path | Misplaced::Step) => conflict(
                "`path` and `step` go with in-process",
                "drop them, or set its type to in-process",
            ),
            Some(Misplaced::Urls) => {
                conflict("`urls` go with a server", "set its type to sglang or vllm, or drop them")
            }
            Some(Misplaced::Key) => {
                conflict("a key goes with a server", "drop `api_key_env` and `api_key_file`")
            }
            Some(Misplaced::NoUrls) => {
                conflict("it has no `urls`", "name its servers, e.g. [\"http://127.0.0.1:30000\"]")
            }
            Some(Misplaced::TwoKeys) => {
                conflict("its key is named twice", "give `api_key_env` or `api_key_file`")
            }
        }
    }

    /// What of the place where the teacher is does not fit its type.
    pub(super) fn misplaced(&self) -> Option<Misplaced> {
        let (model, journal) =
            (self.kind == TeacherKind::InProcess, self.kind == TeacherKind::Replay);
        let server = self.kind.is_remote();
        let (env, file) = (self.api_key_env.is_some(), self.api_key_file.is_some());
        let rules = [
            (!journal && self.identity.is_some(), Misplaced::Identity),
            (model && self.path.is_none(), Misplaced::NoPath),
            (!model && self.path.is_some(), Misplaced::Path),
            (!model && self.step.is_some(), Misplaced::Step),
            (!server && !self.urls.is_empty(), Misplaced::Urls),
            (!server && (env || file), Misplaced::Key),
            (server && self.urls.is_empty(), Misplaced::NoUrls),
            (server && env && file, Misplaced::TwoKeys),
        ];
        rules.into_iter().find_map(|(broken, rule)| broken.then_some(rule))
    }
}

/// What is there and goes with another type of teacher, or is not there and goes with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misplaced {
    Identity,
    NoPath,
    Path,
    Step,
    Urls,
    Key,
    NoUrls,
    TwoKeys,
}

/// Passes if each of several teachers is sound and they go together.
pub(crate) fn validate_all(teachers: &[TeacherConfig]) -> Result<(), ConfigError> {
    let mut names = BTreeSet::new();
    for teacher in teachers {
        teacher.validate()?;
        if !names.insert(&teacher.name) {
            return Err(ConfigError::Conflict {
                what: format!("two teachers are named `{}`", teacher.name),
                remedy: "give every [[teacher]] a name of its own",
            });
        }
    }
    for (i, teacher) in teachers.iter().enumerate() {
        let shared = |other: &&TeacherConfig| {
            let both_without = other.tags.is_empty() && teacher.tags.is_empty();
            both_without || other.tags.iter().any(|tag| teacher.tags.contains(tag))
        };
        if let Some(other) = teachers[..i].iter().find(shared)
            && other.coef != teacher.coef
        {
            return Err(ConfigError::Conflict {
                what: format!(
                    "teachers `{}` and `{}` form an ensemble and have coef {} and {}",
                    other.name, teacher.name, other.coef, teacher.coef
                ),
                remedy: "give both the same coef; `weight` is the share of each",
            });
        }
    }
    Ok(())
}
