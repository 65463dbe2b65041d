use opd_testkit::GoldenModel;
use serde_json::Value;

use crate::{command::Workplace, remote_teacher::JOB, serving::Served, sglang_stub::Server};

#[test]
fn a_server_is_checked_for_people_and_for_scripts() {
    let work = Workplace::new();
    let served = Served::start(&work, &[]);
    let model = GoldenModel::load("qwen3_tied").dir.display().to_string();
    let url = served.url();
    let check =
        |flags: &[&str]| work.opd([&["check-teacher", &url, "--student", &model], flags].concat());
    let table = check(&[]).succeeds().stdout;
    for line in ["off by one  pass", "temperature pass", "tokenizer   not checked", "null test"] {
        assert!(table.contains(line), "no {line} in {table}");
    }
    let json: Value = serde_json::from_str(&check(&["--json"]).succeeds().stdout).unwrap();
    assert_eq!(json["checks"][0]["name"], "health");
    assert_eq!(json["checks"][0]["outcome"], "pass");
    check(&["--max-length", "513"]).fails(1, &["length: at most 512 tokens; the run needs 513"]);
    let directory = work.opd(["check-teacher", &model, "--student", &model]);
    assert!(directory.succeeds().stdout.contains("null test"));
    work.opd(["check-teacher", "nowhere", "--student", &model])
        .fails(2, &["nowhere: neither a directory nor a URL"]);
    served.terminate();
}

/// Before the first step, unless the check is refused.
#[test]
fn a_run_that_needs_more_ids_than_its_server_gives_does_not_start() {
    let work = Workplace::new();
    let server = Server::capped(&work, usize::MAX, 3);
    let checked = JOB.replace("--skip-teacher-check ", "").replace("--steps 3", "--steps 1");
    let line = |job: &str, k: usize, out: &str| {
        let loss = "--loss top_k_forward_kl --loss-top-k";
        work.line(&format!("{job} {} {loss} {k} --output {out}", server.flags()))
    };
    line(&checked, 4, "refused").fails(
        1,
        &[
            "the teacher did not pass its checks; --skip-teacher-check trains nevertheless",
            "top-k: 1, but not 4; the run needs 4",
        ],
    );
    assert!(!work.path("refused/metrics.jsonl").exists());
    let skipped = format!("{checked} --skip-teacher-check");
    line(&skipped, 4, "skipped")
        .fails(1, &["error: step 1, score: ", "top_logprobs_num 4 is above 3"]);
    line(&checked, 3, "within").succeeds();
}

#[test]
fn a_run_whose_answers_are_longer_than_its_server_takes_does_not_start() {
    let work = Workplace::new();
    let server = Server::start(&work, usize::MAX);
    let job = JOB
        .replace("--skip-teacher-check ", "")
        .replace("max-response-len 10", "max-response-len 57");
    // The server's context is 64, of which SGLang keeps 7.
    work.line(&format!("{job} {} --output run", server.flags()))
        .fails(1, &["length: at most 57 tokens; the run needs 58"]);
}
