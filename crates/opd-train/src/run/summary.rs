use std::{fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};

use crate::run::{Error, Result, write_atomically};

const NAME: &str = "summary.json";

/// `summary.json`, written last: a run directory that holds it holds a finished run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How often the first answer is right, on held-out prompts.
    pub pass_at_1: PassAt1,
    /// How sure that is.
    #[serde(default)]
    pub interval: Intervals,
    /// How long the run took.
    pub seconds: Seconds,
    /// Response tokens that the student sampled for training.
    pub generated_tokens: u64,
    /// The run's seed.
    pub seed: u64,
    /// Training steps.
    pub steps: u64,
    /// Held-out prompts of each evaluation in [`Self::pass_at_1`].
    pub eval_prompts: u64,
}

/// Fractions from 0 to 1; `None` (JSON `null`) for what was not evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PassAt1 {
    /// The student before training.
    pub before: Option<f64>,
    /// The student after training.
    pub after: Option<f64>,
    /// The teacher.
    pub teacher: Option<f64>,
}

/// Bounds of the 95% confidence intervals of [`PassAt1`], `[low, high]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Intervals {
    /// The student before training.
    pub before: Option<[f64; 2]>,
    /// The student after training.
    pub after: Option<[f64; 2]>,
    /// The teacher.
    pub teacher: Option<[f64; 2]>,
}

/// Seconds, summed over all resumes of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Rollout, scoring and update, without loading, evaluation and checkpoints.
    pub training: f64,
    /// All of it.
    pub total: f64,
}

impl Summary {
    /// Writes `summary.json` into a run's directory, in one piece.
    ///
    /// # Errors
    ///
    /// [`Error::Range`] if a fraction or duration is none; [`Error::NotWritable`],
    /// [`Error::Full`] or [`Error::Io`] if it cannot be written.
    pub fn write(&self, run: &Path) -> Result<()> {
        self.check()?;
        let path = run.join(NAME);
        let json = serde_json::to_string_pretty(self);
        let json = json.map_err(|source| Error::Json { path: path.clone(), source })?;
        write_atomically(&path, format!("{json}\n").as_bytes())
    }

    /// The summary in a run's directory, `None` if the run is not finished.
    ///
    /// # Errors
    ///
    /// [`Error::Json`] if it is no summary, [`Error::Io`] if it cannot be read.
    pub fn read(run: &Path) -> Result<Option<Self>> {
        let path = run.join(NAME);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Json { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::reading(&path, source)),
        }
    }

    fn check(&self) -> Result<()> {
        let PassAt1 { before, after, teacher } = self.pass_at_1;
        let fractions = [
            ("pass_at_1.before", before),
            ("pass_at_1.after", after),
            ("pass_at_1.teacher", teacher),
        ];
        for (what, value) in fractions {
            let Some(value) = value else { continue };
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::Range { what, value, expected: "a fraction from 0 to 1" });
            }
        }
        let seconds =
            [("seconds.training", self.seconds.training), ("seconds.total", self.seconds.total)];
        for (what, value) in seconds {
            if !value.is_finite() || value < 0.0 {
                return Err(Error::Range { what, value, expected: "a duration of at least 0" });
            }
        }
        Ok(())
    }
}
