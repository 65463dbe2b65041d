use candle_core::{DType, Device};
use opd_batch::{Error, Result, ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_probe::{Needs, Outcome, Subject, probe};
use opd_teacher::{InProcessTeacher, Limits};
use opd_testkit::{GoldenModel, ModelDir};
use serde_json::{Value, json};

use crate::{failed, said, student};

/// What is wrong with a teacher.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Rotated,
    BlindToTheTokenBefore,
    SeesTheTokenAfter,
    IgnoresTemperature,
    RefusesTemperature,
    Missing,
    Unsorted,
    PutsBosInFront,
    RefusesLong,
    GivesFewIds,
}

/// The token that the tokenizer of [`with_bos`] puts in front of texts.
const BOS: u32 = 1;

struct Faulty(InProcessTeacher, Fault);

impl Teacher for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn score(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let fault = self.1;
        let mut request = request.clone();
        if fault == Fault::RefusesTemperature && request.temperature != 1.0 {
            let (teacher, wanted) = ("faulty".into(), "a temperature".into());
            return Err(Error::Unsupported { teacher, wanted, remedy: "sample at 1".into() });
        }
        let refused = |wanted: String| {
            Err(Error::Unsupported { teacher: "faulty".into(), wanted, remedy: "ask less".into() })
        };
        let longest = request.sequences.iter().map(|s| s.prompt.len() + s.response.len()).max();
        if fault == Fault::RefusesLong && longest.is_some_and(|longest| longest > 200) {
            return refused("200 tokens".into());
        }
        if let (Fault::GivesFewIds, Wanted::TopK(k @ 5..)) = (fault, request.wanted) {
            return refused(format!("{k} ids"));
        }
        if fault == Fault::IgnoresTemperature {
            request.temperature = 1.0;
        }
        let cut: Vec<Vec<u32>> = request
            .sequences
            .iter()
            .map(|s| s.prompt[..s.prompt.len().max(2) - 1].to_vec())
            .collect();
        if fault == Fault::BlindToTheTokenBefore {
            for (sequence, prompt) in request.sequences.iter_mut().zip(&cut) {
                *sequence = ScoredSequence { prompt, ..*sequence };
            }
        }
        let behind: Vec<Vec<u32>> =
            request
                .sequences
                .iter()
                .map(|s| {
                    if s.prompt[0] == BOS { s.prompt.to_vec() } else { [&[BOS], s.prompt].concat() }
                })
                .collect();
        if fault == Fault::PutsBosInFront {
            for (sequence, prompt) in request.sequences.iter_mut().zip(&behind) {
                *sequence = ScoredSequence { prompt, ..*sequence };
            }
        }
        let mut scores = self.0.score(&request)?;
        let rows = scores.logprobs.rows().clone();
        let mut values = scores.logprobs.values().to_vec();
        for range in rows.ranges() {
            match fault {
                Fault::Rotated => values[range].rotate_right(1),
                Fault::SeesTheTokenAfter => {
                    for t in range.start + 1..range.end {
                        values[t - 1] = values[t - 1].zip(values[t]).map(|(a, b)| a + b);
                    }
                }
                Fault::Missing => values[range.start] = None,
                _ => {}
            }
        }
        scores.logprobs = opd_batch::Ragged::new("scores", rows, values)?;
        if let (Fault::Unsorted, Some(top)) = (fault, &mut scores.top) {
            top.logprobs.reverse();
        }
        Ok(scores)
    }
}

#[test]
fn each_fault_is_found_by_its_check() {
    let dir = GoldenModel::load("qwen3_untied").dir;
    let student = student(&dir);
    let limits = Limits { longest: Some(512), vocab_size: Some(320) };
    let probed = |fault, temperature| {
        let teacher = InProcessTeacher::load(&dir, DType::F32, &Device::Cpu).unwrap();
        let subject = Subject::of(Box::new(Faulty(teacher, fault)), limits);
        probe(&subject, &student, Needs { temperature, ..Needs::default() }).unwrap()
    };
    for (fault, temperature, name, outcome) in [
        (Fault::Rotated, 1.0, "off by one", Outcome::Fail),
        (Fault::BlindToTheTokenBefore, 1.0, "off by one", Outcome::Fail),
        (Fault::SeesTheTokenAfter, 1.0, "off by one", Outcome::Fail),
        (Fault::IgnoresTemperature, 1.0, "temperature", Outcome::Fail),
        (Fault::RefusesTemperature, 1.0, "temperature", Outcome::Warn),
        (Fault::RefusesTemperature, 0.7, "temperature", Outcome::Fail),
        (Fault::Missing, 1.0, "scoring", Outcome::Fail),
        (Fault::Unsorted, 1.0, "top-k", Outcome::Fail),
    ] {
        let report = probed(fault, temperature);
        assert_eq!(said(&report, name).0, outcome, "{fault:?}: {report:?}");
        assert_eq!(report.failed(), outcome == Outcome::Fail, "{fault:?}: {report:?}");
    }
}

/// A tiny model whose tokenizer puts a token in front of texts.
fn with_bos() -> ModelDir {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_untied").dir);
    dir.write_tokenizer(&["?", "<s>", "a"]);
    let path = dir.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let front = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing", "single": [front, text], "pair": [front, text],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [BOS], "tokens": ["<s>"] } },
    });
    std::fs::write(path, tokenizer.to_string()).unwrap();
    dir
}

#[test]
fn a_refusal_is_found_by_its_check_and_no_other() {
    let dir = with_bos();
    let student = student(dir.path());
    let limits = Limits { longest: Some(500), vocab_size: Some(320) };
    let needs = Needs { top_k: Some(10), longest: Some(300), ..Needs::default() };
    let probed = |fault| {
        let teacher = InProcessTeacher::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
        probe(&Subject::of(Box::new(Faulty(teacher, fault)), limits), &student, needs).unwrap()
    };
    for (fault, name, text) in [
        (
            Fault::PutsBosInFront,
            "bos",
            "scores are the same with and without id 1 in front: the server adds it to ids",
        ),
        (
            Fault::RefusesLong,
            "length",
            "500 tokens, within its own limit of 500: teacher `faulty` cannot give 200 tokens",
        ),
        (Fault::GivesFewIds, "top-k", "1, but not 5; the run needs 10"),
    ] {
        let report = probed(fault);
        assert_eq!(failed(&report), [name], "{fault:?}: {report:?}");
        let found = said(&report, name).1;
        assert!(found.starts_with(text), "{found}");
    }
    // A tokenizer that puts a token in front is nothing wrong by itself.
    let teacher = InProcessTeacher::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
    let report = probe(&Subject::of(Box::new(teacher), limits), &student, needs).unwrap();
    assert!(failed(&report).is_empty(), "{report:?}");
    assert!(said(&report, "bos").1.ends_with("prompts of text begin with id 1"), "{report:?}");
}
