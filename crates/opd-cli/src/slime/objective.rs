//! Estimators, losses, corrections.

use crate::{
    failure::Failure,
    slime::{
        line::{Given, Line},
        rewards,
        translation::{Translation, number, text},
    },
};

const TIS: &str = "slime.backends.megatron_utils.loss.vanilla_tis_function";
const ICEPOP: &str = "slime.backends.megatron_utils.loss.icepop_function";

pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let no_reward = rewards::translate(line, out)?;
    estimator(line, out, no_reward)?;
    kl(line, out)?;
    corrections(line, out)?;
    if line.take_switch("calculate-per-token-loss") {
        out.flag("loss-aggregation", "token-mean");
    }
    Ok(())
}

/// The estimator and the loss that slime's `--advantage-estimator` stands for.
fn estimator(line: &mut Line, out: &mut Translation, no_reward: bool) -> anyhow::Result<()> {
    let plain = line.take_switch("disable-grpo-std-normalization");
    let raw = line.take_switch("disable-rewards-normalization");
    let named = line.value("advantage-estimator").map(str::to_owned);
    let slimes = matches!(named.as_deref(), Some("gspo" | "cispo"));
    if !(out.is_slimes || slimes || plain || raw || no_reward) {
        return Ok(());
    }
    let name = named.as_deref().unwrap_or("grpo");
    if name.starts_with("reinforce_plus_plus") && out.is_slimes && !line.has("normalize-advantages")
    {
        return Err(Failure::usage(format!(
            "--advantage-estimator {name} needs --normalize-advantages: its advantages are \
             whitened over the batch"
        )));
    }
    let group = matches!(name, "grpo" | "gspo" | "cispo");
    if (plain || raw) && !group && name != "reinforce_plus_plus_baseline" {
        out.not_needed(
            if plain { "disable-grpo-std-normalization" } else { "disable-rewards-normalization" },
            "the estimator does not normalise rewards within a group",
        );
    }
    if let "gspo" | "cispo" = name {
        if !line.has("loss") {
            out.flag("loss", name);
        }
        let clip = line.value("eps-clip").and_then(|clip| clip.parse::<f64>().ok());
        if name == "cispo" && clip.unwrap_or(0.2) < 1.0 {
            out.note(
                "--advantage-estimator cispo: its source has no lower bound of the ratio; \
                 --eps-clip 1.0 --eps-clip-high 4.0 or so is that setting",
            );
        }
    }
    if no_reward {
        return without_reward(line, out, name);
    }
    if group || named.is_some() {
        line.take("advantage-estimator");
        let name = match (group, raw, plain) {
            (true, true, _) => "raw_reward",
            (true, false, true) => "dr_grpo",
            (true, false, false) => "grpo",
            (false, ..) => name,
        };
        out.flag("advantage-estimator", name);
    }
    Ok(())
}

/// Every reward is 0: what is left of the estimator.
fn without_reward(line: &mut Line, out: &mut Translation, name: &str) -> anyhow::Result<()> {
    let pull = line.value("kl-coef").and_then(|coef| coef.parse::<f64>().ok()).unwrap_or(0.0);
    if pull != 0.0 || name == "ppo" {
        return Err(Failure::usage(format!(
            "--advantage-estimator {name}{}: every reward is 0, so that it would learn from the KL \
             to the start policy or a critic of nothing; use --advantage-estimator grpo, and \
             --use-kl-loss for a pull to the start policy",
            if pull == 0.0 { String::new() } else { format!(" with --kl-coef {pull}") }
        )));
    }
    line.take("advantage-estimator");
    out.flag("advantage-estimator", "zero");
    if name != "zero" {
        out.note(format!(
            "--advantage-estimator {name}: of rewards that are all 0 it makes advantages that are \
             all 0, which is the estimator `zero`"
        ));
    }
    Ok(())
}

fn kl(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let of_loss = line.take_switch("use-kl-loss");
    if !out.is_slimes {
        if of_loss {
            out.not_needed("use-kl-loss", "--kl-loss-coef above 0 switches it on");
        }
        return Ok(());
    }
    let coef = |line: &Line, name: &str| {
        line.value(name).and_then(|coef| coef.parse::<f64>().ok()).unwrap_or(0.0)
    };
    if coef(line, "kl-coef") != 0.0 && coef(line, "kl-loss-coef") != 0.0 {
        return Err(Failure::usage(
            "--kl-coef and --kl-loss-coef are both set: the KL to the start policy goes into the \
             reward or into the loss; keep one",
        ));
    }
    if !of_loss {
        for name in ["kl-loss-coef", "kl-loss-type", "use-unbiased-kl"] {
            if line.take_switch(name) {
                out.not_needed(name, "slime reads it with --use-kl-loss alone");
            }
        }
    }
    Ok(())
}

/// TIS, IcePop, OPSM, and whose log-probs the ratio starts from.
fn corrections(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let sampler = line.take_switch("use-rollout-logprobs");
    let tis = line.take_switch("use-tis");
    if sampler && tis {
        return Err(Failure::usage(
            "--use-rollout-logprobs and --use-tis: the ratio starts from the sampler's log-probs, \
             or is corrected for them; keep one",
        ));
    }
    if sampler {
        out.flag("old-logprobs", "sampler");
    }
    let function = line.take("custom-tis-function-path");
    let kind = match function.as_ref().map(text).transpose()? {
        None | Some(TIS) => "truncate",
        Some(ICEPOP) => "reject",
        Some(other) => {
            return Err(Failure::usage(format!(
                "--custom-tis-function-path {other}: a function in Python, of which {TIS} and \
                 {ICEPOP} are built in; see --sampler-correction"
            )));
        }
    };
    match tis {
        true => out.flag("sampler-correction", kind),
        false if out.is_slimes => {
            for name in ["tis-clip", "tis-clip-low"] {
                if line.take_switch(name) {
                    out.not_needed(name, "slime reads it with --use-tis alone");
                }
            }
        }
        false => {}
    }
    let opsm = line.take_switch("use-opsm");
    let delta = match (opsm || out.is_slimes).then(|| line.take("opsm-delta")) {
        Some(delta) => delta.as_ref().map(number::<f64>).transpose()?,
        None => None,
    };
    match (opsm, delta) {
        (true, delta) => out.flag("opsm-delta", delta.unwrap_or(1e-4)),
        (false, Some(_)) => out.not_needed("opsm-delta", "slime reads it with --use-opsm alone"),
        (false, None) => {}
    }
    loss_type(line.take("loss-type"))
}

fn loss_type(given: Option<Given>) -> anyhow::Result<()> {
    match given.as_ref().map(text).transpose()? {
        None | Some("policy_loss") => Ok(()),
        Some("sft_loss") => {
            Err(Failure::usage("--loss-type sft_loss: use --loss sft --responses label"))
        }
        Some(other) => Err(Failure::usage(format!(
            "--loss-type {other}: a function in Python; a loss of your own is written in Rust, see \
             docs/extending.md"
        ))),
    }
}
