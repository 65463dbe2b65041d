use clap::CommandFactory;

use super::*;
use crate::Cli;

fn translated(line: &str) -> anyhow::Result<Translated> {
    let words = format!("opd train {line}");
    translate(words.split_whitespace().map(OsString::from).collect(), &Cli::command())
}

/// The words behind `opd train`.
fn words(line: &str) -> String {
    let translated = translated(line).unwrap();
    let words: Vec<_> =
        translated.words[2..].iter().map(|word| word.to_str().unwrap().to_owned()).collect();
    words.join(" ")
}

fn refusal(line: &str) -> String {
    translated(line).unwrap_err().to_string()
}

/// What slime's own parser knows, from its source.
fn slimes() -> impl Iterator<Item = &'static str> {
    include_str!("../../tests/data/slime/flags.txt").lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn every_flag_of_slimes_is_known() {
    let own = own_flags(&Cli::command(), "train");
    let known: BTreeSet<&str> = names::known().collect();
    assert!(slimes().count() > 200);
    for flag in slimes() {
        let given = Line::read(&[&format!("--{flag}")]).rest().remove(0);
        let understood = own.contains(flag) || known.contains(flag) || answer(&given).is_some();
        assert!(understood, "--{flag}");
    }
}

#[test]
fn no_flag_of_ours_is_answered_in_its_place() {
    for flag in own_flags(&Cli::command(), "train") {
        assert!(!names::known().any(|name| name == flag), "--{flag} is in a table, too");
    }
}

#[test]
fn our_own_lines_stay_as_they_are() {
    for line in [
        "",
        "--steps 3 --lr=1e-3 --clip-grad 0 --normalize-advantages=false --seed 3",
        "--hf-checkpoint a --ref-load b --use-opd --opd-type vllm --rm-url x --rm-url y",
        "--config job.toml --kl-loss-coef 0.5 --opsm-delta 0.1 --tis-clip 3",
        "--resume runs/a-1 --quiet",
        "--help --num-rollout",
        "stray --num-rollout 3",
    ] {
        let translated = translated(line).unwrap();
        assert_eq!(words(line), line);
        assert!(translated.notes.is_empty(), "{translated:?}");
    }
    let serve = ["opd", "serve", "--load", "x"].map(OsString::from).to_vec();
    assert_eq!(translate(serve.clone(), &Cli::command()).unwrap().words, serve);
}

#[test]
fn flags_are_put_into_ours() {
    for (line, expected) in [
        ("--use-tis --tis-clip 3", "--sampler-correction truncate --tis-clip 3"),
        (
            "--use-tis --custom-tis-function-path slime.backends.megatron_utils.loss.icepop_function",
            "--sampler-correction reject",
        ),
        ("--use-opsm", "--opsm-delta 0.0001"),
        ("--use-opsm --opsm-delta 0.5", "--opsm-delta 0.5"),
        ("--calculate-per-token-loss", "--loss-aggregation token-mean"),
        ("--use-rollout-logprobs", "--old-logprobs sampler"),
        ("--advantage-estimator gspo", "--loss gspo --advantage-estimator grpo"),
        ("--disable-grpo-std-normalization", "--advantage-estimator dr_grpo"),
        ("--disable-rewards-normalization", "--advantage-estimator raw_reward"),
        (
            "--lr_decay_style cosine --lr 1e-3 --min-lr 1e-4",
            "--lr-schedule cosine --min-lr-ratio 0.1 --lr 1e-3",
        ),
        ("--lr-warmup-iters 7", "--lr-warmup 7"),
        ("--eval-prompt-data aime aime.jsonl", "--eval-prompt-data aime.jsonl"),
        ("--rollout-seed 3 --seed 4", "--seed 3"),
        ("--use-dynamic-batch-size --max-tokens-per-gpu 512", "--token-budget 512"),
        ("--num-steps-per-rollout 4", "--updates-per-batch 4"),
        (
            "--rollout-batch-size 8 --n-samples-per-prompt 4 --global-batch-size 16",
            "--updates-per-batch 2 --rollout-batch-size 8 --n-samples-per-prompt 4",
        ),
        ("--save out", "--output out"),
        ("--save-debug-rollout-data x_{rollout_id}.pt --dump-details d", "--dump-rollouts"),
        ("--use-wandb --wandb-mode offline --wandb-key K", "--use-wandb"),
        ("--use-kl-loss --kl-loss-coef 0.1", "--kl-loss-coef 0.1"),
        ("--attention-dropout 0.0 --tensor-model-parallel-size 8 --sglang-tp-size 2", ""),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
}

#[test]
fn slimes_lines_have_its_defaults_and_meaning() {
    let start = "--num-rollout 3 --rollout-batch-size 4";
    let with = |line: &str| words(&format!("{start} {line}"));
    let rest = "--advantage-estimator grpo --rollout-batch-size 4";
    let expected = |between: &str| format!("--defaults slime {between}--steps 3 {rest}");
    assert_eq!(with(""), expected(""));
    // Coefficients that slime does not read without their switch.
    for line in [
        "--kl-loss-coef 0.1 --kl-loss-type k1",
        "--opsm-delta 0.1",
        "--tis-clip 9",
        "--wandb-group g",
    ] {
        assert_eq!(with(line), expected(""), "{line}");
    }
    assert_eq!(with("--lr 1 --lr 2"), format!("{} --lr 2", expected("")));
    assert_eq!(with("--save d --load d"), expected("--output d --continue "));
    assert_eq!(with("--save d --load nowhere"), expected("--output d "));
    assert_eq!(
        with("--eval-prompt-data a f.jsonl --eval-interval 5 --rollout-temperature 0.5"),
        "--defaults slime --eval-prompt-data f.jsonl --validation-prompt-data f.jsonl \
         --eval-temperature 0.5 --steps 3 --advantage-estimator grpo --rollout-batch-size 4 \
         --eval-interval 5 --rollout-temperature 0.5"
    );
    let opd = "--use-opd --opd-type sglang --rm-url http://h/generate";
    let functions = "--custom-rm-path slime.rollout.on_policy_distillation.reward_func \
                     --custom-reward-post-process-path \
                     slime.rollout.on_policy_distillation.post_process_rewards";
    assert_eq!(
        with(&format!("{opd} {functions}")),
        format!(
            "--defaults slime --steps 3 --advantage-estimator zero --rollout-batch-size 4 {opd}"
        )
    );
    assert!(with("--rm-type math").contains("--advantage-estimator zero"));
    assert!(words("--config f --num-rollout 3").starts_with("--steps 3"));
}

#[test]
fn epochs_are_counted_in_the_prompt_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    std::fs::write(&path, "{}\n{}\n\n{}\n{}\n{}").unwrap();
    let line = format!("--num-epoch 3 --rollout-batch-size 2 --prompt-data {}", path.display());
    assert!(words(&line).contains("--steps 7 "), "{}", words(&line));
    // On a line of our own, those of all files.
    let own = line.replace("--num-epoch", "--config f --num-epoch");
    let own = words(&format!("{own} --prompt-data {}@[:3]", path.display()));
    assert!(own.contains("--steps 12 ") && own.matches("--prompt-data").count() == 2, "{own}");
    let refused = refusal("--num-epoch 3 --rollout-batch-size 2 --prompt-data nowhere");
    assert!(refused.contains("cannot be read") && refused.contains("--num-rollout"), "{refused}");
}

#[test]
fn what_is_not_there_is_refused_with_a_remedy() {
    for (line, expected) in [
        ("--fp8-format e4m3", "--fp8-format e4m3: training is in f32"),
        ("--hidden-dropout 0.1", "--hidden-dropout 0.1: there is no dropout"),
        ("--optimizer sgd", "AdamW is the only one"),
        ("--lr-decay-style WSD", "constant, linear or cosine"),
        ("--custom-rm-path mine.reward", "opd_reward::Reward"),
        ("--custom-generate-function-path f", "opd-core"),
        ("--rm-type gpqa", "math, dapo, deepscaler"),
        ("--rm-type remote_rm", "--rm-url URL"),
        ("--rm-type remote_rm --use-opd --opd-type sglang --rm-url x", "--reward-url URL"),
        ("--loss-type sft_loss", "--loss sft --responses label"),
        ("--loss-type custom_loss", "docs/extending.md"),
        ("--eval-prompt-data a b c", "pairs of name and file"),
        ("--learning-rat 3", "unknown flag, of opd and of slime; the nearest known one is --"),
        ("--num-rollot 3", "the nearest known one is --num-rollout"),
        ("--savee-interval 3", "the nearest known one is --save-interval"),
    ] {
        let refused = refusal(line);
        assert!(refused.contains(expected), "{line}: {refused}");
    }
}

/// `slime_validate_args` of slime/utils/arguments.py, commit 624b824a8.
#[test]
fn slimes_own_check_is_made() {
    let start = "--num-rollout 3 --rollout-batch-size 4 --n-samples-per-prompt 2";
    for (line, expected) in [
        ("--opd-teacher-load t", "--opd-teacher-load without --use-opd"),
        ("--eval-interval 3", "--eval-interval without --eval-prompt-data"),
        ("--save-interval 3", "--save-interval without --save"),
        ("--kl-coef 0.1 --kl-loss-coef 0.1 --use-kl-loss", "keep one"),
        ("--advantage-estimator reinforce_plus_plus", "needs --normalize-advantages"),
        ("--advantage-estimator reinforce_plus_plus_baseline", "needs --normalize-advantages"),
        ("--use-rollout-logprobs --use-tis", "keep one"),
        ("--use-dynamic-batch-size", "without --max-tokens-per-gpu"),
        ("--balance-by-flops", "without --use-dynamic-batch-size"),
        ("--eval-prompt-data a b c", "pairs of name and file"),
        (
            "--global-batch-size 4 --num-steps-per-rollout 3",
            "into 2 updates, and --num-steps-per-rollout is 3",
        ),
        ("--global-batch-size 3", "does not divide into equal updates"),
        ("--over-sampling-batch-size 2", "drop it"),
        ("--get-mismatch-metrics", "functions in Python"),
        ("--ref-load nowhere", "--ref-load nowhere: it does not exist"),
    ] {
        let refused = refusal(&format!("{start} {line}"));
        assert!(refused.contains(expected), "{line}: {refused}");
    }
    assert!(refusal("--num-rollout 3").contains("--rollout-batch-size is required"));
}

#[test]
fn directories_of_megatrons_are_told_from_ours() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    for name in ["megatron", "hf", "other"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::write(dir.path().join("megatron/latest_checkpointed_iteration.txt"), "3").unwrap();
    for name in ["hf", "other"] {
        std::fs::write(dir.path().join(name).join("config.json"), "{}").unwrap();
    }
    let (megatron, hf, other) = (path("megatron"), path("hf"), path("other"));
    let start = "--num-rollout 3 --rollout-batch-size 4";
    for flags in [format!("--ref-load {megatron}"), format!("--load {megatron}")] {
        let refused = refusal(&format!("{start} --hf-checkpoint {hf} {flags}"));
        assert!(refused.contains("a Megatron checkpoint"), "{refused}");
    }
    let with = |flags: String| words(&format!("{start} {flags}"));
    assert!(!with(format!("--hf-checkpoint {hf} --ref-load {hf}/")).contains("--ref-load"));
    // Weights come from --load, then from --ref-load, and the reference is that of --ref-load.
    let loaded = with(format!("--hf-checkpoint nowhere --load {other} --ref-load {hf}"));
    assert!(loaded.contains(&format!("--hf-checkpoint {other} --ref-load {hf}")), "{loaded}");
    let referred = with(format!("--hf-checkpoint {hf} --ref-load {other}"));
    assert!(referred.contains(&format!("--hf-checkpoint {other}")), "{referred}");
    assert!(!referred.contains("--ref-load"), "{referred}");
}
