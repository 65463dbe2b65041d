//! `report.html`: one page that shows what a run did, and opens offline.
//!
//! Style, script and data are inside the page; it asks for nothing from anywhere. Charts
//! are drawn by [`write()`] itself, so the page can be read without its script, which only
//! adds the readouts under the pointer. Light or dark follows the reader's system.

mod chart;
mod curve_svg;
mod curves;
mod data;
mod escape;
mod evaluations;
mod number;
mod page;
mod picture;
mod position;
mod samples;
mod scale;
mod thin;

use std::path::{Path, PathBuf};

pub use self::{
    data::{Evaluation, PassAtK, ReportData, Sample, TokenKl, Who},
    number::count,
    page::html,
    picture::Picture,
    position::{PositionKl, kl_by_position},
};
use crate::run::{Metrics, Result, write_atomically};

/// Writes `report.html` into a run's directory, in one piece; returns its path.
///
/// The curves are those of the directory's `metrics.jsonl`.
///
/// # Errors
///
/// Those of [`Metrics::read`] and [`write_atomically`].
pub fn write(run: &Path, data: &ReportData) -> Result<PathBuf> {
    let metrics = Metrics::read(&run.join("metrics.jsonl"))?;
    let path = run.join("report.html");
    write_atomically(&path, html(data, &metrics).as_bytes())?;
    Ok(path)
}
