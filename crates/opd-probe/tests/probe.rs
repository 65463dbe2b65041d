//! Probes of good teachers, and of teachers with one fault each.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device};
use opd_batch::{Error, Result, ScoreRequest, ScoredSequence, Teacher, TeacherScores};
use opd_models::CausalLm;
use opd_probe::{Needs, Outcome, Report, Subject, probe};
use opd_serve::{Options, Running, ServedModel, Server};
use opd_teacher::{InProcessTeacher, Limits, RemoteSettings};
use opd_testkit::{GoldenModel, ModelDir};

fn student(dir: &std::path::Path) -> CausalLm {
    CausalLm::load(dir, DType::F32, &Device::Cpu).unwrap()
}

fn outcomes(report: &Report) -> Vec<(&'static str, Outcome)> {
    report.checks.iter().map(|check| (check.name, check.outcome)).collect()
}

#[track_caller]
fn said<'a>(report: &'a Report, name: &str) -> (Outcome, &'a str) {
    let check = report.checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("no {name} in {report:?}"));
    (check.outcome, &check.said)
}

#[test]
fn a_served_model_passes_and_is_its_own_null_test() {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    dir.write_tokenizer(&["?", "to", "be", "or", "not"]);
    let model = ServedModel::load(dir.path(), &Device::Cpu).unwrap();
    let server = Server::new(model, Options::default());
    let running = Running::start(&server, "127.0.0.1:0".parse().unwrap()).unwrap();
    let worker = server.worker();
    let worker = std::thread::spawn(move || worker.run());
    let url = format!("http://{}/generate", running.address());
    let student_dir = ModelDir::copy(dir.path());
    let probed = |student_dir: &std::path::Path, needs| {
        let subject = Subject::server(&url, None, RemoteSettings::default()).unwrap();
        probe(&subject, &student(student_dir), needs).unwrap()
    };
    let report = probed(dir.path(), Needs::default());
    assert!(outcomes(&report).iter().all(|(_, outcome)| *outcome == Outcome::Pass), "{report:?}");
    assert_eq!(report.checks.len(), 11);
    assert!(said(&report, "divergence").1.starts_with("null test"), "{report:?}");
    assert!(said(&report, "temperature").1.contains("any temperature"), "{report:?}");
    assert!(report.table().contains("off by one  pass"), "{}", report.table());

    student_dir.write_tokenizer(&["?", "to", "be", "not", "or"]);
    let report = probed(student_dir.path(), Needs::default());
    let (outcome, text) = said(&report, "tokenizer");
    assert_eq!(outcome, Outcome::Fail);
    assert!(text.contains("token \"not\" has id 3 there and id 4 here"), "{text}");
    let needs = Needs { temperature: 0.7, longest: Some(600), top_k: Some(10) };
    let report = probed(dir.path(), needs);
    let (outcome, text) = said(&report, "length");
    assert_eq!((outcome, text), (Outcome::Fail, "at most 512 tokens; the run needs 600"));
    assert!(report.failed());
    running.stop();
    worker.join().unwrap().unwrap();
}

#[test]
fn a_directory_passes() {
    let dir = GoldenModel::load("llama_tied").dir;
    let subject = Subject::directory(&dir, &Device::Cpu).unwrap();
    let report = probe(&subject, &student(&dir), Needs::default()).unwrap();
    for (name, outcome) in outcomes(&report) {
        let expected = if name == "tokenizer" { Outcome::NotChecked } else { Outcome::Pass };
        assert_eq!(outcome, expected, "{name}: {report:?}");
    }
    assert!(!report.failed());
}

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
}

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
