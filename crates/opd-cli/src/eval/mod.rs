//! `opd eval`: how often a model's answers are right.

mod judge;
mod question;

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Args, value_parser};
use opd_rollout::Request;
use opd_train::{pass_at_k_interval, wilson_interval};
use serde::Serialize;

use self::{
    judge::JudgeFlags,
    question::{Fields, Question},
};
use crate::{
    compute::Compute,
    failure::Failure,
    interrupt,
    model::{Model, ModelFlag},
    number::{count, percent},
    records,
    sampling::SamplingFlags,
};

/// How often a model answers held-out prompts rightly
///
/// Each line of the data is {"prompt": "..", "label": ".."}, right if the answer's text is the
/// label (white space around it aside), or {"tokens": [ids], "label_tokens": [ids]}, right if
/// the new ids are those (an end-of-sequence token aside).
///
/// --rm-type judges texts by another rule.
///
/// pass@1 is the mean over prompts of the fraction of right answers. Its 95% interval is
/// Wilson's; where a prompt has several answers they are not taken for independent: the number
/// of trials is the one of the spread between prompts. So it is for pass@k.
#[derive(Args, Clone, Debug)]
pub(crate) struct EvalArgs {
    #[command(flatten)]
    model: ModelFlag,
    /// JSONL file of prompts with their right answers
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Answers per prompt
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = value_parser!(u32).range(1..)
    )]
    n_samples: u32,
    /// Longest answer, in tokens
    #[arg(
        long,
        value_name = "N",
        default_value_t = 256,
        value_parser = value_parser!(u32).range(1..)
    )]
    max_new_tokens: u32,
    /// Take this many prompts from the start of the data [default: all]
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_prompts: Option<u32>,
    /// Field of the prompt's text
    #[arg(long, value_name = "KEY", default_value = "prompt")]
    input_key: String,
    /// Field of the right answer's text
    #[arg(long, value_name = "KEY", default_value = "label")]
    label_key: String,
    /// Also estimate the chance that one of K answers is right, from --n-samples of them; may be
    /// given several times
    #[arg(long, value_name = "K", value_parser = value_parser!(u32).range(1..))]
    pass_k: Vec<u32>,
    /// Print {"n": prompts, "samples": per prompt, "pass_at_1": .., "interval": [low, high]}, and
    /// "pass_at_k": {"K": ..} with "pass_at_k_interval": {"K": [low, high]} where it is asked for
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Serialize)]
struct Score {
    n: usize,
    samples: usize,
    pass_at_1: f64,
    interval: [f64; 2],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pass_at_k: BTreeMap<u32, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pass_at_k_interval: BTreeMap<u32, [f64; 2]>,
}

/// Runs the command.
pub(crate) fn eval(args: &EvalArgs) -> anyhow::Result<()> {
    let device = args.compute.start()?;
    interrupt::watch()?;
    let model = Model::load(&args.model, Some(args.max_new_tokens as usize), &device)?;
    let fields = Fields { input: &args.input_key, label: &args.label_key };
    let limit = args.max_prompts.map_or(usize::MAX, |n| n as usize);
    if let Some(k) = args.pass_k.iter().find(|&&k| k > args.n_samples) {
        return Err(Failure::usage(format!(
            "--pass-k {k}: it is estimated from at least {k} answers; add --n-samples {k}"
        )));
    }
    let questions = question::read(&args.data, &fields, &model, limit)?;
    let score = ask(&model, &questions, args)?;
    match args.json {
        true => records::print(&serde_json::to_string(&score)?),
        false => records::print(&table(&score, args)),
    }
}

fn ask(model: &Model, questions: &[Question], args: &EvalArgs) -> anyhow::Result<Score> {
    let samples = args.n_samples as usize;
    let requests = questions.iter().flat_map(|question| {
        let stream = question.index as u64 * samples as u64;
        let request = move |i| Request { prompt: question.prompt.clone(), stream: stream + i };
        (0..samples as u64).map(request)
    });
    let requests: Vec<Request> = requests.collect();
    let eos = &model.lm.config().eos_token_ids;
    let sampling = args.sampling.sampling(model, args.max_new_tokens as usize, eos)?;
    let judge = args.judge.build(args.sampling.seed())?;
    let mut right = vec![0_usize; questions.len()];
    args.sampling.generate(model, &requests, &sampling, args.compute.quiet, |i, generation| {
        let index = i / samples;
        right[index] += usize::from(questions[index].is_right(
            &generation.tokens,
            model,
            &sampling,
            &*judge,
        )?);
        Ok(())
    })?;
    let rates: Vec<f64> = right.iter().map(|&n| n as f64 / samples as f64).collect();
    let (pass_at_1, interval) = wilson_interval(&rates, samples);
    let of = |&k: &u32| Some((k, pass_at_k_interval(&right, samples, k as usize)?));
    let (pass_at_k, pass_at_k_interval) = (args.pass_k.iter().filter_map(of))
        .map(|(k, (rate, interval))| ((k, rate), (k, interval)))
        .unzip();
    let n = questions.len();
    Ok(Score { n, samples, pass_at_1, interval, pass_at_k, pass_at_k_interval })
}

fn table(score: &Score, args: &EvalArgs) -> String {
    let [low, high] = score.interval.map(percent);
    let rows = [
        ("model", args.model.model.display().to_string()),
        ("data", args.data.display().to_string()),
        ("prompts", count(score.n as u64)),
        ("answers each", count(score.samples as u64)),
        ("sampling", args.sampling.describe()),
        ("pass@1", percent(score.pass_at_1)),
        ("95% interval", format!("{low} to {high}")),
    ];
    let several = score.pass_at_k.iter().zip(score.pass_at_k_interval.values());
    let several = several.map(|((k, rate), interval)| {
        let [low, high] = interval.map(percent);
        (format!("pass@{k}"), format!("{} ({low} to {high})", percent(*rate)))
    });
    let rows = rows.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(several);
    rows.map(|(name, value)| format!("{name:14}{value}\n")).collect()
}
