//! Records in and out: JSONL files and stdout.

mod lines;
mod output;
mod row;

use std::io::{self, ErrorKind, Write};

pub(crate) use self::{
    lines::{Line, bad_line, read, record},
    output::OutputFile,
    row::{Row, Text},
};

/// Writes to stdout; a reader that has gone away is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(stdout, "{text}{end}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
