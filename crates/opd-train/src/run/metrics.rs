use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::run::{Error, Result, StepMetrics, durable::write_atomically};

/// `metrics.jsonl`: one [`StepMetrics`] per line, in the order of their steps.
///
/// Each line is one write, so a kill tears the last line at most; [`Self::resume`] drops it.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
    len: u64,
    last: Option<u64>,
}

impl Metrics {
    /// An empty file.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        write_atomically(&path, b"")?;
        Self::append(path, None)
    }

    /// The file of a run that goes on after step `step`.
    ///
    /// Lines of later steps are removed, as are a torn last line and (with a warning) lines
    /// that are no metrics; of two lines of one step the later stays. Lines that stay keep
    /// their bytes. A missing file is an empty one.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`]; the file is then as it was.
    pub fn resume(path: impl Into<PathBuf>, step: u64) -> Result<Self> {
        let path = path.into();
        let text = read_or_empty(&path)?;
        let mut kept = BTreeMap::new();
        for (line, metrics) in whole_lines(&path, &text) {
            if metrics.step <= step {
                kept.insert(metrics.step, line);
            }
        }
        let mut bytes = Vec::with_capacity(text.len());
        for line in kept.values() {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        if bytes != text || text.is_empty() {
            write_atomically(&path, &bytes)?;
        }
        Self::append(path, kept.last_key_value().map(|(&step, _)| step))
    }

    /// All whole lines of a file; a missing file has none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read.
    pub fn read(path: &Path) -> Result<Vec<StepMetrics>> {
        let text = read_or_empty(path)?;
        Ok(whole_lines(path, &text).into_iter().map(|(_, metrics)| metrics).collect())
    }

    /// Appends the line of a step.
    ///
    /// # Errors
    ///
    /// [`Error::StepOrder`] if the step is not after the last one; [`Error::Full`] or
    /// [`Error::Io`] if it cannot be written, and the file is then as it was.
    pub fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
        if let Some(last) = self.last.filter(|&last| metrics.step <= last) {
            let path = self.path.clone();
            return Err(Error::StepOrder { path, step: metrics.step, last });
        }
        let line = format!("{metrics}\n");
        if let Err(source) = self.file.write_all(line.as_bytes()) {
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::End(0));
            return Err(Error::writing(&self.path, source));
        }
        self.len += line.len() as u64;
        self.last = Some(metrics.step);
        Ok(())
    }

    /// Makes the lines written so far survive a loss of power.
    ///
    /// A checkpoint must not outlive the lines of its steps: call this before saving one.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| Error::writing(&self.path, source))
    }

    /// The last step with a line.
    pub fn last_step(&self) -> Option<u64> {
        self.last
    }

    fn append(path: PathBuf, last: Option<u64>) -> Result<Self> {
        let open = || {
            let file = OpenOptions::new().append(true).open(&path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(|source| Error::writing(&path, source))?;
        Ok(Self { file, path, len, last })
    }
}

fn read_or_empty(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(|source| Error::reading(path, source)),
    }
}

/// Lines that end with a line break and hold metrics.
fn whole_lines<'a>(path: &Path, text: &'a [u8]) -> Vec<(&'a [u8], StepMetrics)> {
    let end = text.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    let lines = text[..end].split(|&byte| byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let parsed = lines.filter_map(|(index, line)| match serde_json::from_slice(line) {
        Ok(metrics) => Some((line, metrics)),
        Err(error) => {
            tracing::warn!("{}:{}: not metrics, left out: {error}", path.display(), index + 1);
            None
        }
    });
    parsed.collect()
}
