use std::fs;

use opd_models::Tokenizer;
use opd_testkit::{GoldenModel, ModelDir};

fn dir() -> ModelDir {
    ModelDir::copy(&GoldenModel::load("qwen3_tied").dir)
}

fn with(words: &[&str]) -> (ModelDir, Tokenizer) {
    let dir = dir();
    dir.write_tokenizer(words);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    (dir, tokenizer)
}

#[test]
fn text_becomes_ids_and_ids_tokens() {
    let (_dir, tokenizer) = with(&["?", "a", "b"]);
    assert_eq!(tokenizer.encode("b a x").unwrap(), [2, 1, 0]);
    assert_eq!(tokenizer.token(2).as_deref(), Some("b"));
    assert_eq!(tokenizer.token(3), None);
    assert_eq!(tokenizer.decode(&[1, 2]).unwrap(), "a b");
}

#[test]
fn differing_tokenizers_are_told_apart_by_a_token() {
    let (student_dir, student) = with(&["?", "a", "b"]);
    let (_same_dir, same) = with(&["?", "a", "b"]);
    student.check_same(&same).unwrap();
    for (words, token, there, here) in [
        (vec!["?", "b", "a"], "a", "id 1", "id 2"),
        (vec!["?", "a"], "b", "id 2", "no id"),
        (vec!["?", "a", "b", "c"], "c", "no id", "id 3"),
    ] {
        let (teacher_dir, teacher) = with(&words);
        let path = |dir: &ModelDir| dir.path().join("tokenizer.json").display().to_string();
        assert_eq!(
            student.check_same(&teacher).unwrap_err().to_string(),
            format!(
                "{}: another tokenizer than {}: token {token:?} has {there} there and {here} here; \
                 teacher and student must share one tokenizer",
                path(&teacher_dir),
                path(&student_dir)
            )
        );
    }
}

#[test]
fn a_missing_or_malformed_file_is_named() {
    let dir = dir();
    let path = dir.path().join("tokenizer.json");
    let message = || Tokenizer::load(dir.path()).unwrap_err().to_string();
    let missing = "there is no such file; copy it from the model's repository";
    assert_eq!(message(), format!("{}: {missing}", path.display()));
    fs::write(&path, "{\"version\": ").unwrap();
    assert!(message().starts_with(&format!("{}: ", path.display())), "{}", message());
}
