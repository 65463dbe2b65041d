use opd_train::config::TrainConfig;
use serde::Serialize;
use toml::{Table, Value};

use crate::flags::keys::KEYS;

/// A setting that was given as a flag.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// Its place in the file, `optimizer.lr`.
    pub(super) key: &'static str,
    /// Its flag without the dashes.
    pub(super) flag: &'static str,
    pub(super) value: Value,
}

/// Adds the given flags of one group, whose fields are named as its flags are.
pub(super) fn gather(group: &impl Serialize, to: &mut Table) -> anyhow::Result<()> {
    to.extend(Table::try_from(group)?);
    Ok(())
}

/// What was gathered, in the order of [`KEYS`].
pub(super) fn settings(mut gathered: Table) -> Vec<Setting> {
    let taken = |&(key, flag): &(&'static str, &'static str)| {
        let value = gathered.remove(&flag.replace('-', "_"))?;
        Some(Setting { key, flag, value })
    };
    KEYS.iter().filter_map(taken).collect()
}

/// Replaces the values that are there by those of flags.
pub(super) fn overlay(config: &mut TrainConfig, settings: &[Setting]) -> anyhow::Result<()> {
    let mut tree = Table::try_from(&*config)?;
    for Setting { key, value, .. } in settings {
        put(&mut tree, key, value);
    }
    *config = tree.try_into()?;
    Ok(())
}

/// `value` at `a.b.c`; -1 takes away what is there.
fn put(tree: &mut Table, key: &str, value: &Value) {
    match key.split_once('.') {
        Some((name, rest)) => {
            let below = tree.entry(name).or_insert_with(|| Table::new().into());
            if let Value::Table(below) = below {
                put(below, rest, value);
            }
        }
        None if *value == Value::Integer(-1) => {
            tree.remove(key);
        }
        None => {
            tree.insert(key.to_owned(), value.clone());
        }
    }
}
