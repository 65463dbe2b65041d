//! A run that is killed at random moments and resumed ends as if nothing had happened.
//!
//! `OPD_KILLS` (3) kills over `OPD_STEPS` (24) steps of the bundled job;
//! `.ci/kill-and-resume` runs the long form.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn config(inputs: &Path, steps: u64) -> String {
    let path = |name: &str| inputs.join(name).display().to_string();
    format!(
        r#"
name = "killed"
steps = {steps}
[student]
path = "{}"
[data]
train = "{}"
test = "{}"
validation = "{}"
[rollout]
prompts = 8
samples_per_prompt = 4
max_response_tokens = 10
dump_interval = 5
[distillation]
type = "in-process"
teacher = "{}"
[objective]
estimator = "ppo"
kl_coef = 0.01
critic = {{ kind = "model", lr = 1e-3 }}
[optimizer]
lr = 5e-4
updates_per_batch = 2
warmup = 2
schedule = "cosine"
[evaluation]
interval = 4
test_prompts = 100
validation_prompts = 50
[checkpoints]
interval = 2
"#,
        path("student"),
        path("train.jsonl"),
        path("test.jsonl"),
        path("validation.jsonl"),
        path("teacher"),
    )
}

fn start(flags: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_opd"))
        .arg("train")
        .args(flags)
        .arg("--quiet")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn finish(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The lines of `metrics.jsonl` without what depends on the clock.
fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
        line.retain(|key, _| !key.starts_with("seconds/"));
        line
    });
    lines.collect()
}

/// What of the summary is not a duration.
fn summary(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("summary.json")).unwrap();
    let mut summary: Value = serde_json::from_str(&text).unwrap();
    summary.as_object_mut().unwrap().remove("seconds");
    summary
}

/// The files of `rollouts/` by name.
fn rollouts(run: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(run.join("rollouts")).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn a_killed_and_resumed_run_ends_with_the_same_bytes() {
    let (kills, steps) = (setting("OPD_KILLS", 3), setting("OPD_STEPS", 24));
    let work = tempfile::tempdir().unwrap();
    let inputs = work.path().join("inputs");
    opd_pocket::materialize(&inputs).unwrap();
    let file = work.path().join("job.toml");
    fs::write(&file, config(&inputs, steps)).unwrap();
    let file = file.to_str().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| work.path().join(name));

    let began = Instant::now();
    finish(start(&["--config", file, "--output", whole.to_str().unwrap()]));
    let length = began.elapsed();

    let run = killed.to_str().unwrap();
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() | 1;
    let mut done = 0;
    while done < kills {
        let mut child = match killed.join("config.toml").exists() {
            true => start(&["--resume", run]),
            false => start(&["--config", file, "--output", run, "--overwrite"]),
        };
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        // Short enough that the run is not over before the last kill.
        let share = f64::from(random) / f64::from(u32::MAX);
        let delay = length.mul_f64(0.1 + 1.5 * share / kills as f64).min(length);
        sleep(delay.max(Duration::from_millis(20)));
        if child.try_wait().unwrap().is_some() {
            assert!(killed.join("summary.json").exists(), "the run failed after {done} kills");
            fs::remove_dir_all(&killed).unwrap();
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        done += 1;
        println!("kill {done} of {kills} after {delay:?}");
    }
    finish(start(&["--resume", run]));

    assert_eq!(metrics(&killed), metrics(&whole));
    assert_eq!(summary(&killed), summary(&whole));
    for file in
        ["model/model.safetensors", "critic/model.safetensors", "critic/value_head.safetensors"]
    {
        let bytes = |run: &Path| fs::read(run.join(file)).unwrap();
        assert!(bytes(&killed) == bytes(&whole), "{file} differs");
    }
    assert!(rollouts(&killed) == rollouts(&whole), "the rollouts differ");
}
