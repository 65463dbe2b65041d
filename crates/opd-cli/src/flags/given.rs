use clap::{ArgMatches, CommandFactory, parser::ValueSource};

use crate::Cli;

/// The flags that stand on the command line of `opd train`, as they are written.
pub(crate) fn given(matches: &ArgMatches) -> Vec<String> {
    let cli = Cli::command();
    let train = cli.find_subcommand("train").map(|train| train.get_arguments());
    let given = |id: &str| {
        matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let arguments =
        train.into_iter().flatten().filter(|argument| given(argument.get_id().as_str()));
    arguments.filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
}
