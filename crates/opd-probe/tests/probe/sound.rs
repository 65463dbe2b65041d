use candle_core::Device;
use opd_probe::{Needs, Outcome, Subject, probe};
use opd_teacher::RemoteSettings;
use opd_testkit::{GoldenModel, ModelDir};

use crate::{Site, outcomes, said, student};

#[test]
fn a_served_model_passes_and_is_its_own_null_test() {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    dir.write_tokenizer(&["?", "to", "be", "or", "not"]);
    let site = Site::new(dir.path());
    let url = format!("http://{}/generate", site.address);
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
