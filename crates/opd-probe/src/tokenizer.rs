use opd_http::{Client, Request};
use opd_models::{CausalLm, Tokenizer};
use serde_json::{Value, json};

use crate::{Outcome, Subject, subject::get};

/// Texts that tokenizers like to disagree on.
const TEXTS: [&str; 8] = [
    "The quick brown fox jumps over 13 lazy dogs.",
    " leading and  double   spaces\t\ttabs\n\n\nlines",
    "12345678 + 3.14159 = 1e-9",
    "naïve café, Grüße, 日本語, Ελληνικά, 🙂🙂",
    "def f(x):\n    return {'a': [x ** 2]}",
    "<s></s><|im_start|>user<|im_end|><|endoftext|><think>",
    "DON'T can't we'll I'd",
    "83120975=",
];

/// Whether student and teacher mean the same text by the same ids.
pub(crate) fn check(subject: &Subject, student: &CausalLm) -> (Outcome, String) {
    let ours = match Tokenizer::load(student.source()) {
        Ok(ours) => ours,
        Err(error) if Tokenizer::exists(student.source()) => {
            return (Outcome::Fail, error.to_string());
        }
        Err(_) => {
            return (Outcome::NotChecked, "the student's directory has no tokenizer.json".into());
        }
    };
    let theirs = subject.model_dir.as_ref().map(Tokenizer::load).and_then(Result::ok);
    if let Some(theirs) = theirs {
        return compare(&ours, &theirs);
    }
    let Some(client) = &subject.client else {
        let said = "the teacher's directory has no tokenizer.json, or it has no directory";
        return (Outcome::NotChecked, said.into());
    };
    if let Some(theirs) = download(client) {
        return compare(&ours, &theirs);
    }
    by_texts(&ours, client)
}

fn compare(ours: &Tokenizer, theirs: &Tokenizer) -> (Outcome, String) {
    if let Err(error) = ours.check_same(theirs) {
        return (Outcome::Fail, error.to_string());
    }
    for text in TEXTS {
        if ours.encode(text).ok() != theirs.encode(text).ok() {
            let said = format!("one vocabulary, but {text:?} is cut into other tokens");
            return (Outcome::Fail, said);
        }
    }
    (Outcome::Pass, "every token has the same id, special tokens too; texts are cut alike".into())
}

/// The file that `opd serve` offers.
fn download(client: &Client) -> Option<Tokenizer> {
    let file = get(client, "/tokenizer.json").filter(|file| file.get("model").is_some())?;
    let dir = tempfile::tempdir().ok()?;
    std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).ok()?;
    Tokenizer::load(dir.path()).ok()
}

/// By the ids that a server's `/tokenize` gives texts.
fn by_texts(ours: &Tokenizer, client: &Client) -> (Outcome, String) {
    let name = get(client, "/v1/models");
    let name = name.as_ref().and_then(|models| models.pointer("/data/0/id")).cloned();
    let mut compared = 0;
    for text in TEXTS {
        let Ok(expected) = ours.encode(text) else { continue };
        let body = json!({ "model": name, "prompt": text }).to_string();
        let request = Request::post("/tokenize", body);
        let Ok(body) = client.run(client.send_once(0, &request)) else { continue };
        let answer: Option<Value> = serde_json::from_slice(&body).ok();
        let ids =
            answer.and_then(|answer| serde_json::from_value(answer.get("tokens")?.clone()).ok());
        let Some(ids): Option<Vec<u32>> = ids else { continue };
        if ids != expected {
            let said = format!("{text:?} has the ids {ids:?} there and {expected:?} here");
            return (Outcome::Fail, said);
        }
        compared += 1;
    }
    if compared == 0 {
        let said = "the server offers neither its tokenizer nor /tokenize, and its model directory is not on this machine";
        return (Outcome::NotChecked, said.into());
    }
    let said = format!(
        "{compared} texts have the same ids; the vocabularies were not compared token by token"
    );
    (Outcome::Warn, said)
}
