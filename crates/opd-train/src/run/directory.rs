use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use crate::run::{
    Error, Result, Summary,
    checkpoint::name_of,
    checkpoint_store::steps_in,
    durable,
    lock::{self, Lock},
};

const CONFIG: &str = "config.toml";

const CHECKPOINTS: &str = "checkpoints";

const ROLLOUTS: &str = "rollouts";

/// What a run of bundled models and prompts unpacks before its configuration is written.
const INPUTS: &str = "inputs";

/// All that a run writes into its directory; what `--overwrite` may remove.
const ENTRIES: [&str; 13] = [
    lock::NAME,
    CONFIG,
    INPUTS,
    "metrics.jsonl",
    "summary.json",
    "report.html",
    "tensorboard",
    "wandb",
    ROLLOUTS,
    CHECKPOINTS,
    "model",
    "adapter",
    "critic",
];

/// What to do with a directory that holds a run already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    #[default]
    Refuse,
    /// Remove the run that is in it.
    Overwrite,
}

/// A run's directory, locked for as long as this value lives.
///
/// A process that dies, however it dies, releases the lock.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: Lock,
}

impl RunDir {
    /// A new run in `path`, which is created if need be.
    ///
    /// [`Existing::Overwrite`] removes a run, never anything else: a directory that holds
    /// one entry that no run writes is refused before the first removal. Inputs alone, with a
    /// lock, are what a run leaves that was killed before it began: they may stay.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] if the directory is not empty, [`Error::Locked`] if another process
    /// works there, [`Error::NotARun`] if it may not be overwritten,
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn create(path: impl Into<PathBuf>, existing: Existing) -> Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(|source| Error::writing(&path, source))?;
        let held = held(&path)?;
        let has_lock = path.join(lock::NAME).is_file();
        match (existing, held.first()) {
            (Existing::Refuse, Some(entry)) if !has_lock => {
                return Err(Error::InUse { path, entry: format!("`{entry}`") });
            }
            (Existing::Overwrite, Some(_)) => check_only_a_run(&path, &held)?,
            _ => {}
        }
        let lock = Lock::acquire(&path)?;
        durable::remove_unfinished(&path)?;
        let held = self::held(&path)?;
        match (existing, held.first()) {
            (_, None) => {}
            (_, Some(entry)) if held.len() == 1 && entry == INPUTS => {}
            (Existing::Refuse, Some(_)) => {
                return Err(Error::InUse { path, entry: "a run".to_owned() });
            }
            (Existing::Overwrite, Some(_)) => {
                check_only_a_run(&path, &held)?;
                for entry in &held {
                    durable::remove(&path.join(entry))?;
                }
            }
        }
        Ok(Self { path, _lock: lock })
    }

    /// A new run in `parent/NAME-N` with the first `N` from 1 that is free.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn create_numbered(parent: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(parent).map_err(|source| Error::writing(parent, source))?;
        let mut n = 1_u64;
        loop {
            let path = parent.join(format!("{name}-{n}"));
            match fs::create_dir(&path) {
                Ok(()) => return Self::create(path, Existing::Refuse),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => n += 1,
                Err(source) => return Err(Error::writing(&path, source)),
            }
        }
    }

    /// The run in `path`, to go on with; what a killed process left half written is removed.
    ///
    /// # Errors
    ///
    /// [`Error::NotARun`] if there is no run, [`Error::Locked`] if another process works on
    /// it, [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn resume(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if !path.join(CONFIG).is_file() {
            let reason = format!(
                "it has no `{CONFIG}`; start a run there with `--output {}`, without `--resume`",
                path.display()
            );
            return Err(Error::NotARun { path, reason });
        }
        let lock = Lock::acquire(&path)?;
        durable::remove_unfinished(&path)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration, `config.toml`; a directory without it holds no run yet.
    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// `metrics.jsonl`, of [`Metrics`](crate::run::Metrics).
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// `tensorboard/`, of [`TensorBoard`](crate::run::TensorBoard).
    pub fn tensorboard(&self) -> PathBuf {
        self.path.join("tensorboard")
    }

    /// `wandb/`, of [`Wandb`](crate::run::Wandb).
    pub fn wandb(&self) -> PathBuf {
        self.path.join("wandb")
    }

    /// `rollouts/`, of [`RolloutDump`](crate::RolloutDump).
    pub fn rollouts(&self) -> PathBuf {
        self.path.join(ROLLOUTS)
    }

    /// `checkpoints/`, of [`CheckpointStore`](crate::run::CheckpointStore).
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join(CHECKPOINTS)
    }

    /// `checkpoints/step-N` of any run's directory.
    pub fn checkpoint_of(run: &Path, step: u64) -> PathBuf {
        run.join(CHECKPOINTS).join(name_of(step))
    }

    /// Steps with a checkpoint, good or damaged, in any run's directory, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if `checkpoints/` cannot be read.
    pub fn checkpoint_steps(run: &Path) -> Result<Vec<u64>> {
        steps_in(&run.join(CHECKPOINTS))
    }

    /// Whether a directory looks like a run's: `config.toml` and `checkpoints/` are there.
    pub fn is_run(dir: &Path) -> bool {
        dir.join(CONFIG).is_file() && dir.join(CHECKPOINTS).is_dir()
    }

    /// The final model, `model/`.
    pub fn model(&self) -> PathBuf {
        self.path.join("model")
    }

    /// The final adapters of a run with LoRA, in the format of `peft`.
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// The final critic, `critic/`, of runs that have one.
    pub fn critic(&self) -> PathBuf {
        self.path.join("critic")
    }

    /// The summary of a finished run, `None` while it is not finished.
    ///
    /// # Errors
    ///
    /// Those of [`Summary::read`].
    pub fn summary(&self) -> Result<Option<Summary>> {
        Summary::read(&self.path)
    }
}

/// Names in a directory, but the lock and leftovers of killed processes.
fn held(path: &Path) -> Result<Vec<String>> {
    let mut names = durable::names(path)?;
    names.retain(|name| name != lock::NAME && !durable::is_unfinished(name));
    Ok(names)
}

fn check_only_a_run(path: &Path, held: &[String]) -> Result<()> {
    match held.iter().find(|name| !ENTRIES.contains(&name.as_str())) {
        None => Ok(()),
        Some(stranger) => {
            let reason = format!(
                "`--overwrite` removes nothing but runs, and no run writes `{stranger}`; move it \
                 away or choose another directory with `--output`"
            );
            Err(Error::NotARun { path: path.to_owned(), reason })
        }
    }
}
