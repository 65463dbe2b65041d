use std::fmt::Write;

use minijinja::{Error, ErrorKind};

/// Longest format, in bytes.
const LONGEST: usize = 1024;

/// The local time, by a format of C's `strftime`.
pub(super) fn now(format: &str) -> Result<String, Error> {
    if format.len() > LONGEST {
        let what = format!("strftime_now: a format of {} bytes, at most {LONGEST}", format.len());
        return Err(Error::new(ErrorKind::InvalidOperation, what));
    }
    let mut text = String::new();
    match write!(text, "{}", chrono::Local::now().format(format)) {
        Ok(()) => Ok(text),
        Err(_) => {
            let what = format!("strftime_now: {format:?} is no format of a time");
            Err(Error::new(ErrorKind::InvalidOperation, what))
        }
    }
}
