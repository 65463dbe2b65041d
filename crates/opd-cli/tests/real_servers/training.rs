use std::{fs, path::Path};

use opd_pocket::Layout;

use crate::server::{KEY_VARIABLE, Server, opd};

/// Ten steps with the teacher behind the server have the metrics of ten with it in process.
pub(crate) fn trains_as_in_process(server: &Server, job: &Layout, work: &Path) {
    let train = |name: &str, flags: &[&str]| -> Vec<serde_json::Value> {
        let output = work.join(name);
        let ran = opd()
            .args(["train", "--use-opd", "--quiet", "--steps", "10", "--lr", "5e-4"])
            .args(["--rollout-batch-size", "16", "--n-samples-per-prompt", "4"])
            .args(["--rollout-max-response-len", "10", "--eval-interval", "0"])
            .args([Path::new("--hf-checkpoint"), &job.student])
            .args([Path::new("--prompt-data"), &job.train])
            .args([Path::new("--output"), &output])
            .args(flags)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let metrics = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let teacher = job.teacher.display().to_string();
    let here = train("here", &["--opd-type", "in-process", "--opd-teacher-load", &teacher]);
    let (kind, url) = (server.kind.name, server.url());
    let there = ["--opd-type", kind, "--rm-url", &url, "--rm-api-key-env", KEY_VARIABLE];
    let there = train("there", &there);
    assert_eq!((here.len(), there.len()), (10, 10));
    let mut worst = 0.0f64;
    for (here, there) in here.iter().zip(&there) {
        for key in ["loss", "grad_norm", "reverse_kl", "entropy", "reward", "kl_old"] {
            let Some(want) = here.get(key).and_then(serde_json::Value::as_f64) else { continue };
            let off = (there[key].as_f64().unwrap() - want).abs() / want.abs().max(1.0);
            assert!(off <= 1e-4, "{key}: {} there, {want} here", there[key]);
            worst = worst.max(off);
        }
    }
    eprintln!("{kind}: ten steps of training, largest difference {worst:e}");
}
