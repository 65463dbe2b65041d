//! slime's command line: its own flags, and those of Megatron, Ray and SGLang, put into ours.
//!
//! The translation is a plain rewriting of the words of a command line, so that everything behind
//! it knows one set of flags. What has no counterpart is answered: not needed here, with the
//! reason, or refused, with what to do.

mod batches;
mod data;
mod line;
mod logging;
mod models;
mod names;
mod objective;
mod optimizer;
mod rewards;
mod rule;
mod table;
mod translation;

use std::{collections::BTreeSet, ffi::OsString};

use clap::Command;

use self::{line::Line, rule::Answer, table::answer, translation::Translation};
use crate::{config::nearest, failure::Failure};

/// Words that clap understands, and what is to be said of those that were replaced.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Translated {
    pub(crate) words: Vec<OsString>,
    pub(crate) notes: Vec<String>,
}

/// Translates the command line of `opd train`, `opd lint` and `opd plan`; `cli` knows our own flags.
///
/// # Errors
///
/// Bad usage: an unknown flag, one that asks for what is not there, or what slime's own check of
/// its arguments refuses.
pub(crate) fn translate(words: Vec<OsString>, cli: &Command) -> anyhow::Result<Translated> {
    let texts: Option<Vec<&str>> = words.iter().map(|word| word.to_str()).collect();
    let Some([program, command @ ("train" | "lint" | "plan"), rest @ ..]) = texts.as_deref() else {
        return Ok(Translated { words, notes: Vec::new() });
    };
    let own = own_flags(cli, command);
    let mut line = Line::read(rest);
    if line.has("help") || !line.starts_with_flags() {
        return Ok(Translated { words, notes: Vec::new() });
    }
    let mut out = Translation::new(&line);
    if out.is_slimes {
        if line.values("prompt-data").len() > 1 {
            out.note(
                "--prompt-data is given several times: the last counts, as in slime; with --steps in \
                 place of --num-rollout and --num-epoch the files are read one after another",
            );
        }
        line.keep_last();
    }
    models::translate(&mut line, &mut out)?;
    data::translate(&mut line, &mut out)?;
    batches::translate(&mut line, &mut out)?;
    objective::translate(&mut line, &mut out)?;
    optimizer::translate(&mut line, &mut out)?;
    logging::translate(&mut line, &mut out)?;
    for given in line.rest() {
        if own.contains(given.name.as_str()) {
            out.words.extend(given.words());
            continue;
        }
        match answer(&given) {
            Some(Answer::NotNeeded(why)) => out.not_needed(&given.name, why),
            Some(Answer::Refused(why)) => {
                return Err(Failure::usage(format!("{}: {why}", given.shown())));
            }
            None => return Err(unknown(&given.name, &own)),
        }
    }
    let head = [*program, *command].map(str::to_owned);
    let words = head.into_iter().chain(out.words.iter().cloned()).map(OsString::from).collect();
    Ok(Translated { words, notes: out.into_notes() })
}

fn own_flags(cli: &Command, command: &str) -> BTreeSet<String> {
    let flags = cli.find_subcommand(command).into_iter().flat_map(Command::get_arguments);
    let flags = flags.filter_map(|flag| flag.get_long()).map(str::to_owned);
    flags.chain(["help".to_owned(), "version".to_owned()]).collect()
}

fn unknown(name: &str, own: &BTreeSet<String>) -> anyhow::Error {
    let known: Vec<String> = own.iter().cloned().chain(names::known().map(str::to_owned)).collect();
    let nearest = nearest(name, &known).unwrap_or("help");
    Failure::usage(format!(
        "--{name}: unknown flag, of opd and of slime; the nearest known one is --{nearest}"
    ))
}

#[cfg(test)]
mod tests;
