#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Doc comments of commands and flags are their help texts, where brackets are brackets.
#![allow(rustdoc::broken_intra_doc_links)]

mod check_teacher;
mod compute;
mod config;
mod eval;
mod failure;
mod flags;
mod generate;
mod interrupt;
mod lint;
mod log;
mod model;
mod number;
mod plan;
mod progress;
mod records;
mod sampling;
mod score;
mod serve;
mod slime;
mod train;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    check_teacher::CheckTeacherArgs, eval::EvalArgs, failure::Failure, flags::TrainArgs,
    generate::GenerateArgs, plan::PlanArgs, score::ScoreArgs, serve::ServeArgs,
};

/// Training frees and takes the same large buffers at every step; the system's allocator gives
/// them back to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// On-policy distillation: a student learns from a teacher's scores of what it writes itself.
#[derive(Debug, Parser)]
#[command(
    name = "opd",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "`opd train` without flags runs the bundled default job.\n\
                  Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<TrainArgs>),
    /// Say what `opd train` would train with these settings, and what speaks against them
    ///
    /// Takes the flags of `opd train`. Prints what the expected gradient is of, then refusals
    /// and warnings, each with its reason and its remedy; starts nothing. Exit code 2 if
    /// `opd train` would refuse.
    #[command(after_help = "Examples:\n  \
        opd lint                                   the bundled default job\n  \
        opd lint --config job.toml --loss jsd      that of a file, with a change")]
    Lint(Box<TrainArgs>),
    Plan(Box<PlanArgs>),
    Eval(Box<EvalArgs>),
    Generate(GenerateArgs),
    Score(ScoreArgs),
    Serve(ServeArgs),
    CheckTeacher(CheckTeacherArgs),
}

fn main() -> ExitCode {
    let command = flags::with_keys_and_defaults(Cli::command());
    let translated = match slime::translate(std::env::args_os().collect(), &command) {
        Ok(translated) => translated,
        Err(error) => return Failure::report(&error),
    };
    if !translated.words.iter().any(|word| word == "--quiet") {
        for note in &translated.notes {
            eprintln!("note: {note}");
        }
    }
    let matches = command.get_matches_from(translated.words);
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match run(cli.command, &matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => Failure::report(&error),
    }
}

fn run(command: Command, matches: &ArgMatches) -> anyhow::Result<()> {
    match command {
        Command::Train(args) => {
            let given = matches.subcommand_matches("train").map(flags::given).unwrap_or_default();
            train::train(&args, &given)
        }
        Command::Lint(args) => lint::lint(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Generate(args) => generate::generate(&args),
        Command::Score(args) => score::score(&args),
        Command::Serve(args) => serve::serve(&args),
        Command::CheckTeacher(args) => check_teacher::check_teacher(&args),
    }
}
