//! The prompt files of a run, as its checkpoints remember them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, TokenizedPrompts, run::RunDir};

/// A prompt file that a run learns from.
///
/// A step's position counts through the rows of all files, so that a run goes on exactly only with the
/// same ones. Two are the same if they hold the same rows, or if they have one path and one number of
/// rows: a directory may be moved, and a row be mended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromptFile {
    /// Absolute, with the slice.
    path: PathBuf,
    /// Rows that are used.
    rows: u64,
    crc32c: u32,
}

impl PromptFile {
    /// Those of a set, in their order.
    pub(crate) fn of(prompts: &TokenizedPrompts) -> Vec<Self> {
        let files = prompts.files().iter().map(|file| {
            let path = PathBuf::from(file.path.to_string());
            let path = std::path::absolute(&path).unwrap_or(path);
            Self { path, rows: file.rows, crc32c: file.crc32c }
        });
        files.collect()
    }

    fn is(&self, other: &Self) -> bool {
        self.rows == other.rows && (self.crc32c == other.crc32c || self.path == other.path)
    }
}

/// Passes if a run in `dir` that was saved with the files `held` may go on with `now`; checkpoints
/// that hold none are of a version that did not write them.
///
/// # Errors
///
/// [`Error::State`] naming every file that is gone, new or another one.
pub(crate) fn check(held: &[PromptFile], now: &[PromptFile], dir: &RunDir) -> Result<()> {
    let changed = changes(held, now);
    if held.is_empty() || changed.is_empty() {
        return Ok(());
    }
    let what = format!(
        "data.train is not what the run was saved with: {}; put the files back, or start another \
         run with --config {}",
        changed.join("; "),
        dir.config().display()
    );
    Err(Error::State { path: dir.config(), what })
}

fn changes(held: &[PromptFile], now: &[PromptFile]) -> Vec<String> {
    let places = 0..held.len().max(now.len());
    let change = |i: usize| match (held.get(i), now.get(i)) {
        (Some(was), Some(is)) if was.is(is) => None,
        (Some(was), Some(is)) if was.path == is.path => Some(format!(
            "file {}, {}, had {} rows in use and has {}",
            i + 1,
            is.path.display(),
            was.rows,
            is.rows
        )),
        (Some(was), Some(is)) => {
            Some(format!("file {} was {} and is {}", i + 1, was.path.display(), is.path.display()))
        }
        (Some(was), None) => Some(format!("file {}, {}, is gone", i + 1, was.path.display())),
        (None, Some(is)) => Some(format!("file {}, {}, is new", i + 1, is.path.display())),
        (None, None) => None,
    };
    places.filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, rows: u64, crc32c: u32) -> PromptFile {
        PromptFile { path: path.into(), rows, crc32c }
    }

    #[test]
    fn every_change_is_named() {
        let (a, b, c) = (file("/a", 3, 1), file("/b", 4, 2), file("/c", 4, 3));
        let pair = [a.clone(), b.clone()];
        for (now, expected) in [
            (vec![a.clone(), b.clone()], &[][..]),
            (vec![file("/moved/a", 3, 1), b.clone()], &[]),
            (vec![a.clone(), file("/b", 4, 9)], &[]),
            (vec![a.clone()], &["file 2, /b, is gone"]),
            (vec![a.clone(), b.clone(), c.clone()], &["file 3, /c, is new"]),
            (vec![a.clone(), c.clone()], &["file 2 was /b and is /c"]),
            (vec![b.clone(), a], &["file 1 was /a and is /b", "file 2 was /b and is /a"]),
            (vec![file("/a", 5, 1), b], &["file 1, /a, had 3 rows in use and has 5"]),
        ] {
            assert_eq!(changes(&pair, &now), expected);
        }
    }
}
