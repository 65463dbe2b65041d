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

/// Every loss and estimator trains a step of the default job.
#[test]
fn every_objective_runs() {
    let work = Workplace::new();
    let small = "--steps 1 --rollout-batch-size 2 --n-samples-per-prompt 4 --eval-prompts 2 \
                 --validation-prompts 2 --eval-interval 0 --quiet";
    let both = "--loss importance_sampling --old-logprobs recompute";
    for flags in [
        "--loss skew_forward_kl",
        "--loss skew_reverse_kl --skew-alpha 0.2",
        "--loss mixed_kl --mixed-forward 0.3",
        "--loss tvd",
        "--loss top_k_forward_kl --loss-top-k 4",
        "--loss top_k_reverse_kl --loss-top-k 4 --top-k-support student",
        "--loss top_k_reverse_kl --loss-top-k 4 --top-k-tail truncated --allow-biased",
        "--loss sft --responses label",
        "--loss forward_kl --responses label",
        "--loss gspo --advantage-estimator opo",
        "--advantage-estimator max_rl --truncated-responses mask",
        "--advantage-estimator pass_at_k --pass-k 2",
        "--advantage-estimator reinforce --reward-baseline leave_one_out --gamma 0.9",
        "--advantage-estimator rloo --truncated-responses overlong --overlong-buffer-len 4",
        "--kl-loss-coef 0.1 --kl-loss-type k1 --use-unbiased-kl",
    ] {
        let ran = work.line(&format!("train {small} {flags}"));
        assert_eq!(ran.code, Some(0), "{flags}: {}", ran.stderr);
    }
    for flags in [
        "--sampler-correction truncate",
        "--sampler-correction reject --sampler-correction-grain sequence",
        "--sampler-correction mask --sampler-correction-grain geometric --tis-clip-low 0.5",
        "--opsm-delta 1e-4 --updates-per-batch 2",
    ] {
        let ran = work.line(&format!("train {small} {both} {flags}"));
        assert_eq!(ran.code, Some(0), "{flags}: {}", ran.stderr);
    }
}
