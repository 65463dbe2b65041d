//! `opd plan`: what a run takes of memory.

use std::fmt::Write;

use clap::Args;
use opd_models::{ChatTemplate, Checkpointing, ModelConfig, Tokenizer};
use opd_train::{
    PromptReader,
    config::TrainConfig,
    plan::{Assumed, Part, Plan},
};

use crate::{
    failure::Failure,
    flags::TrainArgs,
    number::{bytes, count, parse_bytes},
    records,
    train::{place, resolve},
};

/// Say what `opd train` would take of memory with these settings
///
/// Takes the flags of `opd train` and reads config.json, the tokenizer and the prompts, but no
/// weights; starts nothing. Prints the estimate by part, and with --memory the largest
/// --token-budget that fits. Estimates are for the CPU, and within 15% of what was measured.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    opd plan                                        the bundled default job\n  \
    opd plan --config job.toml --memory 16GiB       that of a file, and what fits into 16 GiB")]
pub(crate) struct PlanArgs {
    /// Find the largest --token-budget whose peak is at most this, e.g. 16GiB
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, help_heading = "Plan")]
    memory: Option<u64>,
    /// Tokens of a prompt [default: those of the longest in the prompt file]
    #[arg(long, value_name = "N", help_heading = "Plan")]
    prompt_tokens: Option<usize>,
    #[command(flatten)]
    train: TrainArgs,
}

pub(crate) fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    if args.train.run.resume.is_some() {
        return Err(Failure::usage(
            "--resume with `opd plan`: give the run's settings with --config DIR/config.toml",
        ));
    }
    let mut config = resolve(&args.train)?;
    args.train.compute.start()?;
    let inputs = std::env::temp_dir().join(format!("opd-plan-{}", std::process::id()));
    let made = place(&mut config, &inputs).and_then(|()| text(args, &config));
    if inputs.exists() {
        std::fs::remove_dir_all(&inputs)?;
    }
    records::print(&made?)
}

fn text(args: &PlanArgs, config: &TrainConfig) -> anyhow::Result<String> {
    let prompt_tokens = args.prompt_tokens.map_or_else(|| longest_prompt(config), Ok)?;
    let assumed = Assumed { prompt_tokens, threads: rayon::current_num_threads() };
    let plan = Plan::new(config, assumed)?;
    let mut text = table(&plan);
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        text,
        "\nprompts of {} tokens, responses of {}, {} threads; a micro-batch of {} tokens of an \
         update's {}; layers are computed {}",
        count(prompt_tokens as u64),
        count(config.rollout.max_response_tokens as u64),
        assumed.threads,
        count(plan.micro_batch as u64),
        count(plan.batch as u64),
        match plan.checkpointing {
            Checkpointing::Off => "once",
            Checkpointing::PerLayer => "twice (activation checkpointing)",
        },
    );
    if let Some(memory) = args.memory {
        let _ = match Plan::largest(config, assumed, memory)? {
            None => writeln!(text, "no --token-budget fits into {}", bytes(memory)),
            Some(fits) if fits.micro_batch >= fits.batch => writeln!(
                text,
                "any --token-budget fits into {}: all of an update, {} tokens, takes {}",
                bytes(memory),
                count(fits.batch as u64),
                bytes(fits.peak()),
            ),
            Some(fits) => writeln!(
                text,
                "largest that fits into {}: --token-budget {}, which takes {}",
                bytes(memory),
                fits.micro_batch,
                bytes(fits.peak()),
            ),
        };
    }
    Ok(text)
}

/// Tokens of the longest prompt that is trained on.
fn longest_prompt(config: &TrainConfig) -> anyhow::Result<usize> {
    let (data, path) = (&config.data, &config.student.path);
    let (tokenizer, model) = (Tokenizer::load(path)?, ModelConfig::load(path)?);
    let response = config.rollout.max_response_tokens;
    let template = data.chat_template.then(|| ChatTemplate::load(path)).transpose()?;
    let reader = PromptReader::of(data, &tokenizer, template.as_ref(), &model, response)?;
    let prompts = reader.read(data.train.paths())?;
    Ok(prompts.longest())
}

fn table(plan: &Plan) -> String {
    let mut text = String::new();
    let mut section = |title: &str, parts: &[Part]| {
        let total: u64 = parts.iter().map(|part| part.bytes).sum();
        let _ = writeln!(text, "{title:<34}{:>12}", bytes(total));
        for Part { name, bytes: size } in parts.iter().filter(|part| part.bytes > 0) {
            let _ = writeln!(text, "  {name:<32}{:>12}", bytes(*size));
        }
    };
    section("held from the first update on", &plan.held);
    section("generation adds", &plan.rollout);
    section("scoring adds", &plan.score);
    section("forward and backward add", &plan.update);
    let _ = writeln!(text, "{:<34}{:>12}", "peak", bytes(plan.peak()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stand_below_their_sum() {
        let part = |name, mib: u64| Part { name, bytes: mib << 20 };
        let plan = Plan {
            held: vec![part("program", 48), part("student's weights", 513)],
            rollout: vec![part("KV cache", 100)],
            score: vec![part("forward", 7), part("head chunk", 0)],
            update: vec![part("gradients", 1000), part("activations", 1100)],
            micro_batch: 1,
            batch: 1,
            checkpointing: Checkpointing::Off,
        };
        let expected = "\
held from the first update on        561.0 MiB
  program                             48.0 MiB
  student's weights                  513.0 MiB
generation adds                      100.0 MiB
  KV cache                           100.0 MiB
scoring adds                           7.0 MiB
  forward                              7.0 MiB
forward and backward add              2.05 GiB
  gradients                         1000.0 MiB
  activations                         1.07 GiB
peak                                  2.60 GiB
";
        assert_eq!(table(&plan), expected);
    }
}
