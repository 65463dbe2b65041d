mod calendar;
mod log;
mod record;

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::run::{
    Error, MetricSink, Result, StepMetrics,
    durable::{names, parent, sync_dir, write_atomically},
};

/// What Weights & Biases is told of a run before its first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WandbRun {
    /// Name that is shown.
    pub name: String,
    /// Project; without one it is `uncategorized` there.
    pub project: Option<String>,
    /// Runs of one group are shown together.
    pub group: Option<String>,
    /// User or team; without one that of whoever uploads.
    pub entity: Option<String>,
    /// Settings: JSON by key.
    pub config: Vec<(String, String)>,
}

/// An offline run of Weights & Biases: `wandb sync DIR` uploads it.
///
/// `wandb/offline-run-TIME-ID/run-ID.wandb` grows by whole records, two for each step. A run that
/// goes on cuts off what lies behind the last step that counts, and keeps its id: what is uploaded
/// has every step once.
#[derive(Debug)]
pub struct Wandb {
    path: PathBuf,
    run: WandbRun,
    id: String,
    /// When the run began, since 1970.
    started: Duration,
    file: Option<File>,
    len: u64,
    records: u64,
}

impl Wandb {
    /// The run that was begun in `dir` (`wandb/` of a run directory), or one that begins `now`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if `dir` cannot be read.
    pub fn open(dir: &Path, run: WandbRun, now: SystemTime) -> Result<Self> {
        let held = if dir.is_dir() { names(dir)? } else { Vec::new() };
        let begun = held.iter().rev().find_map(|name| {
            let id = name.strip_prefix("offline-run-")?.rsplit_once('-')?.1;
            let path = dir.join(name).join(format!("run-{id}.wandb"));
            path.is_file().then(|| (path, id.to_owned()))
        });
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (path, id) = begun.unwrap_or_else(|| {
            let id = id_of(now, std::process::id());
            let name = format!("offline-run-{}-{id}", calendar::stamp(now.as_secs()));
            (dir.join(name).join(format!("run-{id}.wandb")), id)
        });
        Ok(Self { path, run, id, started: now, file: None, len: 0, records: 0 })
    }

    /// The transaction log; its directory is what `wandb sync` takes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps what counts of a log that is there.
    fn cut(&mut self, last: Option<u64>) -> Result<()> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(Error::reading(&self.path, source)),
        };
        let records = log::records(&bytes);
        let kinds: Vec<_> = records.iter().map(|(record, _)| record::kind(record)).collect();
        let head =
            kinds.iter().take_while(|kind| matches!(kind, Some((record::HEADER | record::RUN, _))));
        let head = head.count();
        let counts = |kind: &Option<(u64, Option<u64>)>| match kind {
            Some((record::HISTORY, step)) => step.is_some_and(|step| Some(step) <= last),
            _ => false,
        };
        let kept = kinds.iter().rposition(counts).map_or(head, |at| at + 1);
        if head < 2 {
            return self.begin();
        }
        self.started = record::start_time(&records[1].0).unwrap_or(self.started);
        (self.len, self.records) = (records[kept - 1].1, kept as u64);
        let open = || {
            let file = OpenOptions::new().append(true).open(&self.path)?;
            file.set_len(self.len)?;
            file.sync_data()?;
            Ok(file)
        };
        self.file = Some(open().map_err(|source| Error::writing(&self.path, source))?);
        Ok(())
    }

    /// Writes a log with a header and the run alone.
    fn begin(&mut self) -> Result<()> {
        let dir = parent(&self.path);
        fs::create_dir_all(dir).map_err(|source| Error::writing(dir, source))?;
        let mut bytes = log::HEADER.to_vec();
        let messages = [
            (record::HEADER, record::header()),
            (record::RUN, record::run(&self.run, &self.id, self.started)),
        ];
        for (number, (kind, message)) in (1..).zip(messages) {
            let record = record::record(number, kind, &message);
            bytes.extend_from_slice(&log::framed(&record, bytes.len() as u64));
            self.records = number;
        }
        write_atomically(&self.path, &bytes)?;
        sync_dir(parent(dir)).map_err(|source| Error::writing(dir, source))?;
        self.len = bytes.len() as u64;
        let file = OpenOptions::new().append(true).open(&self.path);
        self.file = Some(file.map_err(|source| Error::writing(&self.path, source))?);
        Ok(())
    }

    /// Appends records in one write, so that a kill tears the last at most.
    fn append(&mut self, messages: &[(u64, Vec<u8>)]) -> Result<()> {
        let mut bytes = Vec::new();
        for (number, (kind, message)) in (self.records + 1..).zip(messages) {
            let record = record::record(number, *kind, message);
            bytes.extend_from_slice(&log::framed(&record, self.len + bytes.len() as u64));
        }
        let Some(file) = &mut self.file else {
            return Err(Error::sink("wandb", "a line before the run was started"));
        };
        if let Err(source) = file.write_all(&bytes) {
            let _ = file.set_len(self.len);
            return Err(Error::writing(&self.path, source));
        }
        self.len += bytes.len() as u64;
        self.records += messages.len() as u64;
        Ok(())
    }

    /// A step at `now`, since 1970.
    fn line(&mut self, metrics: &StepMetrics, now: Duration) -> Result<()> {
        let runtime = now.saturating_sub(self.started).as_secs_f64();
        let mut items = vec![
            ("_step".to_owned(), metrics.step.to_string()),
            ("_timestamp".to_owned(), now.as_secs_f64().to_string()),
            ("_runtime".to_owned(), runtime.to_string()),
        ];
        let finite = metrics.values.iter().filter(|(_, value)| value.is_finite());
        items.extend(finite.map(|(key, value)| (key.clone(), value.to_string())));
        let summary = (record::SUMMARY, record::summary(&items));
        self.append(&[summary, (record::HISTORY, record::history(metrics.step, &items))])
    }
}

impl MetricSink for Wandb {
    fn start(&mut self, last: Option<u64>) -> Result<()> {
        self.cut(last)
    }

    fn write(&mut self, metrics: &StepMetrics) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.line(metrics, now)
    }

    fn sync(&mut self) -> Result<()> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|source| Error::writing(&self.path, source))
    }

    fn finish(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = now.saturating_sub(self.started).as_secs();
        self.append(&[record::exit(seconds)])?;
        self.sync()
    }
}

/// Eight of the letters and digits that wandb's own ids are made of.
fn id_of(now: Duration, process: u32) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rest = (now.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(process);
    let letter = |_| {
        let letter = LETTERS[(rest % 36) as usize];
        rest /= 36;
        char::from(letter)
    };
    (0..8).map(letter).collect()
}
