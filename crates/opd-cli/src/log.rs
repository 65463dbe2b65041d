//! Warnings of the libraries, on stderr, above a progress bar if there is one.

use std::{
    io::{self, Write},
    sync::OnceLock,
};

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;

static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Where all progress bars are drawn.
pub(crate) fn bars() -> &'static MultiProgress {
    BARS.get_or_init(MultiProgress::new)
}

/// Shows warnings, or errors alone.
pub(crate) fn start(quiet: bool) {
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::WARN };
    // A second call changes nothing: one process has one log.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .without_time()
        .with_writer(|| AboveBars)
        .try_init();
}

struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        bars().suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
