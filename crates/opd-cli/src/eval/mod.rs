//! `opd eval`: how often a model's answers are right.

mod data;
mod ids;
mod judge;
mod question;
mod score;

use clap::{Args, value_parser};
use opd_rollout::Request;

use self::{
    data::DataFlags,
    judge::JudgeFlags,
    question::Question,
    score::{FileScore, Score, Scores},
};
use crate::{
    compute::Compute,
    failure::Failure,
    interrupt,
    model::{Model, ModelFlag},
    records,
    sampling::SamplingFlags,
};

/// How often a model answers held-out prompts rightly
///
/// Each row of the data is {"prompt": "..", "label": ".."}, right if the answer's text is the
/// label (white space around it aside). A JSONL file whose first row has `tokens` holds token ids:
/// each row is {"tokens": [ids], "label_tokens": [ids]}, right if the new ids are those (an
/// end-of-sequence token aside).
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
    #[command(flatten)]
    data: DataFlags,
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
    /// Also estimate the chance that one of K answers is right, from --n-samples of them; may be
    /// given several times
    #[arg(long, value_name = "K", value_parser = value_parser!(u32).range(1..))]
    pass_k: Vec<u32>,
    /// Print {"n": prompts, "samples": per prompt, "pass_at_1": .., "interval": [low, high]}, and
    /// "pass_at_k": {"K": ..} with "pass_at_k_interval": {"K": [low, high]} where it is asked for;
    /// of several files also "files": [{"data": FILE, and the same of its prompts}]
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeFlags,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    compute: Compute,
}

/// Runs the command.
pub(crate) fn eval(args: &EvalArgs) -> anyhow::Result<()> {
    let device = args.compute.start()?;
    interrupt::watch()?;
    let model = Model::load(&args.model, Some(args.max_new_tokens as usize), &device)?;
    if let Some(k) = args.pass_k.iter().find(|&&k| k > args.n_samples) {
        return Err(Failure::usage(format!(
            "--pass-k {k}: it is estimated from at least {k} answers; add --n-samples {k}"
        )));
    }
    let questions = args.data.read(&model)?;
    let right = ask(&model, &questions, args)?;
    let scores = scores(&questions, &right, args);
    match args.json {
        true => records::print(&serde_json::to_string(&scores)?),
        false => {
            let model = args.model.model.display().to_string();
            let head = [("model", model), ("data", args.data.names().join(", "))];
            records::print(&scores.table(&head, args.sampling.describe()))
        }
    }
}

/// How many answers to each question are right.
fn ask(model: &Model, questions: &[Question], args: &EvalArgs) -> anyhow::Result<Vec<usize>> {
    let samples = args.n_samples as usize;
    let requests = questions.iter().flat_map(|question| {
        let stream = question.index * samples as u64;
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
    Ok(right)
}

/// The score of all prompts, and of several files that of each one that was asked.
fn scores(questions: &[Question], right: &[usize], args: &EvalArgs) -> Scores {
    let score = |right: &[usize]| Score::of(right, args.n_samples as usize, &args.pass_k);
    let mut files = Vec::new();
    for (file, data) in args.data.names().into_iter().enumerate() {
        let of_it = questions.iter().zip(right).filter(|(question, _)| question.file == file);
        let right: Vec<usize> = of_it.map(|(_, &right)| right).collect();
        if !right.is_empty() {
            files.push(FileScore { data, score: score(&right) });
        }
    }
    if args.data.names().len() == 1 {
        files.clear();
    }
    Scores { all: score(right), files }
}
