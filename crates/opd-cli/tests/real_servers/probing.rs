use std::path::Path;

use opd_pocket::Layout;
use serde_json::Value;

use crate::server::{KEY_VARIABLE, Server, opd};

/// `opd check-teacher` finds nothing wrong with a right server; the teacher as its own student is
/// the null test.
pub(crate) fn passes_its_checks(server: &Server, job: &Layout) {
    let all = check(server, &job.student);
    let null = check(server, &job.teacher);
    let null = null.iter().find(|(name, ..)| name == "divergence").unwrap();
    assert!(null.1 == "pass" && null.2.contains("null test"), "{null:?}");
    let names: Vec<&str> = all.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "health",
            "identity",
            "tokenizer",
            "scoring",
            "off by one",
            "bos",
            "temperature",
            "top-k",
            "length",
            "speed",
            "divergence"
        ]
    );
    for (name, outcome, said) in &all {
        eprintln!("{}: {name}: {outcome}: {said}", server.kind.name);
        let expected = if name == "temperature" { "warn" } else { "pass" };
        assert_eq!(outcome, expected, "{name}: {said}");
    }
    // A run that samples at another temperature, or needs longer sequences, is warned in time.
    for (flag, value, what) in
        [("--temperature", "0.7", "temperature"), ("--max-length", "64", "length")]
    {
        let (code, checks) = run(server, &job.student, &[flag, value]);
        assert_eq!(code, Some(1));
        assert!(checks.iter().any(|(name, outcome, _)| name == what && outcome == "fail"));
    }
}

/// Name, outcome and finding.
type Line = (String, String, String);

fn check(server: &Server, student: &Path) -> Vec<Line> {
    let (code, checks) = run(server, student, &[]);
    assert_eq!(code, Some(0), "{checks:?}");
    checks
}

fn run(server: &Server, student: &Path, flags: &[&str]) -> (Option<i32>, Vec<Line>) {
    let url = server.url();
    let ran = opd()
        .args(["check-teacher", &url, "--json", "--rm-api-key-env", KEY_VARIABLE, "--student"])
        .arg(student)
        .args(flags)
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let line = |check: &Value| (text(check, "name"), text(check, "outcome"), text(check, "said"));
    (ran.status.code(), json["checks"].as_array().unwrap().iter().map(line).collect())
}
