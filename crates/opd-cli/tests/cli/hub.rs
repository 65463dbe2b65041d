//! Models by their names on the hub, for every command that takes a model.

use opd_testkit::{COMMIT, GoldenModel, HubStub};
use serde_json::json;

use crate::{
    command::{Ran, Workplace, records},
    models,
};

const REPO: &str = "somebody/Tiny-Qwen3";

/// Runs a line with the hub of `stub` and a cache in the workplace.
fn run(work: &Workplace, stub: &HubStub, offline: &str, line: &str) -> Ran {
    let (url, home) = (stub.url(), work.path("home").display().to_string());
    let variables = [
        ("HF_ENDPOINT", url.as_str()),
        ("HF_HOME", &home),
        ("HF_TOKEN", "secret"),
        ("HF_HUB_OFFLINE", offline),
    ];
    work.line_with(line, &variables)
}

#[test]
fn a_name_on_the_hub_is_a_model() {
    let golden = GoldenModel::load("qwen3_yarn");
    let (work, stub) = (Workplace::new(), HubStub::start(REPO, &golden.dir, Some("secret")));
    work.write("in.jsonl", &format!("{}\n", json!({ "tokens": golden.sequences[0] })));
    let line = format!(
        "generate --model {REPO}@main --input in.jsonl --output out.jsonl --max-new-tokens 24 \
         --greedy --ignore-eos"
    );
    run(&work, &stub, "0", &line).succeeds();
    let out = records(&work.path("out.jsonl"));
    assert_eq!(out[0]["tokens"], json!(golden.greedy_from_sequence_0));

    // The cache has it now, under the branch and under the commit.
    let before = stub.asked().len();
    for revision in ["main", COMMIT] {
        let line = format!("score --model {REPO}@{revision} --input in.jsonl --output s.jsonl");
        run(&work, &stub, "1", &line).succeeds();
    }
    assert_eq!(stub.asked().len(), before);
    let line = "score --model somebody/other --input in.jsonl --output s.jsonl";
    run(&work, &stub, "1", line).fails(
        1,
        &[
            "error: somebody/other@main of http://127.0.0.1:",
            "HF_HUB_OFFLINE forbids to fetch it; fetch it where there is a network",
        ],
    );
    run(&work, &stub, "0", line).fails(1, &["404", "check the name and the revision"]);
}

#[test]
fn students_and_teachers_may_be_on_the_hub() {
    let work = Workplace::new();
    let (student, prompts) = (models::digits(&work, "student", 1), models::prompts(&work));
    let stub = HubStub::start("somebody/digits", &student, None);
    let line = format!(
        "train --hf-checkpoint somebody/digits --prompt-data {} --use-opd --opd-type in-process \
         --opd-teacher-load somebody/digits@{COMMIT} --steps 1 --rollout-batch-size 2 \
         --n-samples-per-prompt 2 --rollout-max-response-len 4 --output run --quiet",
        prompts.display()
    );
    run(&work, &stub, "0", &line).succeeds();
    assert!(work.path("run/model/model.safetensors").is_file());
    // What is stored is where the model lies: the run goes on without the hub.
    let config = std::fs::read_to_string(work.path("run/config.toml")).unwrap();
    assert_eq!(config.matches(&format!("snapshots/{COMMIT}")).count(), 2, "{config}");
}
