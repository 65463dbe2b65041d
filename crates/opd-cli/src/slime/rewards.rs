//! Who judges responses.

use crate::{
    failure::Failure,
    slime::{
        line::Line,
        translation::{Translation, text},
    },
};

/// slime's own functions that put the teacher's log-probs where the trainer looks for them.
const REWARD_FUNC: &str = "slime.rollout.on_policy_distillation.reward_func";
const POST_PROCESS: &str = "slime.rollout.on_policy_distillation.post_process_rewards";

const BUILT_IN: &str = "asking the teacher is built in; the task's reward is 0, as there";

/// Puts rewards into ours; whether every one of them is 0.
pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<bool> {
    Ok(functions(line, out)? | rule(line, out)?)
}

/// `--custom-rm-path` and `--custom-reward-post-process-path`; whether they make every reward 0.
fn functions(line: &mut Line, out: &mut Translation) -> anyhow::Result<bool> {
    let mut any = false;
    for (name, known) in
        [("custom-rm-path", REWARD_FUNC), ("custom-reward-post-process-path", POST_PROCESS)]
    {
        let Some(given) = line.take(name) else { continue };
        if text(&given)? != known {
            return Err(Failure::usage(format!(
                "{}: a function in Python, of which {known} alone is built in; a rule is chosen \
                 with --rm-type, and one of your own implements `opd_reward::Reward` in Rust",
                given.shown()
            )));
        }
        if line.value("opd-type") != Some("sglang") || !line.has("use-opd") {
            return Err(Failure::usage(format!(
                "{}: it asks the teacher of --use-opd --opd-type sglang, which is not given; add \
                 these, or drop it",
                given.shown()
            )));
        }
        out.not_needed(name, BUILT_IN);
        any = true;
    }
    if any && line.take_switch("rm-type") {
        out.not_needed("rm-type", "--custom-rm-path stands in for it");
    }
    Ok(any)
}

/// `--rm-type`; whether it makes every reward 0.
fn rule(line: &mut Line, out: &mut Translation) -> anyhow::Result<bool> {
    let unlabelled = out.is_slimes && !line.has("label-key");
    match line.value("rm-type") {
        Some("math") if unlabelled => {
            line.take("rm-type");
            out.note(
                "--rm-type math without --label-key: there is no right answer to compare with, so \
                 that every reward is 0, as in slime",
            );
            Ok(true)
        }
        Some(kind @ ("gpqa" | "ifbench")) => Err(Failure::usage(format!(
            "--rm-type {kind}: this rule is not there; math, dapo, deepscaler, gsm8k, f1, \
             exact_match, regex and remote_rm are, and one of your own implements \
             `opd_reward::Reward`. Distillation alone needs none: drop --rm-type and use \
             --advantage-estimator zero"
        ))),
        Some("remote_rm") if !line.has("reward-url") => {
            if line.has("use-opd") && line.value("opd-type") != Some("megatron") {
                return Err(Failure::usage(
                    "--rm-type remote_rm: --rm-url names the teacher's server here (--use-opd); \
                     name the server that judges with --reward-url URL",
                ));
            }
            let Some(given) = line.take("rm-url") else {
                return Err(Failure::usage(
                    "--rm-type remote_rm: name the server that judges with --rm-url URL",
                ));
            };
            out.flag("reward-url", text(&given)?);
            out.note(
                "--rm-url of --rm-type remote_rm is --reward-url: beside --use-opd, --rm-url names \
                 the teacher's server",
            );
            Ok(false)
        }
        Some("random") => {
            Err(Failure::usage("--rm-type random: there is nothing to learn from it; drop it"))
        }
        Some(kind) if kind.starts_with("boxed_") => Err(Failure::usage(format!(
            "--rm-type {kind}: answers are judged as a whole, or in their box by --rm-type math; \
             use one of math, exact_match and f1"
        ))),
        _ => Ok(false),
    }
}
