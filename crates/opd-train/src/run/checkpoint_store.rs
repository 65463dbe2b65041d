use std::{
    error::Error as StdError,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use crate::run::{
    Checkpoint, Error, Result, RunDir,
    checkpoint::{name_of, step_of},
    durable::{aside, names, parent, remove, remove_unfinished, sync_dir},
    error::is_full,
    manifest::{self, Manifest},
};

/// The checkpoints of a run: `checkpoints/step-N/`, the last few and the best.
///
/// A checkpoint is written under another name, every file and directory is synced, and one
/// rename makes it `step-N`. A manifest with the size and the CRC-32C of every file shows
/// later damage. So at any moment, whatever is killed or torn out, `step-N` is either
/// absent, complete, or known to be damaged.
#[derive(Debug)]
pub struct CheckpointStore {
    dir: PathBuf,
    keep_last: NonZeroUsize,
}

impl CheckpointStore {
    /// The store of a run, which keeps the last `keep_last` checkpoints and the best one.
    ///
    /// Creates the directory and removes what a killed process left unfinished in it.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`], [`Error::Full`] or [`Error::Io`].
    pub fn open(run: &RunDir, keep_last: NonZeroUsize) -> Result<Self> {
        let dir = run.checkpoints();
        let create = || {
            fs::create_dir_all(&dir)?;
            sync_dir(parent(&dir))
        };
        create().map_err(|source| Error::writing(&dir, source))?;
        remove_unfinished(&dir)?;
        Ok(Self { dir, keep_last })
    }

    /// Saves what `write` puts into the directory that it is given; returns where it then is.
    ///
    /// `step` counts completed steps; a checkpoint of the same step is replaced. `score` is
    /// higher for a better model: the checkpoint with the highest one (the earliest of
    /// equals) is kept beside the last ones. Older ones are removed.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] on a full disk, [`Error::NotWritable`], [`Error::Checkpoint`] with
    /// the error of `write`, [`Error::Range`] for a score that is not finite. The partial
    /// checkpoint is removed and the earlier ones are as they were.
    pub fn save<E>(
        &self,
        step: u64,
        score: Option<f64>,
        write: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> Result<PathBuf>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        if let Some(value) = score.filter(|score| !score.is_finite()) {
            let what = "the score of a checkpoint";
            return Err(Error::Range { what, value, expected: "a finite number" });
        }
        let path = self.path(step);
        let partial = aside(&path);
        let saved = self.save_aside(&partial, step, score, write);
        let renamed = saved.and_then(|()| self.rename(&partial, &path));
        if let Err(error) = renamed {
            if partial.exists() {
                let _ = fs::remove_dir_all(&partial);
            }
            return Err(error);
        }
        self.prune()?;
        Ok(path)
    }

    /// The last good checkpoint; each later one that is damaged is skipped with a warning.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        for step in self.steps()?.into_iter().rev() {
            match self.at(step) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => tracing::warn!("{error}; skipped"),
            }
        }
        Ok(None)
    }

    /// The good checkpoint with the highest score, `None` if none has a score.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read, [`Error::Damaged`] if the best one is
    /// damaged.
    pub fn best(&self) -> Result<Option<Checkpoint>> {
        let best = self.best_step(&self.steps()?);
        best.map(|step| self.at(step)).transpose()
    }

    /// The checkpoint of a step.
    ///
    /// # Errors
    ///
    /// [`Error::NoCheckpoint`] naming the steps there are, [`Error::Damaged`], or
    /// [`Error::Io`] if the directory cannot be read.
    pub fn at(&self, step: u64) -> Result<Checkpoint> {
        let held = self.steps()?;
        if !held.contains(&step) {
            return Err(Error::NoCheckpoint { path: self.dir.clone(), step, held });
        }
        Checkpoint::open(self.path(step))
    }

    /// Steps with a checkpoint, good or damaged, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read.
    pub fn steps(&self) -> Result<Vec<u64>> {
        steps_in(&self.dir)
    }

    /// Removes the checkpoints of later steps, which a run that goes on after `step` makes
    /// anew.
    ///
    /// # Errors
    ///
    /// [`Error::NotWritable`] or [`Error::Io`].
    pub fn discard_after(&self, step: u64) -> Result<()> {
        for later in self.steps()?.into_iter().filter(|&later| later > step) {
            self.discard(later)?;
        }
        Ok(())
    }

    fn path(&self, step: u64) -> PathBuf {
        self.dir.join(name_of(step))
    }

    fn save_aside<E>(
        &self,
        partial: &Path,
        step: u64,
        score: Option<f64>,
        write: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> Result<()>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let writing = |source| Error::writing(partial, source);
        if partial.exists() {
            remove(partial)?;
        }
        fs::create_dir(partial).map_err(writing)?;
        write(partial).map_err(|source| {
            let (path, source) = (partial.to_owned(), source.into());
            if is_full(&*source) {
                Error::Full { path, source }
            } else {
                Error::Checkpoint { step, path, source }
            }
        })?;
        let manifest = Manifest::of(partial, step, score).map_err(writing)?;
        let path = partial.join(manifest::NAME);
        let json =
            manifest.to_json().map_err(|source| Error::Json { path: path.clone(), source })?;
        let sealed = fs::write(&path, json)
            .and_then(|()| fs::File::open(&path)?.sync_all())
            .and_then(|()| sync_dir(partial));
        sealed.map_err(|source| Error::writing(&path, source))
    }

    fn rename(&self, partial: &Path, path: &Path) -> Result<()> {
        let rename = || -> io::Result<()> {
            fs::rename(partial, path)?;
            sync_dir(&self.dir)
        };
        if path.exists() {
            self.set_aside(path)?;
        }
        rename().map_err(|source| Error::writing(path, source))
    }

    fn prune(&self) -> Result<()> {
        let steps = self.steps()?;
        let best = self.best_step(&steps);
        let old = steps.len().saturating_sub(self.keep_last.get());
        for &step in steps[..old].iter().filter(|&&step| Some(step) != best) {
            self.discard(step)?;
        }
        Ok(())
    }

    fn best_step(&self, steps: &[u64]) -> Option<u64> {
        let scores = steps.iter().filter_map(|&step| {
            let score = Manifest::read(&self.path(step)).ok()?.score?;
            Some((step, score))
        });
        scores.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(step, _)| step)
    }

    fn discard(&self, step: u64) -> Result<()> {
        self.set_aside(&self.path(step))
    }

    /// Removes a checkpoint so that a kill on the way does not leave half of it under its name.
    fn set_aside(&self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let doomed = aside(&path.with_file_name(format!("old-{name}")));
        fs::rename(path, &doomed).map_err(|source| Error::writing(path, source))?;
        remove(&doomed)
    }
}

/// Steps with a checkpoint in a directory of checkpoints, in order.
pub(super) fn steps_in(dir: &Path) -> Result<Vec<u64>> {
    let names = names(dir)?;
    let mut steps: Vec<_> = names.iter().filter_map(|name| step_of(name.as_ref())).collect();
    steps.sort_unstable();
    Ok(steps)
}
