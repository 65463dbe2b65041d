use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What becomes of rows that cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRows {
    /// The first is an error.
    #[default]
    Fail,
    /// They are left out, counted and reported.
    Skip,
}

/// A row that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRow {
    /// The file.
    pub path: PathBuf,
    /// Line or row, from 1.
    pub row: u64,
    /// What is wrong with it.
    pub what: String,
}
