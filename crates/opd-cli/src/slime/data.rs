//! Prompts, held-out prompts, and who judges.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

use crate::{
    failure::Failure,
    slime::{
        line::{Given, Line},
        translation::Translation,
    },
};

pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    if let Some(seed) = line.take("rollout-seed") {
        if line.take_switch("seed") {
            out.not_needed("seed", "--rollout-seed fixes every random choice that is made here");
        }
        out.words.extend([vec!["--seed".to_owned()], seed.values].concat());
    }
    let Some(held_out) = line.take("eval-prompt-data") else {
        if out.is_slimes && line.has("eval-interval") {
            return Err(Failure::usage(
                "--eval-interval without --eval-prompt-data: name the held-out prompts with \
                 --eval-prompt-data NAME FILE",
            ));
        }
        return Ok(());
    };
    let path = path_of(&held_out)?.to_owned();
    out.flag("eval-prompt-data", &path);
    if !out.is_slimes {
        return Ok(());
    }
    if line.has("eval-interval") && !line.has("validation-prompt-data") {
        out.flag("validation-prompt-data", &path);
        if let (false, Some(n)) = (line.has("validation-prompts"), prompts(&path)) {
            out.flag("validation-prompts", n);
        }
    }
    for (own, rollouts) in [
        ("eval-temperature", "rollout-temperature"),
        ("eval-top-p", "rollout-top-p"),
        ("eval-top-k", "rollout-top-k"),
    ] {
        let value = line.value(rollouts).map(str::to_owned);
        if let (false, Some(value)) = (line.has(own), value) {
            out.flag(own, value);
        }
    }
    Ok(())
}

/// The file of `FILE` or `NAME FILE`.
fn path_of(held_out: &Given) -> anyhow::Result<&str> {
    match held_out.values.as_slice() {
        [path] | [_, path] => Ok(path),
        values if values.len() % 2 == 1 => {
            Err(Failure::usage(format!("{}: expected pairs of name and file", held_out.shown())))
        }
        [] => Err(Failure::usage("--eval-prompt-data: expected NAME FILE")),
        _ => Err(Failure::usage(format!(
            "{}: a run evaluates one file; name one here, and the others with `opd eval` \
             afterwards",
            held_out.shown()
        ))),
    }
}

/// Prompts of a JSONL file, if it can be read.
pub(super) fn prompts(path: &str) -> Option<u64> {
    let lines = BufReader::new(File::open(path).ok()?).split(b'\n');
    let lines: Result<Vec<Vec<u8>>, _> = lines.collect();
    Some(lines.ok()?.iter().filter(|line| !line.trim_ascii().is_empty()).count() as u64)
}
