//! `docs/configuration.md`, made from the doc comments of the configuration's own source.
//!
//! `OPD_WRITE_DOCS=1 cargo test --workspace --bin opd reference` writes it anew.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use opd_train::config::{
    DistillationConfig, LoraConfig, StudentConfig, TeacherConfig, TrainConfig, WandbConfig,
};
use toml::Value;

use crate::{config::Shape, flags::flag_of};

const HEAD: &str = "# Configuration

Every key of a TOML file for `opd train --config FILE`, made from the doc comments of
`crates/opd-train/src/config` (a test says when it is old). What a file leaves out has its default;
a key that does not exist is refused with the nearest one that does, and a value of the wrong kind
with what was expected. `opd train --print-config` prints the settings that a command line comes
to, as such a file; flags win over the file. A relative path starts from the current directory, or
else from the file's.

An empty default means that the key is not set.
";

/// A struct or enum of the source.
#[derive(Debug, Default)]
struct Item {
    doc: String,
    /// `rename_all` of an enum.
    case: String,
    /// Fields or variants: name in the file, doc, type.
    parts: Vec<(String, String, String)>,
}

/// Every struct and enum below a directory, by name.
fn items(dir: &Path, found: &mut BTreeMap<String, Item>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => items(&entry.path(), found),
            false => scan(&fs::read_to_string(entry.path()).unwrap(), found),
        }
    }
}

/// The items of one file, as rustfmt lays them out.
fn scan(source: &str, found: &mut BTreeMap<String, Item>) {
    let (mut doc, mut rename, mut case) = (String::new(), None::<String>, String::new());
    let mut open: Option<(String, Item)> = None;
    for line in source.lines() {
        let trimmed = line.trim();
        let quoted = |marker: &str| {
            let rest = trimmed.split_once(marker)?.1;
            Some(rest.split('"').next()?.to_owned())
        };
        if let Some(text) = trimmed.strip_prefix("///") {
            let space = if doc.is_empty() { "" } else { " " };
            doc = format!("{doc}{space}{}", text.trim());
        } else if trimmed.starts_with("#[serde") {
            rename = quoted("rename = \"").or(rename);
            case = quoted("rename_all = \"").unwrap_or(case);
        } else if trimmed.starts_with("#[") {
        } else if let Some((name, item)) = &mut open {
            if line == "}" {
                let (name, item) = (name.clone(), std::mem::take(item));
                found.insert(name, item);
                open = None;
            } else if let Some(name) = trimmed.strip_suffix(',') {
                let name = name.trim_start_matches("pub ");
                let (name, kind) = name.split_once(": ").unwrap_or((name, ""));
                let name = rename.take().unwrap_or_else(|| cased(name, &item.case));
                item.parts.push((name, std::mem::take(&mut doc), kind.to_owned()));
            }
        } else if let Some(rest) =
            trimmed.strip_prefix("pub struct ").or(trimmed.strip_prefix("pub enum "))
        {
            let name = rest.split([' ', '<', '(']).next().unwrap().to_owned();
            let (doc, case) = (std::mem::take(&mut doc), std::mem::take(&mut case));
            open = Some((name, Item { doc, case, parts: Vec::new() }));
        } else {
            (doc, rename, case) = Default::default();
        }
    }
}

/// serde's `rename_all` of a variant.
fn cased(name: &str, case: &str) -> String {
    let between = match case {
        "snake_case" => '_',
        "kebab-case" => '-',
        _ => return name.to_owned(),
    };
    let mut out = String::new();
    for (i, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && i > 0 {
            out.push(between);
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// `T` of `Option<T>` and `Vec<T>`, and whether it is a list.
fn inner(kind: &str) -> (&str, bool) {
    let bare = |outer: &str| kind.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    match (bare("Option<"), bare("Vec<")) {
        (Some(kind), _) => (kind, false),
        (_, Some(kind)) => (kind, true),
        _ => (kind, false),
    }
}

struct Pages<'a> {
    items: &'a BTreeMap<String, Item>,
    defaults: Value,
    text: String,
    keys: Vec<String>,
}

impl Pages<'_> {
    /// The table `path` of the struct `name`, and those below it.
    fn table(&mut self, path: &str, name: &str, list: bool) {
        let item = &self.items[name];
        let title = match (path, list) {
            ("", _) => "Top of the file".to_owned(),
            (path, false) => format!("`[{path}]`"),
            (path, true) => format!("`[[{path}]]`"),
        };
        let _ = writeln!(self.text, "\n## {title}\n\n{}\n", item.doc);
        let is_table = |kind: &str| {
            let (kind, _) = inner(kind);
            self.items.get(kind).is_some_and(|item| item.case.is_empty())
        };
        let (tables, leaves): (Vec<_>, Vec<_>) =
            item.parts.iter().partition(|(_, _, kind)| is_table(kind));
        if !leaves.is_empty() {
            self.text += "| key | is | default | flag | |\n|---|---|---|---|---|\n";
        }
        let mut names = Vec::new();
        for (key, doc, kind) in &leaves {
            let whole = join(path, key);
            let (what, list) = inner(kind);
            let is = match what {
                "u64" | "u32" | "usize" if list => "list of whole numbers",
                "u64" | "u32" | "usize" => "whole number",
                "f64" => "number",
                "bool" => "true or false",
                "String" if list => "list of texts",
                "String" => "text",
                "PathBuf" => "path",
                "DataFiles" => "path, or list of paths",
                other => {
                    names.push((key, other));
                    "one of the names below"
                }
            };
            let is =
                if kind.starts_with("Option<") { format!("{is}, optional") } else { is.into() };
            let default = self.default(&whole);
            let flag = flag_of(&whole).map(|flag| format!("`{flag}`")).unwrap_or_default();
            let doc = doc.replace('|', "\\|");
            let _ = writeln!(self.text, "| `{key}` | {is} | {default} | {flag} | {doc} |");
            self.keys.push(whole);
        }
        for (key, name) in names {
            let _ = writeln!(self.text, "\n`{key}`: {}\n", self.items[name].doc);
            for (name, doc, _) in &self.items[name].parts {
                let _ = writeln!(self.text, "- `{name}`: {doc}");
            }
        }
        for (key, _, kind) in tables {
            let (name, list) = inner(kind);
            let whole = join(path, key);
            self.keys.push(whole.clone());
            self.table(&whole, name, list);
        }
    }

    fn default(&self, key: &str) -> String {
        let held = key.split('.').try_fold(&self.defaults, |value, name| value.get(name));
        match held {
            None => String::new(),
            Some(Value::String(text)) if text.is_empty() => String::new(),
            Some(Value::Array(list)) if list.is_empty() => String::new(),
            Some(Value::Float(number)) if *number != 0.0 && number.abs() < 1e-3 => {
                format!("`{number:e}`")
            }
            Some(value) => format!("`{value}`"),
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn made() -> (String, Vec<String>) {
    let mut found = BTreeMap::new();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    items(&crates.join("opd-train/src/config"), &mut found);
    let of_data = fs::read_to_string(crates.join("opd-data/src/bad_rows.rs")).unwrap();
    scan(&of_data, &mut found);
    let student = StudentConfig { lora: Some(LoraConfig::default()), ..StudentConfig::default() };
    let defaults = TrainConfig {
        student,
        distillation: Some(DistillationConfig::default()),
        wandb: Some(WandbConfig::default()),
        ..TrainConfig::default()
    };
    let mut defaults = Value::try_from(defaults).unwrap();
    let table = defaults.as_table_mut().unwrap();
    // Its default is none that a run could have.
    table.remove("steps");
    table.insert("teacher".into(), Value::try_from(TeacherConfig::default()).unwrap());
    let mut pages = Pages { items: &found, defaults, text: HEAD.to_owned(), keys: Vec::new() };
    pages.table("", "TrainConfig", false);
    (pages.text, pages.keys)
}

#[test]
fn the_reference_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let (made, _) = made();
    if std::env::var_os("OPD_WRITE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    let differing = held.lines().zip(made.lines()).find(|(held, made)| held != made);
    assert!(
        held == made,
        "docs/configuration.md is old ({differing:?}): OPD_WRITE_DOCS=1 cargo test --workspace \
         --bin opd reference"
    );
}

#[test]
fn every_key_is_there_with_words() {
    let (text, mut keys) = made();
    let mut known = Shape::of::<TrainConfig>().paths();
    // A list of tables shows its own keys to nobody who asks the type.
    known.extend(Shape::of::<TeacherConfig>().paths().iter().map(|key| format!("teacher.{key}")));
    keys.sort();
    known.sort();
    assert_eq!(keys, known);
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let words = cells.last().unwrap().split_whitespace().count();
        assert!(cells.len() >= 5 && words >= 2, "{line}");
    }
}

#[test]
fn names_are_those_that_are_read() {
    let mut found = BTreeMap::new();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../opd-train/src/config");
    items(&config, &mut found);
    let Shape::OneOf(names) = Shape::of::<opd_train::config::LossKind>() else { panic!() };
    let made: Vec<&str> = found["LossKind"].parts.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(made, names);
    let Shape::OneOf(names) = Shape::of::<opd_train::config::AggregationKind>() else { panic!() };
    let made: Vec<&str> =
        found["AggregationKind"].parts.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(made, names);
}
