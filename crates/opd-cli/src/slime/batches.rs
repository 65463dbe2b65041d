//! How much is sampled, and in how many updates it is learned from.

use crate::{
    failure::Failure,
    slime::{
        data::prompts,
        line::Line,
        translation::{Translation, number},
    },
};

pub(super) fn translate(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let per_step = per_step(line)?;
    if out.is_slimes && !line.has("rollout-batch-size") {
        return Err(Failure::usage(
            "--rollout-batch-size is required: say how many prompts a step takes",
        ));
    }
    steps(line, out)?;
    updates(line, out, per_step)?;
    over_sampling(line)?;
    let dynamic = line.take_switch("use-dynamic-batch-size");
    match line.take("max-tokens-per-gpu") {
        Some(tokens) if dynamic => out.flag("token-budget", number::<u64>(&tokens)?),
        None if dynamic => {
            return Err(Failure::usage(
                "--use-dynamic-batch-size without --max-tokens-per-gpu: say how many tokens one \
                 forward and backward may have",
            ));
        }
        Some(_) => out.not_needed(
            "max-tokens-per-gpu",
            "it is read with --use-dynamic-batch-size alone; --token-budget is its name here",
        ),
        None => {}
    }
    if line.take_switch("balance-by-flops") {
        if !dynamic {
            return Err(Failure::usage("--balance-by-flops without --use-dynamic-batch-size"));
        }
        out.not_needed("balance-by-flops", "one process has nothing to balance");
    }
    Ok(())
}

/// Samples of a step.
fn per_step(line: &Line) -> anyhow::Result<Option<u64>> {
    let count = |name: &str| match line.value(name) {
        None => Ok(None),
        Some(value) => value
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Failure::usage(format!("--{name} {value}: expected a whole number"))),
    };
    let (prompts, each) = (count("rollout-batch-size")?, count("n-samples-per-prompt")?);
    Ok(prompts.map(|prompts| prompts.saturating_mul(each.unwrap_or(1))))
}

fn steps(line: &mut Line, out: &mut Translation) -> anyhow::Result<()> {
    let (rollouts, epochs) = (line.take("num-rollout"), line.take("num-epoch"));
    match (rollouts, epochs) {
        (Some(rollouts), epochs) => {
            out.flag("steps", number::<u64>(&rollouts)?);
            if epochs.is_some() {
                out.not_needed("num-epoch", "--num-rollout says how many steps there are");
            }
        }
        (None, Some(epochs)) => {
            let files = line.values("prompt-data");
            let counted = files.iter().map(|path| prompts(path)).sum::<Option<u64>>();
            let size = counted.filter(|_| !files.is_empty()).ok_or_else(|| {
                Failure::usage(format!(
                    "{}: the steps of an epoch are counted in --prompt-data {}, which cannot be \
                     read; name a JSONL file, or give --num-rollout",
                    epochs.shown(),
                    files.join(" ")
                ))
            })?;
            let batch = line.value("rollout-batch-size").and_then(|n| n.parse::<u64>().ok());
            let batch = batch.filter(|&n| n > 0).ok_or_else(|| {
                Failure::usage("--num-epoch: give --rollout-batch-size, which divides an epoch")
            })?;
            let epochs: u64 = number(&epochs)?;
            out.flag("steps", epochs.saturating_mul(size) / batch);
        }
        (None, None) => {}
    }
    Ok(())
}

fn updates(line: &mut Line, out: &mut Translation, per_step: Option<u64>) -> anyhow::Result<()> {
    let global = line.take("global-batch-size");
    let asked = line.take("num-steps-per-rollout");
    let asked = asked.map(|asked| number::<u64>(&asked)).transpose()?;
    if let Some(asked) = asked {
        out.flag("updates-per-batch", asked);
    }
    let Some(global) = global else { return Ok(()) };
    let size = number::<u64>(&global)?;
    let samples = per_step.ok_or_else(|| {
        Failure::usage(format!(
            "{}: it is a part of --rollout-batch-size times --n-samples-per-prompt, which are not \
             given; or use --updates-per-batch",
            global.shown()
        ))
    })?;
    if size == 0 || !samples.is_multiple_of(size) {
        return Err(Failure::usage(format!(
            "{}: --rollout-batch-size times --n-samples-per-prompt is {samples}, which it does not \
             divide into equal updates",
            global.shown()
        )));
    }
    match asked {
        Some(asked) if samples / size != asked => Err(Failure::usage(format!(
            "{}: it divides the {samples} samples of a step into {} updates, and \
             --num-steps-per-rollout is {asked}",
            global.shown(),
            samples / size
        ))),
        Some(_) => Ok(()),
        None => {
            out.flag("updates-per-batch", samples / size);
            Ok(())
        }
    }
}

fn over_sampling(line: &mut Line) -> anyhow::Result<()> {
    let Some(given) = line.take("over-sampling-batch-size") else { return Ok(()) };
    match line.value("rollout-batch-size") {
        Some(batch) if given.values == [batch] => Ok(()),
        _ => Err(Failure::usage(format!(
            "{}: samples beyond --rollout-batch-size would be thrown away, which is not there; \
             drop it",
            given.shown()
        ))),
    }
}
