//! `--hf-checkpoint`, `--load`, `--save`, `--ref-load`: where weights come from and go to.

use std::path::Path;

use opd_models::{hub_id, is_model};
use opd_train::run::RunDir;

use crate::{
    failure::Failure,
    slime::{
        line::Line,
        translation::{Translation, text},
    },
};

/// What marks a directory of Megatron's.
const MEGATRON: &str = "latest_checkpointed_iteration.txt";

pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let save = line.take("save");
    let load = line.take("load");
    if save.is_none() && out.is_slimes && line.has("save-interval") {
        return Err(Failure::usage(
            "--save-interval without --save: name the directory of the run with --save DIR",
        ));
    }
    if line.has("opd-teacher-load") && out.is_slimes && !line.has("use-opd") {
        return Err(Failure::usage(
            "--opd-teacher-load without --use-opd: add --use-opd --opd-type megatron, or drop \
             --opd-teacher-load",
        ));
    }
    if let Some(save) = &save {
        out.flag("output", text(save)?);
    }
    let mut start = None;
    if let Some(load) = &load {
        let dir = text(load)?;
        let saved = save.as_ref().map(text).transpose()?;
        let same = saved.is_some_and(|save| same(save, dir));
        start = loaded(dir, same, out)?;
    }
    let reference = match out.is_slimes {
        true => line.take("ref-load"),
        false => None,
    };
    let Some(reference) = &reference else {
        if let Some(start) = start {
            line.take("hf-checkpoint");
            out.flag("hf-checkpoint", start);
        }
        return Ok(());
    };
    let dir = text(reference)?.to_owned();
    readable("--ref-load", &dir)?;
    let hf = line.value("hf-checkpoint").map(str::to_owned);
    match start {
        // slime begins with the weights of --load, or else with those of --ref-load.
        Some(start) => {
            line.take("hf-checkpoint");
            out.flag("hf-checkpoint", &start);
            if !same(&start, &dir) {
                out.flag("ref-load", &dir);
            }
        }
        None if hf.as_deref().is_some_and(|hf| same(hf, &dir)) => {
            out.not_needed("ref-load", "the start policy is kept wherever a KL to it is asked for")
        }
        None => {
            line.take("hf-checkpoint");
            out.flag("hf-checkpoint", &dir);
            out.note(format!(
                "--ref-load {dir}: training starts from it, as in slime without a checkpoint in \
                 --load, and not from --hf-checkpoint"
            ));
        }
    }
    Ok(())
}

/// What `--load DIR` comes to: the weights to start from, if it names any.
fn loaded(dir: &str, is_save: bool, out: &mut Translation) -> anyhow::Result<Option<String>> {
    let path = Path::new(dir);
    if path.join(MEGATRON).is_file() {
        return Err(megatron("--load", dir));
    }
    if is_save {
        out.switch("continue");
        return Ok(None);
    }
    if RunDir::is_run(path) {
        return Err(Failure::usage(format!(
            "--load {dir}: a run is continued where it is; use --save {dir} to go on with it, or \
             --hf-checkpoint {} to start anew from what it trained",
            path.join("model").display()
        )));
    }
    if is_model(path) {
        return Ok(Some(dir.to_owned()));
    }
    out.note(format!("--load {dir}: there is no checkpoint, so that training starts anew"));
    Ok(None)
}

/// Passes if a directory can hold a model that is read here.
pub(super) fn readable(flag: &str, dir: &str) -> anyhow::Result<()> {
    let path = Path::new(dir);
    match () {
        () if dir.starts_with("bundled:") || is_model(path) || hub_id(path).is_some() => Ok(()),
        () if path.join(MEGATRON).is_file() => Err(megatron(flag, dir)),
        () if !path.exists() => {
            Err(Failure::usage(format!("{flag} {dir}: it does not exist; check the path")))
        }
        () => Err(Failure::usage(format!(
            "{flag} {dir}: it holds no config.json; name the Hugging Face directory from which it \
             was converted"
        ))),
    }
}

fn megatron(flag: &str, dir: &str) -> anyhow::Error {
    Failure::usage(format!(
        "{flag} {dir}: a Megatron checkpoint; opd reads and writes Hugging Face directories: name \
         the one from which it was converted, or convert it with slime's \
         tools/convert_torch_dist_to_hf.py"
    ))
}

fn same(one: &str, other: &str) -> bool {
    let whole = |path: &str| {
        let path = Path::new(path.trim_end_matches('/'));
        path.canonicalize().or_else(|_| std::path::absolute(path)).ok()
    };
    whole(one) == whole(other)
}
