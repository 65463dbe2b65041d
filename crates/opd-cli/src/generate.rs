use std::path::PathBuf;

use clap::{Args, value_parser};
use opd_batch::Finish;
use opd_rollout::Request;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    compute::Compute,
    interrupt,
    model::{Model, ModelFlag},
    records::{self, Line, OutputFile, Row, Text, bad_line},
    sampling::SamplingFlags,
};

/// Continue prompts with a model
///
/// Each line of the input is {"tokens": [ids]} or {"prompt": ".."}. Each line of the output, in
/// the same order, is {"tokens": [new ids], "log_probs": [..], "finish_reason": "eos", "stop" or
/// "length"}; the end-of-sequence token is included, and so are the tokens of a text of --stop.
/// Log-probs are nats, of the softmax over the whole vocabulary at the temperature (at 1 with
/// --greedy), whatever --top-k, --top-p, --min-p and --repetition-penalty leave of it. The output
/// of a text has `text`, too, without the text that stopped it. A key `id` is copied through.
///
/// A line that cannot be continued ends the command with exit code 1 and its number; no output
/// file is left then.
#[derive(Args, Clone, Debug)]
pub(crate) struct GenerateArgs {
    #[command(flatten)]
    model: ModelFlag,
    /// JSONL file to read
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// JSONL file to write; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Most tokens to add; less where the model's context ends
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    max_new_tokens: u32,
    /// Go on after an end-of-sequence token
    #[arg(long)]
    ignore_eos: bool,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    compute: Compute,
}

/// What is kept of a line.
struct Source {
    is_text: bool,
    id: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Continuation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    tokens: &'a [u32],
    log_probs: &'a [f32],
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Runs the command.
pub(crate) fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let device = args.compute.start()?;
    interrupt::watch()?;
    let model = Model::load(&args.model, Some(args.max_new_tokens as usize), &device)?;
    let rows: Vec<Line<Row>> = records::read(&args.input)?;
    let mut output = OutputFile::create(&args.output)?;
    let (mut requests, mut sources) = (Vec::new(), Vec::new());
    for line in rows {
        let (request, source) = request(&model, line, args)?;
        requests.push(request);
        sources.push(source);
    }
    let eos = if args.ignore_eos { &[][..] } else { &model.lm.config().eos_token_ids };
    let sampling = args.sampling.sampling(&model, args.max_new_tokens as usize, eos)?;
    args.sampling.generate(&model, &requests, &sampling, args.compute.quiet, |i, generation| {
        let Source { is_text, id } = &sources[i];
        let text = match is_text {
            true => {
                let text = model.tokenizer()?.decode(&generation.tokens)?;
                Some(sampling.read(&text).to_owned())
            }
            false => None,
        };
        let finish_reason = match generation.finish {
            Finish::Eos => "eos",
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        let (tokens, log_probs) = (&generation.tokens, &generation.logprobs);
        output.write(&Continuation { id: id.as_deref(), tokens, log_probs, finish_reason, text })
    })?;
    let lines = output.finish()?;
    if !args.compute.quiet {
        eprintln!("continued {lines} lines: {}", args.output.display());
    }
    Ok(())
}

fn request(
    model: &Model,
    line: Line<Row>,
    args: &GenerateArgs,
) -> anyhow::Result<(Request, Source)> {
    let Line { number, record } = line;
    let bad = |what: String| bad_line(&args.input, number, what);
    let (prompt, is_text) = match record.text().map_err(bad)? {
        Text::Ids { tokens, .. } => (tokens.to_vec(), false),
        Text::Words { prompt, .. } => (model.tokenizer()?.encode(prompt)?, true),
    };
    if prompt.is_empty() {
        return Err(bad("the prompt has no tokens; a model needs at least one".to_owned()));
    }
    model.check(&prompt).map_err(bad)?;
    let (length, context) = (prompt.len(), model.lm.config().context);
    if length == context {
        return Err(bad(format!(
            "{length} tokens; the model's context holds {context}, which leaves no room for more"
        )));
    }
    Ok((Request { prompt, stream: number as u64 - 1 }, Source { is_text, id: record.id }))
}
