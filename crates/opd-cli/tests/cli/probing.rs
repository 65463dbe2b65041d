use opd_testkit::GoldenModel;
use serde_json::Value;

use crate::{command::Workplace, serving::Served};

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
