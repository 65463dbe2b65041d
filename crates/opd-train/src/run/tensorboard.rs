use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::run::{Error, Result, StepMetrics, durable::names, tf_event, tf_record};

const PREFIX: &str = "events.out.tfevents.";

/// Event files that TensorBoard reads: every value of every step as a scalar.
///
/// Each start of a run makes a file of its own. A resumed run's file tells the reader to
/// forget the steps that are made anew.
#[derive(Debug)]
pub struct TensorBoard {
    file: File,
    path: PathBuf,
}

impl TensorBoard {
    /// The first event file of a run, in `dir`, which is created if need be.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn create(dir: &Path, now: SystemTime) -> Result<Self> {
        Self::start(dir, now, None)
    }

    /// The event file of a run that goes on after step `step`.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn resume(dir: &Path, step: u64, now: SystemTime) -> Result<Self> {
        Self::start(dir, now, Some(step + 1))
    }

    /// Appends all values of a step that are not NaN.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Io`].
    pub fn write(&mut self, metrics: &StepMetrics, now: SystemTime) -> Result<()> {
        let values = metrics.values.iter().filter(|(_, value)| !value.is_nan());
        let values = values.map(|(key, &value)| (key.as_str(), value));
        self.append(&tf_event::scalars(unix_seconds(now), metrics.step, values))
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn start(dir: &Path, now: SystemTime, forget_from: Option<u64>) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|source| Error::writing(dir, source))?;
        let seconds = unix_seconds(now);
        let path = dir.join(file_name(&names(dir)?, seconds as u64));
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        let file = file.map_err(|source| Error::writing(&path, source))?;
        let mut this = Self { file, path };
        this.append(&tf_event::file_version(seconds))?;
        if let Some(step) = forget_from {
            this.append(&tf_event::session_start(seconds, step))?;
        }
        Ok(this)
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        tf_record::write(&mut self.file, event).map_err(|source| Error::writing(&self.path, source))
    }
}

/// A name after those of all earlier files: TensorBoard reads them in the order of names.
fn file_name(held: &[String], seconds: u64) -> String {
    let times = held
        .iter()
        .filter_map(|name| name.strip_prefix(PREFIX)?.split('.').next()?.parse::<u64>().ok());
    let seconds = times.max().map_or(seconds, |last| seconds.max(last + 1));
    format!("{PREFIX}{seconds:010}.{}", std::process::id())
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
