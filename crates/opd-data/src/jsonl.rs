//! The rows of a JSONL file, one after the other.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use crate::{Error, Result, spool::Place};

/// Longest line, in bytes.
pub(crate) const LONGEST: usize = 64 << 20;

/// Calls `row` with the index (from 0) and the place of every line that is not blank, and its text
/// or what is wrong with it, until it says to stop.
pub(crate) fn scan(
    path: &Path,
    file: u32,
    mut row: impl FnMut(u64, Place, std::result::Result<&str, String>) -> Result<bool>,
) -> Result<File> {
    let io = |source| Error::Io { path: path.into(), source };
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(io)?);
    let (mut offset, mut number, mut index) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        let (read, kept) = next_line(&mut reader, &mut line).map_err(io)?;
        if read == 0 {
            break;
        }
        number += 1;
        let place = Place { file, length: line.len() as u32, offset, row: number };
        offset += read as u64;
        let text = match kept {
            true => std::str::from_utf8(&line).map_err(|error| format!("not UTF-8: {error}")),
            false => Err(format!("the line has {read} bytes, at most {LONGEST} are read")),
        };
        if text.as_ref().is_ok_and(|text| text.trim().is_empty()) {
            continue;
        }
        if !row(index, place, text)? {
            break;
        }
        index += 1;
    }
    Ok(reader.into_inner())
}

/// Reads a line without its end into `line`: how many bytes were passed, and whether all are held.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<(usize, bool)> {
    line.clear();
    let (mut read, mut whole) = (0, true);
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok((read, whole));
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        if line.len() + part.len() <= LONGEST {
            line.extend_from_slice(part);
        } else {
            (whole, *line) = (false, Vec::new());
        }
        let used = end.map_or(available.len(), |end| end + 1);
        reader.consume(used);
        read += used;
        if end.is_some() {
            return Ok((read, whole));
        }
    }
}
