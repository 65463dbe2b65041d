use std::fmt::Write;

use serde::Serialize;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Usable, with the loss that is said.
    Warn,
    /// A run would go wrong.
    Fail,
    /// Nothing is known.
    NotChecked,
}

impl Outcome {
    fn shown(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
            Self::NotChecked => "not checked",
        }
    }
}

/// One property of a teacher.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Which.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// What was seen.
    pub said: String,
}

/// All that was seen of a teacher.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Its address or directory.
    pub teacher: String,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    pub(crate) fn new(teacher: impl Into<String>) -> Self {
        Self { teacher: teacher.into(), checks: Vec::new() }
    }

    pub(crate) fn add(&mut self, name: &'static str, (outcome, said): (Outcome, String)) {
        self.checks.push(Check { name, outcome, said });
    }

    /// Whether a run with this teacher would go wrong.
    pub fn failed(&self) -> bool {
        self.checks.iter().any(|check| check.outcome == Outcome::Fail)
    }

    /// The checks as lines for people.
    pub fn table(&self) -> String {
        let mut table = format!("teacher {}\n\n", self.teacher);
        for Check { name, outcome, said } in &self.checks {
            // Writing to a `String` cannot fail.
            let _ = writeln!(table, "{name:12}{:13}{said}", outcome.shown());
        }
        table
    }
}
