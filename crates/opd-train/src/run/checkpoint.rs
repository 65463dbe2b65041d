use std::path::{Path, PathBuf};

use crate::run::{Error, Result, manifest::Manifest};

/// What the name of a checkpoint's directory starts with.
const PREFIX: &str = "step-";

/// A checkpoint whose files are those that were saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    path: PathBuf,
    step: u64,
    score: Option<f64>,
}

impl Checkpoint {
    /// Opens `checkpoints/step-N` of any run, comparing sizes and checksums of all files.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] naming the first file that is missing, cut short or changed.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let damaged = |reason| Error::Damaged { path: path.clone(), reason };
        let manifest = Manifest::read(&path).map_err(damaged)?;
        if step_of(&path).is_some_and(|step| step != manifest.step) {
            return Err(damaged(format!("it is of step {}", manifest.step)));
        }
        manifest.verify(&path).map_err(damaged)?;
        Ok(Self { path, step: manifest.step, score: manifest.score })
    }

    /// The directory with the files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of completed steps.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What it was saved with; higher is better.
    pub fn score(&self) -> Option<f64> {
        self.score
    }
}

/// The name of a checkpoint's directory.
pub(super) fn name_of(step: u64) -> String {
    format!("{PREFIX}{step}")
}

/// The step in the name of a checkpoint's directory.
pub(super) fn step_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    let step = digits.parse::<u64>().ok()?;
    (step.to_string() == digits).then_some(step)
}
