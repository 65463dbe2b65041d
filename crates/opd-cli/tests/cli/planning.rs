//! `opd plan`.

use std::fs;

use crate::command::Workplace;

/// MiB of a line of the table.
#[track_caller]
fn size(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let [.., number, unit] = words.as_slice() else { panic!("{line}") };
    number.parse::<f64>().unwrap() * if *unit == "GiB" { 1024.0 } else { 1.0 }
}

#[test]
fn parts_add_up_and_budgets_fit() {
    let work = Workplace::new();
    let text = work.line("plan").succeeds().stdout;
    let parts = ["held from", "generation adds", "scoring adds", "forward and backward add"];
    let [held, rollout, score, update] = parts.map(|name| size(&text, name));
    let peak = size(&text, "peak");
    assert!((held + rollout.max(score).max(update) - peak).abs() < 0.3, "{text}");
    assert!(text.contains("prompts of 9 tokens, responses of 10"), "{text}");
    assert!(work.names().is_empty(), "nothing is written");

    let roomy = work.line("plan --memory 16GiB").succeeds().stdout;
    assert!(roomy.contains("any --token-budget fits into 16.00 GiB"), "{roomy}");
    let limit = peak - 5.0;
    let tight = work.line(&format!("plan --memory {limit}MiB")).succeeds().stdout;
    let found = tight.split("--token-budget ").nth(1).unwrap_or_else(|| panic!("{tight}"));
    let budget: usize = found.split(',').next().unwrap().parse().unwrap();
    assert!(budget < 700, "{tight}");
    let peak_at = |budget: usize| {
        size(&work.line(&format!("plan --token-budget {budget}")).succeeds().stdout, "peak")
    };
    assert!(peak_at(budget) <= limit + 0.1 && peak_at(budget + 10) > limit - 0.1, "{tight}");
    let none = work.line("plan --memory 1MiB").succeeds().stdout;
    assert!(none.contains("no --token-budget fits into 1.0 MiB"), "{none}");
    work.line("plan --memory much").fails(2, &["--memory", "it must be a size, e.g. 16GiB"]);
    work.line("plan --resume runs/x").fails(2, &["--config DIR/config.toml"]);
}

#[test]
fn a_config_is_enough() {
    let work = Workplace::new();
    let inputs = opd_pocket::materialize(&work.path("inputs")).unwrap();
    fs::create_dir(work.path("bare")).unwrap();
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(inputs.student.join(name), work.path("bare").join(name)).unwrap();
    }
    let flags = "plan --hf-checkpoint bare --prompt-data inputs/train.jsonl --use-opd \
                 --opd-type start --opd-teacher-prompt-template Hint:{prompt} --steps 1 \
                 --rollout-max-response-len 10";
    let full = work.line(flags).succeeds().stdout;
    let lora = work.line(&format!("{flags} --lora-rank 8 --lr 1e-4")).succeeds().stdout;
    assert!(size(&full, "teacher's weights") > 0.0, "a second copy of the weights");
    assert!(!lora.contains("teacher's weights"), "which adapters share: {lora}");
    assert!(size(&lora, "optimizer") < 0.5 * size(&full, "optimizer"));
    assert!(size(&lora, "adapters") > 0.0);
    let longer = work.line(&format!("{flags} --prompt-tokens 90")).succeeds().stdout;
    assert!(size(&longer, "KV cache") > size(&full, "KV cache"), "{longer}");
}
