use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use crate::{
    Error, Result,
    assets::ASSETS,
    sort8::{Example, SOURCE, Split, examples},
    write::put,
};

/// Seeds of the three files: one order of the prompts for each.
const TRAIN_SEED: u64 = 1;
const VALIDATION_SEED: u64 = 2;
const TEST_SEED: u64 = 3;

/// How many rows the data files get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataSizes {
    /// Rows of `train.jsonl`; default 12,800: 400 steps of 32 prompts, each seen once.
    pub train: usize,
    /// Rows of `validation.jsonl`, on which settings are chosen; default 2,000.
    pub validation: usize,
    /// Rows of `test.jsonl`, on which results are reported; default 10,000.
    pub test: usize,
}

impl Default for DataSizes {
    fn default() -> Self {
        Self { train: 12_800, validation: 2_000, test: 10_000 }
    }
}

/// Where [`materialize`] put the parts of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Model directory of the student, as after supervised fine-tuning.
    pub student: PathBuf,
    /// Model directory of the teacher.
    pub teacher: PathBuf,
    /// Model directory of a teacher of the same skill whose tokens are pairs of digits.
    pub pairs_teacher: PathBuf,
    /// Prompts to train on.
    pub train: PathBuf,
    /// Prompts to choose settings on.
    pub validation: PathBuf,
    /// Prompts to report on, held out of all training.
    pub test: PathBuf,
}

impl Layout {
    fn below(dir: &Path) -> Self {
        Self {
            student: dir.join("student"),
            teacher: dir.join("teacher"),
            pairs_teacher: dir.join("pairs_teacher"),
            train: dir.join("train.jsonl"),
            validation: dir.join("validation.jsonl"),
            test: dir.join("test.jsonl"),
        }
    }
}

/// [`materialize_with`] the default [`DataSizes`].
///
/// # Errors
///
/// As [`materialize_with`].
pub fn materialize(dir: &Path) -> Result<Layout> {
    materialize_with(dir, DataSizes::default())
}

/// Writes the job into `dir` as an ordinary tree: three Hugging Face model directories and three
/// JSON Lines files of `{"prompt": "83120975=", "label": "01235789", "source": "sort8"}`.
///
/// The same sizes give the same bytes on every machine. Files are written aside, synced and
/// renamed; those that are there already with the same content are kept, so that an interrupted
/// call is completed by the next one.
///
/// # Errors
///
/// - [`Error::TooFewPrompts`] if a split has fewer prompts than rows are asked for; nothing is
///   written;
/// - [`Error::Occupied`] if `dir` holds another file of one of the names; it is not touched;
/// - [`Error::Io`] if the file system refuses.
pub fn materialize_with(dir: &Path, sizes: DataSizes) -> Result<Layout> {
    let layout = Layout::below(dir);
    let files = [
        (&layout.train, rows("train.jsonl", Split::Train, TRAIN_SEED, sizes.train)?),
        (
            &layout.validation,
            rows("validation.jsonl", Split::Validation, VALIDATION_SEED, sizes.validation)?,
        ),
        (&layout.test, rows("test.jsonl", Split::Test, TEST_SEED, sizes.test)?),
    ];
    for (name, bytes) in ASSETS {
        put(&dir.join(name), bytes)?;
    }
    for (path, rows) in files {
        put(path, rows.as_bytes())?;
    }
    Ok(layout)
}

/// The lines of one data file.
fn rows(file: &'static str, split: Split, seed: u64, asked: usize) -> Result<String> {
    let available = split.n_prompts();
    if asked > available {
        return Err(Error::TooFewPrompts { file, asked, available });
    }
    let mut lines = String::new();
    for Example { prompt, answer } in examples(split, seed).take(asked) {
        // Digits, `=` and the name need no escapes; writing to a `String` cannot fail.
        let _ = writeln!(
            lines,
            r#"{{"prompt": "{prompt}", "label": "{answer}", "source": "{SOURCE}"}}"#
        );
    }
    Ok(lines)
}
