use crate::command::Workplace;

#[test]
fn every_command_explains_itself() {
    let work = Workplace::new();
    let help = work.line("--help").succeeds().stdout;
    for command in ["train", "eval", "generate", "score"] {
        assert!(help.contains(command), "{help}");
        let own = work.opd([command, "--help"]).succeeds().stdout;
        assert!(own.contains("Usage: opd"), "{own}");
    }
    assert!(help.contains("130"), "{help}");
    work.line("--version").succeeds();
}

#[test]
fn help_of_a_setting_names_its_key_and_defaults() {
    let help = Workplace::new().line("train --help").succeeds().stdout;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "Peak learning rate of AdamW [optimizer.lr, default 1e-6, default job ",
        "Prompts per step [rollout.prompts, default 32",
        "learns from it [steps, default job ",
        "Longest answer, in tokens [rollout.max_response_tokens, default 256, default job 10]",
    ] {
        assert!(help.contains(expected), "{expected} is not in {help}");
    }
}

#[test]
fn no_command_and_unknown_flags_are_bad_usage() {
    let work = Workplace::new();
    work.line("").fails(2, &["Usage: opd"]);
    work.line("train --leraning-rate 1").fails(2, &["--leraning-rate"]);
    work.line("train --steps 0").fails(2, &["--steps"]);
    work.line("train --loss ppo").fails(2, &["--loss", "ppo_clip"]);
    work.line("train --lr fast").fails(2, &["--lr", "it must be a number"]);
    work.line("train --lr -1").fails(2, &["--lr"]);
}

#[test]
fn devices_are_refused_by_name() {
    let work = Workplace::new();
    let model = work.model_stub("model");
    let data = work.write("in.jsonl", "");
    for (device, expected) in [
        ("cuda:0", "error: --device cuda:0: this `opd` was built without CUDA; use --device cpu"),
        ("gpu", "error: --device gpu: expected `auto`, `cpu` or `cuda:N`"),
        ("cuda:x", "error: --device cuda:x: expected `auto`, `cpu` or `cuda:N`"),
    ] {
        if cfg!(feature = "cuda") && device == "cuda:0" {
            continue;
        }
        let input = data.to_str().unwrap();
        let args = ["score", "--model", &model, "--input", input, "--output", "out.jsonl"];
        work.opd(args.into_iter().chain(["--device", device])).fails(2, &[expected]);
    }
    let args = ["score", "--model", &model, "--input", "in.jsonl", "--output", "o"];
    work.opd(args.into_iter().chain(["--threads", "0"])).fails(2, &["--threads"]);
}

#[test]
fn greedy_and_temperature_exclude_each_other() {
    let work = Workplace::new();
    let line = "generate --model m --input i --output o --max-new-tokens 3";
    work.line(&format!("{line} --greedy --temperature 1"))
        .fails(2, &["--greedy", "cannot be used with", "--temperature"]);
    work.line(&format!("{line} --temperature 0")).fails(2, &["--temperature", "above 0"]);
    work.line("generate --model m --input i --output o").fails(2, &["--max-new-tokens"]);
    work.line("score --model m --input i --output o --temperature -2").fails(2, &["--temperature"]);
    work.line("eval --model m --data d --greedy --temperature 1").fails(2, &["--greedy"]);
}
