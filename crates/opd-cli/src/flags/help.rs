use clap::Command;
use opd_train::config::{DistillationConfig, TrainConfig};
use toml::Value;

use crate::{flags::keys::KEYS, train::default_job};

/// Adds the key in the file and the defaults to the help of each flag of `opd train` and its kin, and
/// lets every flag take a negative number, so that its own message refuses it.
pub(crate) fn with_keys_and_defaults(cli: Command) -> Command {
    let cli = cli.mut_subcommands(|command| {
        command.mut_args(|argument| {
            let takes_values = argument.get_action().takes_values();
            argument.allow_negative_numbers(takes_values)
        })
    });
    let general =
        TrainConfig { distillation: Some(DistillationConfig::default()), ..TrainConfig::default() };
    let mut general = Value::try_from(general).ok();
    if let Some(general) = general.as_mut().and_then(Value::as_table_mut) {
        // Its default is none that a run could have.
        general.remove("steps");
    }
    let bundled = default_job().ok().and_then(|job| Value::try_from(job).ok());
    ["train", "lint", "plan"].into_iter().fold(cli, |cli, name| {
        cli.mut_subcommand(name, |command| {
            KEYS.iter().fold(command, |command, (key, flag)| {
                let id = flag.replace('-', "_");
                command.mut_arg(id, |argument| {
                    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                    let note = note(key, general.as_ref(), bundled.as_ref());
                    argument.help(format!("{help} {note}"))
                })
            })
        })
    })
}

/// `[optimizer.lr, default 1e-6, default job 5e-4]`.
fn note(key: &str, general: Option<&Value>, bundled: Option<&Value>) -> String {
    let [general, bundled] = [general, bundled].map(|config| at(config?, key));
    let mut note = format!("[{key}");
    if let Some(value) = general.and_then(shown) {
        note += &format!(", default {value}");
    }
    if let Some(value) = bundled.filter(|_| bundled != general).and_then(shown) {
        note += &format!(", default job {value}");
    }
    note + "]"
}

fn at<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(config, |value, name| value.get(name))
}

/// `None` for what is empty.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Float(number) if *number != 0.0 && number.abs() < 1e-3 => {
            Some(format!("{number:e}"))
        }
        Value::Array(items) if items.is_empty() => None,
        other => Some(other.to_string()),
    }
}
