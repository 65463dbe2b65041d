//! Crates depend downwards only.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

/// A crate may depend on crates of lower rank.
const RANKS: [(&str, u32); 16] = [
    ("opd-batch", 0),
    ("opd-http", 0),
    ("opd-advantage", 1),
    ("opd-data", 1),
    ("opd-kernels", 1),
    ("opd-loss", 2),
    ("opd-core", 3),
    ("opd-models", 3),
    ("opd-pocket", 3),
    ("opd-reward", 1),
    ("opd-rollout", 4),
    ("opd-serve", 4),
    ("opd-teacher", 4),
    ("opd-probe", 5),
    ("opd-train", 5),
    ("opd-cli", 6),
];

/// Crates without a tensor library below the tensor layer.
const PLAIN: [&str; 6] =
    ["opd-batch", "opd-advantage", "opd-data", "opd-http", "opd-pocket", "opd-reward"];

#[test]
fn crates_depend_downwards_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ranks = BTreeMap::from(RANKS);
    let mut seen = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(rank) = ranks.get(name) else {
            let helper = ["opd-testkit", "opd-examples", "opd-benches"].contains(&name);
            assert!(helper, "{name} has no rank: add it to this test");
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            if dependency["kind"].is_string() {
                continue;
            }
            if let Some(below) = ranks.get(on) {
                assert!(below < rank, "{name} depends on {on}, which is not below it");
            }
            let tensors = on.starts_with("candle");
            assert!(!(tensors && PLAIN.contains(&name)), "{name} depends on {on}");
        }
    }
    assert_eq!(seen, ranks.len(), "a crate of the list is gone: take it off");
}
