//! The optimizer and its schedule.

use crate::{
    failure::Failure,
    slime::{
        line::Line,
        translation::{Translation, number, text},
    },
};

pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    if let Some(given) = line.take("optimizer") {
        match text(&given)? {
            "adam" => out.not_needed("optimizer", "AdamW is the only one"),
            other => {
                return Err(Failure::usage(format!(
                    "--optimizer {other}: AdamW is the only one that is there; use adam"
                )));
            }
        }
    }
    if let Some(given) = line.take("lr-decay-style") {
        match text(&given)? {
            style @ ("constant" | "linear" | "cosine") => out.flag("lr-schedule", style),
            other => {
                return Err(Failure::usage(format!(
                    "--lr-decay-style {other}: use constant, linear or cosine"
                )));
            }
        }
    }
    if let Some(given) = line.take("lr-warmup-iters") {
        out.flag("lr-warmup", number::<u64>(&given)?);
    }
    if let Some(given) = line.take("min-lr") {
        let least: f64 = number(&given)?;
        let peak = line.value("lr").map_or(Ok(1e-6), str::parse::<f64>);
        let peak = peak.map_err(|_| Failure::usage("--min-lr: --lr is not a number"))?;
        if !(0.0..=peak).contains(&least) {
            return Err(Failure::usage(format!(
                "{}: it must be from 0 to --lr, which is {peak:e}",
                given.shown()
            )));
        }
        out.flag("min-lr-ratio", least / peak);
    }
    Ok(())
}
