use crate::command::Workplace;

#[test]
fn the_default_job_has_no_findings() {
    let ran = Workplace::new().line("lint");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let expected = "the expected gradient is of
  1 x KL(student || teacher) of the next token, each token answering for itself
no findings
";
    assert_eq!(ran.stdout, expected);
}

#[test]
fn refusals_and_warnings_are_all_said() {
    let work = Workplace::new();
    let flags = "--loss top_k_reverse_kl --top-k-tail truncated --advantage-estimator grpo \
                 --normalize-advantages";
    let ran = work.line(&format!("lint {flags}"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    for part in [
        "refused: [top-k-truncated] a truncated top-k reverse KL is smallest with no mass on",
        "refused: [reward-not-read] the loss TopKReverseKl reads no advantages",
        "warning: [signal-not-read]",
    ] {
        assert!(ran.stdout.contains(part), "{part} is not in {}", ran.stdout);
    }
    work.line(&format!("train {flags}")).fails(2, &["error: a truncated top-k reverse KL"]);
    assert!(!work.path("runs").exists(), "a refused run leaves no directory");
}

/// What a server can do is asked on connecting; what comes of it is said before.
#[test]
fn a_temperature_that_a_server_may_not_know_is_said() {
    let work = Workplace::new();
    let flags = "--hf-checkpoint bundled:student --prompt-data bundled:train.jsonl --steps 1 \
                 --use-opd --opd-type sglang --rm-url http://127.0.0.1:1";
    let lint = |flags: &str| {
        let ran = work.line(&format!("lint {flags}"));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stdout
    };
    let said = lint(&format!("{flags} --rollout-temperature 0.7"));
    for part in [
        "warning: [teacher-temperature-unknown] the student is sampled at temperature 0.7, and",
        "SGLang scores at 1 only, and the run then ends before training",
        "with SGLang itself set --rollout-temperature 1",
        "--opd-accept-temperature-bias",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(lint(flags).contains("no findings"));
    let biased = format!("{flags} --rollout-temperature 0.7 --opd-accept-temperature-bias");
    let said = lint(&biased);
    assert!(said.contains("warning: [teacher-temperature] "), "{said}");
    assert!(!said.contains("teacher-temperature-unknown"), "{said}");
}

#[test]
fn a_run_starts_with_its_warnings() {
    let work = Workplace::new();
    let flags = "--steps 1 --rollout-batch-size 2 --n-samples-per-prompt 2 --eval-prompts 2 \
                 --validation-prompts 2 --normalize-advantages";
    let ran = work.line(&format!("train {flags}"));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("warning: [whitened-distillation]"), "{}", ran.stderr);
}

#[test]
fn samples_of_an_altered_distribution_are_named() {
    for flags in ["--rollout-top-p 0.9", "--rollout-repetition-penalty 1.2"] {
        let ran = Workplace::new().line(&format!("lint {flags}"));
        assert!(ran.stdout.contains("warning: [truncated-sampling]"), "{flags}: {}", ran.stdout);
    }
}

#[test]
fn ranges_are_checked_too() {
    let work = Workplace::new();
    work.line("lint --skew-alpha 1")
        .fails(2, &["objective.skew_alpha must be at least 0 and under 1"]);
    work.line("lint --resume runs/x").fails(2, &["--config DIR/config.toml"]);
    let overlong = "--truncated-responses overlong --advantage-estimator rloo";
    work.line(&format!("lint {overlong}")).fails(2, &["objective.overlong_buffer must be from 1"]);
    work.line("lint --sampler-correction truncate --old-logprobs recompute --tis-clip 0")
        .fails(2, &["objective.correction.high must be"]);
}

#[test]
fn the_signal_can_be_changed_in_the_file() {
    let work = Workplace::new();
    let job = work.line("train --print-config").stdout;
    let small = job.replace("steps = 400", "steps = 1").replace("warmup = 5", "warmup = 0");
    let changed = small
        .replace("extrapolation = 1.0", "extrapolation = 1.5")
        .replace("prefix_weight = 0.0", "prefix_weight = 0.5");
    assert_ne!(small, changed);
    let loss = |name: &str, text: &str| {
        work.write(&format!("{name}.toml"), text);
        let flags = "--eval-prompts 2 --validation-prompts 2 --eval-interval 0 --quiet";
        let ran = work.line(&format!("train --config {name}.toml --output {name} {flags}"));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let metrics = std::fs::read_to_string(work.path(name).join("metrics.jsonl")).unwrap();
        let line = metrics.lines().last().unwrap().to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()["grad_norm"].clone()
    };
    assert_ne!(loss("plain", &small), loss("changed", &changed));
}

/// The values of a flag that names one of several.
fn values(work: &Workplace, flag: &str) -> Vec<String> {
    let ran = work.line(&format!("lint {flag} no-such"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let list = ran.stderr.split_once("[possible values: ").unwrap().1;
    list.split_once(']').unwrap().0.split(", ").map(str::to_owned).collect()
}

/// Every loss and estimator trains a step of the default job.
#[test]
fn every_objective_runs() {
    let work = Workplace::new();
    let small = "--steps 1 --rollout-batch-size 2 --n-samples-per-prompt 4 --eval-prompts 2 \
                 --validation-prompts 2 --eval-interval 0 --quiet";
    let runs = |flags: &str| {
        let ran = work.line(&format!("train {small} {flags}"));
        assert_eq!(ran.code, Some(0), "{flags}: {}", ran.stderr);
    };
    let losses = values(&work, "--loss");
    assert!(losses.len() >= 18 && losses.iter().any(|loss| loss == "cispo"), "{losses:?}");
    work.write("job.toml", &work.line("train --print-config").succeeds().stdout);
    let pairs = "--config job.toml --opd-teacher-load bundled:pairs_teacher \
                 --opd-teacher-tokenizer bundled:pairs_teacher";
    for loss in losses {
        let more = match loss.as_str() {
            "sft" => "--responses label",
            "uld" | "gold" => pairs,
            "top_k_forward_kl" | "top_k_reverse_kl" => "--loss-top-k 4",
            _ => "",
        };
        runs(&format!("--loss {loss} {more}"));
    }
    let estimators = values(&work, "--advantage-estimator");
    assert!(estimators.len() >= 12 && estimators.iter().any(|e| e == "ppo"), "{estimators:?}");
    for estimator in estimators {
        let more = if estimator == "pass_at_k" { "--pass-k 2" } else { "" };
        runs(&format!("--advantage-estimator {estimator} {more}"));
    }
    for flags in [
        "--loss skew_reverse_kl --skew-alpha 0.2",
        "--loss mixed_kl --mixed-forward 0.3",
        "--loss top_k_reverse_kl --loss-top-k 4 --top-k-support student",
        "--loss top_k_reverse_kl --loss-top-k 4 --top-k-tail truncated --allow-biased",
        "--loss forward_kl --responses label",
        "--loss gspo --advantage-estimator opo",
        "--loss ppo_clip --advantage-estimator ppo",
        "--advantage-estimator max_rl --truncated-responses mask",
        "--advantage-estimator reinforce --reward-baseline leave_one_out --gamma 0.9",
        "--advantage-estimator rloo --truncated-responses overlong --overlong-buffer-len 4",
        "--kl-loss-coef 0.1 --kl-loss-type k1 --use-unbiased-kl",
    ] {
        runs(flags);
    }
    for flags in [
        "--sampler-correction truncate",
        "--sampler-correction reject --sampler-correction-grain sequence",
        "--sampler-correction mask --sampler-correction-grain geometric --tis-clip-low 0.5",
        "--opsm-delta 1e-4 --updates-per-batch 2",
    ] {
        runs(&format!("--loss importance_sampling --old-logprobs recompute {flags}"));
    }
}
