use std::{collections::BTreeMap, fs, path::Path};

use crate::server::{KEY_VARIABLE, Server, opd};

/// Metrics of a step.
type Line = BTreeMap<String, f64>;

/// The first ten steps of the default job with its teacher behind the server have the metrics of
/// those with it in process, all of them to 1e-4.
pub(crate) fn trains_as_in_process(server: &Server, work: &Path) {
    let config = opd().args(["train", "--print-config"]).output().unwrap();
    assert!(config.status.success());
    let job = work.join("job.toml");
    fs::write(&job, config.stdout).unwrap();
    let train = |name: &str, flags: &[&str]| -> Vec<Line> {
        let output = work.join(name);
        let ran = opd()
            .args(["train", "--quiet", "--steps", "10", "--lr-decay-iters", "400"])
            .args(["--eval-prompts", "50"])
            .args([Path::new("--config"), &job, Path::new("--output"), &output])
            .args(flags)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let metrics = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
        let line = |line: &str| -> Line {
            let mut line: Line = serde_json::from_str(line).unwrap();
            line.retain(|key, _| !key.starts_with("seconds/"));
            line
        };
        metrics.lines().map(line).collect()
    };
    let (kind, url) = (server.kind.name, server.url());
    let here = train("here", &[]);
    let there = ["--opd-type", kind, "--rm-url", &url, "--rm-api-key-env", KEY_VARIABLE];
    let there = train("there", &there);
    // Validation before the first step has a line of its own.
    assert_eq!((here.len(), there.len()), (11, 11));
    let (mut n, mut worst) = (0, 0.0f64);
    for (here, there) in here.iter().zip(&there) {
        assert!(here.keys().eq(there.keys()), "{here:?} {there:?}");
        for (key, want) in here {
            let off = (there[key] - want).abs() / want.abs().max(1.0);
            let step = here["step"];
            assert!(off <= 1e-4, "step {step}: {key}: {} there, {want} here", there[key]);
            (n, worst) = (n + 1, worst.max(off));
        }
    }
    eprintln!("{kind}: ten steps of the default job, {n} metrics, largest difference {worst:e}");
}
