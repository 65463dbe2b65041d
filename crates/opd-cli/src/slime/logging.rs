//! Weights & Biases, and what is kept to look at.

use crate::{
    failure::Failure,
    slime::{
        line::Line,
        translation::{Translation, text},
    },
};

const OFFLINE: &str = "the run is written offline, into the run's directory; `wandb sync \
                       RUN/wandb/offline-run-*` uploads it with the account, host and id of your \
                       own wandb";

pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let disabled = match line.take("wandb-mode").as_ref().map(text).transpose()? {
        Some("disabled") => true,
        Some("online") => {
            out.note("--wandb-mode online: nothing is sent while training; see `wandb sync`");
            false
        }
        None | Some("offline") => false,
        Some(other) => {
            return Err(Failure::usage(format!("--wandb-mode {other}: use offline, or disabled")));
        }
    };
    for name in ["wandb-key", "wandb-host", "wandb-dir", "wandb-run-id"] {
        if line.take_switch(name) {
            out.not_needed(name, OFFLINE);
        }
    }
    let unread = (out.is_slimes && !line.has("use-wandb")) || disabled;
    for name in ["use-wandb", "wandb-project", "wandb-group", "wandb-team"] {
        if unread && line.take_switch(name) {
            out.not_needed(name, "slime reads it with --use-wandb alone, and not when disabled");
        }
    }
    for name in ["save-debug-rollout-data", "dump-details"] {
        if line.take_switch(name) && !line.has("dump-rollouts") {
            if !out.words.iter().any(|word| word == "--dump-rollouts") {
                out.switch("dump-rollouts");
            }
            out.note(format!(
                "--{name}: rollouts are kept as rollouts/step-N.jsonl in the run's directory \
                 (--dump-rollouts)"
            ));
        }
    }
    Ok(())
}
