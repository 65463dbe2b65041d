use std::{fs, path::Path};

use opd_train::config::TrainConfig;
use toml::{Table, Value};

use crate::{config, failure::Failure, train::bundled};

/// Whether `dir` holds a run of these settings, to go on with; other settings are refused.
pub(super) fn is_begun(config: &TrainConfig, dir: &Path) -> anyhow::Result<bool> {
    let path = dir.join("config.toml");
    if !path.is_file() {
        return Ok(false);
    }
    let shown = path.display().to_string();
    let stored = config::parse(&shown, &fs::read_to_string(&path)?)?.read_from(dir);
    let wanted = placed(config, &stored).stored_in(dir)?;
    let [stored, wanted] = [stored.stored_in(dir)?, wanted].map(Table::try_from);
    let mut differing = Vec::new();
    compare("", &stored?, &wanted?, &mut differing);
    match differing.is_empty() {
        true => Ok(true),
        false => Err(Failure::usage(format!(
            "--continue: the run in {} was started with other settings: {}; go on with those by \
             --resume {0}, or choose another --output",
            dir.display(),
            differing.join(", ")
        ))),
    }
}

/// `config` with its bundled inputs where a run of it keeps them.
fn placed(config: &TrainConfig, stored: &TrainConfig) -> TrainConfig {
    let (mut config, mut stored) = (config.clone(), stored.clone());
    for (path, held) in config.paths_mut().zip(stored.paths_mut()) {
        if bundled::name(path).is_some() {
            path.clone_from(held);
        }
    }
    config
}

/// Keys whose values differ, each with that of the run.
fn compare(prefix: &str, stored: &Table, wanted: &Table, differing: &mut Vec<String>) {
    let mut keys: Vec<&String> = stored.keys().chain(wanted.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let path = format!("{prefix}{key}");
        match (stored.get(key), wanted.get(key)) {
            (Some(Value::Table(stored)), Some(Value::Table(wanted))) => {
                compare(&format!("{path}."), stored, wanted, differing);
            }
            (stored, wanted) if stored == wanted => {}
            (Some(value), _) => differing.push(format!("{path} (there {value})")),
            (None, _) => differing.push(format!("{path} (not there)")),
        }
    }
}
