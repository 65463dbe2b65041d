use std::path::PathBuf;

use candle_core::{DType, Tensor};
use clap::Args;
use opd_batch::ScoredSequence;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    compute::Compute,
    failure::Failure,
    flags::positive,
    interrupt,
    model::{Model, ModelFlag},
    records::{self, Line, OutputFile, Row, Text, bad_line},
};

/// Tokens that one forward computes, but at least one line.
const TOKEN_BUDGET: usize = 4096;

/// Log-probs and entropies of given tokens under a model
///
/// Each line of the input is {"tokens": [ids], "prompt_len": n} (n from 1 to the length,
/// default 1) or {"prompt": "..", "response": ".."}. Each line of the output, in the same
/// order, is {"log_probs": [..], "entropies": [..]}, one number for each token from position n
/// on (of the response): nats, of softmax(logits / T) over the whole vocabulary, computed in
/// f32. No token is added to ids; a text's prompt gets the special tokens that the tokenizer
/// gives it, its response none, and the output has the response's ids as `tokens`. A key `id`
/// is copied through.
///
/// A line that cannot be scored ends the command with exit code 1 and its number; no output
/// file is left then.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScoreArgs {
    #[command(flatten)]
    model: ModelFlag,
    /// JSONL file to read
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// JSONL file to write; it appears when it is complete
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Logits are divided by this; above 0
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = positive)]
    temperature: f64,
    #[command(flatten)]
    compute: Compute,
}

/// A line, as token ids.
struct Sequence {
    number: usize,
    tokens: Vec<u32>,
    prompt_len: usize,
    is_text: bool,
    id: Option<Box<RawValue>>,
}

impl Sequence {
    /// Prompt and what is scored.
    fn cut(&self) -> (&[u32], &[u32]) {
        self.tokens.split_at(self.prompt_len)
    }
}

#[derive(Serialize)]
struct Scores<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<&'a [u32]>,
    log_probs: &'a [f32],
    entropies: &'a [f32],
}

/// Runs the command.
pub(crate) fn score(args: &ScoreArgs) -> anyhow::Result<()> {
    let device = args.compute.start()?;
    interrupt::watch()?;
    let model = Model::load(&args.model, None, &device)?;
    let rows: Vec<Line<Row>> = records::read(&args.input)?;
    let mut output = OutputFile::create(&args.output)?;
    let sequences = rows.into_iter().map(|line| sequence(&model, line, args));
    let sequences = sequences.collect::<anyhow::Result<Vec<_>>>()?;
    for chunk in chunks(&sequences) {
        if interrupt::pressed() {
            return Err(Failure::Interrupted("nothing was written".to_owned()).into());
        }
        score_chunk(&model, chunk, args, &mut output)?;
    }
    let lines = output.finish()?;
    if !args.compute.quiet {
        eprintln!("scored {lines} lines: {}", args.output.display());
    }
    Ok(())
}

fn sequence(model: &Model, line: Line<Row>, args: &ScoreArgs) -> anyhow::Result<Sequence> {
    let Line { number, record } = line;
    let bad = |what: String| bad_line(&args.input, number, what);
    let (tokens, prompt_len, is_text) = match record.text().map_err(bad)? {
        Text::Ids { tokens, prompt_len } => (tokens.to_vec(), prompt_len.unwrap_or(1), false),
        Text::Words { prompt, response } => {
            let Some(response) = response else {
                return Err(bad("text to score needs a `response` beside its `prompt`".into()));
            };
            let tokenizer = model.tokenizer()?;
            let mut tokens = tokenizer.encode(prompt)?;
            let prompt_len = tokens.len();
            tokens.extend(tokenizer.encode_continuation(response)?);
            (tokens, prompt_len, true)
        }
    };
    let length = tokens.len();
    if prompt_len == 0 || prompt_len > length {
        return Err(bad(format!(
            "`prompt_len` must be from 1 to the number of tokens, {length}; got {prompt_len}"
        )));
    }
    model.check(&tokens).map_err(bad)?;
    Ok(Sequence { number, tokens, prompt_len, is_text, id: record.id })
}

/// Runs of lines of at most [`TOKEN_BUDGET`] tokens.
fn chunks(mut rest: &[Sequence]) -> impl Iterator<Item = &[Sequence]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fits = rest.iter().take_while(|sequence| {
            tokens += sequence.tokens.len();
            tokens <= TOKEN_BUDGET
        });
        let (chunk, after) = rest.split_at(fits.count().max(1).min(rest.len()));
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn score_chunk(
    model: &Model,
    chunk: &[Sequence],
    args: &ScoreArgs,
    output: &mut OutputFile,
) -> anyhow::Result<()> {
    let scored = chunk.iter().map(Sequence::cut).filter(|(_, response)| !response.is_empty());
    let scored: Vec<_> =
        scored.map(|(prompt, response)| ScoredSequence { prompt, response }).collect();
    let (log_probs, entropies) = match scored.is_empty() {
        true => (Vec::new(), Vec::new()),
        false => {
            let packed = model.lm.pack(&scored)?;
            let scores = model.lm.token_logprobs(&packed, args.temperature)?;
            (f32s(&scores.logprobs)?, f32s(&scores.entropy)?)
        }
    };
    let mut start = 0;
    for sequence in chunk {
        let (_, response) = sequence.cut();
        let range = start..start + response.len();
        start = range.end;
        let (log_probs, entropies) = (&log_probs[range.clone()], &entropies[range]);
        let mut numbers = log_probs.iter().chain(entropies);
        if !numbers.all(|number| number.is_finite()) {
            let what = "a log-prob or entropy is not finite; are the model's weights damaged?";
            return Err(bad_line(&args.input, sequence.number, what));
        }
        output.write(&Scores {
            id: sequence.id.as_deref(),
            tokens: sequence.is_text.then_some(response),
            log_probs,
            entropies,
        })?;
    }
    Ok(())
}

fn f32s(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.to_vec1()
}
