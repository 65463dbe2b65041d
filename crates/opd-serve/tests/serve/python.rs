use std::process::Command;

use opd_serve::Options;
use opd_testkit::GoldenModel;
use serde_json::json;

use crate::client::{Site, logprobs, request};

/// Needs `python3` with aiohttp; `OPD_TEST_PYTHON` names another interpreter.
#[test]
fn slimes_request_from_python_gets_the_same_scores() {
    let python = std::env::var("OPD_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import aiohttp"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: {python} with aiohttp is not there; the Python client was not tested");
        return;
    }
    let site = Site::of("qwen3_tied", Options::default());
    let sequence = GoldenModel::load("qwen3_tied").sequences[0].clone();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/slime_client.py");
    let output = Command::new(python)
        .arg(script)
        .arg(format!("http://{}/generate", site.address))
        .args(sequence.iter().map(u32::to_string))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let got: Vec<f32> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(got, logprobs(&site.generate(&request(json!(sequence)))));
}
