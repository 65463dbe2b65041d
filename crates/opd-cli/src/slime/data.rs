//! Prompts, held-out prompts, and who judges.

use std::path::Path;

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
    let paths = paths_of(&held_out)?;
    let [path, further @ ..] = paths.as_slice() else { return Ok(()) };
    let path = (*path).to_owned();
    out.flag("eval-prompt-data", &path);
    for path in further {
        out.flag("eval-set", path);
    }
    if !further.is_empty() {
        out.note(
            "--eval-prompt-data with several files: the first is that of the table, and all are \
             answered every --eval-interval steps; each file's name names its metrics",
        );
    }
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

/// The files of `FILE` or of pairs `NAME FILE`.
fn paths_of(held_out: &Given) -> anyhow::Result<Vec<&str>> {
    match held_out.values.as_slice() {
        [path] => Ok(vec![path]),
        [] => Err(Failure::usage("--eval-prompt-data: expected NAME FILE")),
        values if values.len() % 2 == 1 => {
            Err(Failure::usage(format!("{}: expected pairs of name and file", held_out.shown())))
        }
        values => Ok(values.iter().skip(1).step_by(2).map(String::as_str).collect()),
    }
}

/// Rows of a prompt file, if it can be read.
pub(super) fn prompts(path: &str) -> Option<u64> {
    opd_data::count_rows(Path::new(path)).ok()
}
