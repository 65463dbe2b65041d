//! The tree that `materialize` writes.
#![allow(clippy::unwrap_used)]

use std::{collections::HashSet, fs, path::Path};

use opd_pocket::{
    DataSizes, Error, materialize, materialize_with,
    sort8::{Split, prompts},
};
use serde_json::Value;

const SMALL: DataSizes = DataSizes { train: 30, validation: 20, test: 10 };

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Prompts of a data file, each row checked.
fn rows(path: &Path, split: Split) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let rows = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| row[name].as_str().unwrap().to_owned();
        assert_eq!(row.as_object().unwrap().len(), 3, "{line}");
        assert_eq!(field("source"), "sort8");
        assert_eq!(Split::of(&field("prompt")), Some(split), "{line}");
        let mut digits: Vec<char> = field("prompt").trim_end_matches('=').chars().collect();
        digits.sort_unstable();
        assert_eq!(field("label"), String::from_iter(digits), "{line}");
        field("prompt")
    });
    rows.collect()
}

#[test]
fn default_job() {
    let dir = tempfile::tempdir().unwrap();
    let layout = materialize(&dir.path().join("new/job")).unwrap();
    let train = rows(&layout.train, Split::Train);
    let validation = rows(&layout.validation, Split::Validation);
    let test = rows(&layout.test, Split::Test);
    assert_eq!([train.len(), validation.len(), test.len()], [12_800, 2_000, 10_000]);
    let distinct: HashSet<_> = train.iter().chain(&validation).chain(&test).collect();
    assert_eq!(distinct.len(), 24_800);
}

#[test]
fn models() {
    let dir = tempfile::tempdir().unwrap();
    let layout = materialize_with(dir.path(), SMALL).unwrap();
    for (model, vocab, layers, hidden, head, ff) in [
        (&layout.student, 13, 2, 64, 16, 160),
        (&layout.teacher, 13, 3, 128, 32, 336),
        (&layout.pairs_teacher, 113, 3, 96, 24, 256),
    ] {
        let config = json(&model.join("config.json"));
        assert_eq!(config["architectures"][0], "Qwen3ForCausalLM");
        assert_eq!(config["vocab_size"], vocab);
        assert_eq!(config["num_hidden_layers"], layers);
        assert_eq!(config["hidden_size"], hidden);
        assert_eq!(config["head_dim"], head);
        assert_eq!(config["intermediate_size"], ff);
        assert_eq!(ff, 8 * hidden / 3 / 16 * 16);
        assert_eq!(config["eos_token_id"], 1);
        assert_eq!(config["pad_token_id"], 0);
        assert_eq!(json(&model.join("generation_config.json"))["eos_token_id"], 1);
    }
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        assert_eq!(json(&layout.student.join(file)), json(&layout.teacher.join(file)), "{file}");
    }
}

#[test]
fn completes_an_interrupted_tree() {
    let dir = tempfile::tempdir().unwrap();
    let layout = materialize_with(dir.path(), SMALL).unwrap();
    let test = fs::read(&layout.test).unwrap();
    fs::remove_file(&layout.test).unwrap();
    fs::remove_dir_all(&layout.teacher).unwrap();
    assert_eq!(materialize_with(dir.path(), SMALL).unwrap(), layout);
    assert_eq!(fs::read(&layout.test).unwrap(), test);
    assert!(layout.teacher.join("config.json").exists());
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let expected =
        ["pairs_teacher", "student", "teacher", "train.jsonl", "validation.jsonl", "test.jsonl"];
    assert_eq!(names.collect::<HashSet<_>>(), expected.map(Into::into).into());
}

#[test]
fn keeps_files_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let taken = dir.path().join("validation.jsonl");
    fs::write(&taken, "mine\n").unwrap();
    let error = materialize_with(dir.path(), SMALL).unwrap_err();
    assert!(matches!(&error, Error::Occupied { path } if *path == taken), "{error}");
    assert!(error.to_string().contains("choose an empty directory"), "{error}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine\n");
}

#[test]
fn a_file_in_place_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = materialize_with(&file, SMALL).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn more_rows_than_prompts() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = DataSizes { test: 10_000_000, ..SMALL };
    let error = materialize_with(&dir.path().join("job"), sizes).unwrap_err();
    let expected =
        "test.jsonl: 10000000 rows asked for, but the split has 9999205 prompts; ask for fewer";
    assert_eq!(error.to_string(), expected);
    assert!(!dir.path().join("job").exists());
}

#[test]
fn rows_are_those_of_the_task() {
    let dir = tempfile::tempdir().unwrap();
    let layout = materialize_with(dir.path(), SMALL).unwrap();
    let expected: Vec<_> = prompts(Split::Test, 3, 10).into_iter().map(|e| e.prompt).collect();
    assert_eq!(rows(&layout.test, Split::Test), expected);
}
