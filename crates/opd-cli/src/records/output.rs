use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use serde::Serialize;

/// A file that appears whole or not at all: written aside, synced, renamed.
///
/// Dropped without [`Self::finish`], it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
    aside: PathBuf,
    file: BufWriter<File>,
    lines: usize,
    finished: bool,
}

impl OutputFile {
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let aside = path.with_file_name(format!(".tmp-{name}-{}", std::process::id()));
        let file = File::create(&aside)
            .with_context(|| format!("{}: cannot write there", path.display()))?;
        let file = BufWriter::new(file);
        Ok(Self { path: path.to_owned(), aside, file, lines: 0, finished: false })
    }

    /// Appends a record as one line.
    pub(crate) fn write(&mut self, record: &impl Serialize) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            serde_json::to_writer(&mut self.file, record)?;
            self.file.write_all(b"\n")
        };
        let mut write = write;
        write().with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.lines += 1;
        Ok(())
    }

    /// Gives the file its name; returns its number of lines.
    pub(crate) fn finish(mut self) -> anyhow::Result<usize> {
        let finish = |this: &mut Self| -> std::io::Result<()> {
            this.file.flush()?;
            this.file.get_ref().sync_all()?;
            fs::rename(&this.aside, &this.path)
        };
        finish(&mut self).with_context(|| format!("{}: cannot write", self.path.display()))?;
        self.finished = true;
        Ok(self.lines)
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.aside);
        }
    }
}
