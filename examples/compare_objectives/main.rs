//! One table and one picture of what the objectives come to on the default job.
//!
//! `cargo run --release --example compare_objectives` trains the bundled student with each
//! objective and seed on the same number of response tokens, and writes the table and the
//! picture into `docs/objectives.md`. Runs that are already in the output directory with the
//! same settings are only read, so that the comparison can be made in pieces; `--rows` and
//! `--seeds` choose some, and `--search` looks for a row's learning rate on validation prompts.

mod rows;
mod runs;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use opd_train::run::write_atomically;

use crate::{
    rows::{ROWS, Row},
    table::Compared,
};

/// What the text of the comparison stands between.
const MARKS: [&str; 2] =
    ["<!-- compare_objectives: begin -->\n", "<!-- compare_objectives: end -->"];

#[derive(Parser)]
#[command(about = "Compare objectives on the default job")]
struct Args {
    /// Directory of the runs
    #[arg(long, default_value = "runs/compare_objectives")]
    out: PathBuf,
    /// Rows to run, by their short names; all of them without
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Seeds per row
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Steps of each run, instead of the job's
    #[arg(long)]
    steps: Option<u64>,
    /// Document whose section is replaced, beside which the picture is written
    #[arg(long, default_value = "docs/objectives.md")]
    doc: PathBuf,
    /// Check the settings of every row, say their short names, and leave
    #[arg(long)]
    list: bool,
    /// Try these learning rates on validation prompts instead
    #[arg(long, value_delimiter = ',', value_name = "LR")]
    search: Vec<f64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let inputs = opd_pocket::materialize(&std::path::absolute(args.out.join("inputs"))?)?;
    for name in &args.rows {
        let known: Vec<&str> = ROWS.iter().map(|row| row.slug).collect();
        ensure!(known.contains(&name.as_str()), "no row `{name}`; there are {}", known.join(", "));
    }
    let chosen = |row: &&Row| args.rows.is_empty() || args.rows.iter().any(|name| name == row.slug);
    if !args.search.is_empty() {
        return search(&args, &inputs, ROWS.iter().filter(chosen));
    }
    for row in ROWS {
        runs::config(row, 0, args.steps, &inputs)?;
        if args.list {
            println!("{}: {}", row.slug, row.name);
        }
    }
    if args.list {
        return Ok(());
    }
    let mut compared = Vec::new();
    for row in ROWS.iter().filter(chosen) {
        let mut made = Vec::new();
        for seed in 0..args.seeds {
            let config = runs::config(row, seed, args.steps, &inputs)?;
            let run = runs::make(&config, &runs::dir(&args.out, row, seed))?;
            let after = run.summary.pass_at_1.after.unwrap_or(f64::NAN);
            println!("{}, seed {seed}: {:.2}%", row.name, 100.0 * after);
            made.push(run);
        }
        compared.push(Compared { row, runs: made });
    }
    let text = table::markdown(&compared, args.seeds);
    println!("\n{text}");
    let svg = table::picture(&compared).svg();
    if !args.rows.is_empty() || args.steps.is_some() {
        write_atomically(&args.out.join("table.md"), text.as_bytes())?;
        return Ok(write_atomically(&args.out.join("picture.svg"), svg.as_bytes())?);
    }
    into_document(&args.doc, &text, &svg)
}

/// Puts the table between the marks of a document, and the picture beside the document.
fn into_document(doc: &Path, table: &str, svg: &str) -> Result<()> {
    let picture = doc.with_file_name("compare_objectives.svg");
    write_atomically(&picture, svg.as_bytes())?;
    let text = fs::read_to_string(doc).with_context(|| doc.display().to_string())?;
    let place = text.split_once(MARKS[0]).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(MARKS[1])?;
        Some((before, after))
    });
    let (before, after) = place.with_context(|| {
        format!("{} has no lines `{}` and `{}`", doc.display(), MARKS[0].trim(), MARKS[1])
    })?;
    let [begin, end] = MARKS;
    let image = "![pass@1 over response tokens](compare_objectives.svg)";
    let text = format!("{before}{begin}\n{table}\n{image}\n\n{end}{after}");
    Ok(write_atomically(doc, text.as_bytes())?)
}

/// pass@1 on all validation prompts after runs with each learning rate, at a seed of their own.
fn search<'a>(
    args: &Args,
    inputs: &opd_pocket::Layout,
    rows: impl Iterator<Item = &'a Row>,
) -> Result<()> {
    const SEED: u64 = 1000;
    for row in rows {
        for &lr in &args.search {
            let tried = Row { lr, ..*row };
            let mut config = runs::config(&tried, SEED, args.steps, inputs)?;
            config.data.test = None;
            config.evaluation.interval = config.steps;
            config.evaluation.validation_prompts = usize::MAX;
            let dir = args.out.join("search").join(format!("{}-{lr:e}", row.slug));
            let made = runs::make(&config, &dir)?;
            let last = made.curve.last().map_or(f64::NAN, |point| point.1);
            println!("{} at {lr:e}: {:.2}%", row.slug, 100.0 * last);
        }
    }
    Ok(())
}
