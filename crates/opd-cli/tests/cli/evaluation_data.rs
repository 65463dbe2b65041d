//! What `opd eval` is asked: Parquet as JSONL, slices, conversations, several files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use opd_testkit::{GoldenModel, ModelDir, write_byte_level};
use serde_json::{Value, json};

use crate::command::{Workplace, records};

/// An answer is right if it has a lower-case letter.
const JUDGE: &str = "--rm-type regex --rm-pattern [a-z] --max-new-tokens 6 --seed 3";

/// A model that reads and writes bytes, with a chat template.
fn model() -> ModelDir {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    write_byte_level(dir.path(), &[]);
    let template = "{{ mood }}{% for m in messages %}[{{ m.role }}]{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    dir
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../opd-data/tests/data").join(name)
}

fn eval(work: &Workplace, model: &ModelDir, flags: &str) -> Value {
    let line = format!("eval --model {} --json --quiet {JUDGE} {flags}", model.path().display());
    serde_json::from_str(&work.line(&line).succeeds().stdout).unwrap()
}

/// The share of prompts after which `opd generate` writes what is right.
fn share_of_generated(work: &Workplace, model: &ModelDir, prompts: &[String]) -> f64 {
    let lines = prompts.iter().map(|prompt| json!({ "prompt": prompt }).to_string() + "\n");
    work.write("in.jsonl", &lines.collect::<String>());
    work.line(&format!(
        "generate --model {} --input in.jsonl --output out.jsonl --max-new-tokens 6 --seed 3 --quiet",
        model.path().display()
    ))
    .succeeds();
    let answers = records(&work.path("out.jsonl"));
    let letter = |answer: &&Value| {
        answer["text"].as_str().unwrap().contains(|c: char| c.is_ascii_lowercase())
    };
    answers.iter().filter(letter).count() as f64 / prompts.len() as f64
}

#[test]
fn parquet_is_asked_as_jsonl_is() {
    let (work, model) = (Workplace::new(), model());
    let of = |name: &str| {
        let data = sample(name);
        let keys = "--input-key question --label-key answer";
        eval(&work, &model, &format!("--data {} {keys}", data.display()))
    };
    let lines = of("gsm8k.jsonl");
    assert_eq!(of("gsm8k.parquet"), lines);
    let rows = records(&sample("gsm8k.jsonl"));
    let prompts: Vec<String> =
        rows.iter().map(|row| row["question"].as_str().unwrap().to_owned()).collect();
    let share = share_of_generated(&work, &model, &prompts);
    assert!(share > 0.1 && share < 0.9, "{share} tells little");
    assert_eq!((lines["n"].as_u64(), lines["pass_at_1"].as_f64()), (Some(50), Some(share)));
}

#[test]
fn conversations_are_written_by_the_models_template() {
    let (work, model) = (Workplace::new(), model());
    let keys = "--label-key reward_model.ground_truth";
    let of = |data: &str, flags: &str| {
        eval(&work, &model, &format!("--data {}{data} {keys} {flags}", sample("").display()))
    };
    let template = "--apply-chat-template --apply-chat-template-kwargs={\"mood\":\":)\"}";
    let lines = of("dapo.jsonl", template);
    assert_eq!(of("dapo-zstd-v2.parquet", template), lines);
    let prompts: Vec<String> = records(&sample("dapo.jsonl"))
        .iter()
        .map(|row| {
            format!(":)[user]{}<eos>[assistant]", row["prompt"][0]["content"].as_str().unwrap())
        })
        .collect();
    let share = share_of_generated(&work, &model, &prompts);
    assert_eq!((lines["n"].as_u64(), lines["pass_at_1"].as_f64()), (Some(50), Some(share)));

    // A row's draws are its own, whatever is read before it.
    for slice in ["@[7:30]", "@[-9:]"] {
        let part = of(&format!("dapo.jsonl{slice}"), template);
        assert_eq!(of(&format!("dapo-snappy-v1.parquet{slice}"), template), part);
    }
    let first = of("dapo.jsonl", &format!("{template} --max-prompts 12"));
    assert_eq!(of("dapo-none-v1.parquet@[:12]", template), first);

    let dapo = sample("dapo-none-v1.parquet");
    let line = format!("eval --model {} --data {}", model.path().display(), dapo.display());
    work.line(&format!("{line} {keys}")).fails(
        1,
        &["dapo-none-v1.parquet:1: the prompt is a list of messages", "--apply-chat-template"],
    );
    work.line(&format!("{line} --apply-chat-template"))
        .fails(1, &["dapo-none-v1.parquet:1: field `label` is missing", "--label-key"]);
    work.line(&format!("{line} --input-key question"))
        .fails(1, &["column `question` is missing", "--input-key"]);
    work.line(&format!("{line} --apply-chat-template-kwargs {{}}"))
        .fails(2, &["--apply-chat-template"]);
}

#[test]
fn several_files_are_one_set_with_a_result_each() {
    let (work, model) = (Workplace::new(), model());
    let rows = fs::read_to_string(sample("gsm8k.jsonl")).unwrap();
    let lines: Vec<&str> = rows.split_inclusive('\n').collect();
    work.write("whole.jsonl", &lines[..20].concat());
    work.write("a.jsonl", &lines[..7].concat());
    work.write("b.jsonl", &lines[7..20].concat());
    let keys = "--input-key question --label-key answer --n-samples 2 --pass-k 2";
    let whole = eval(&work, &model, &format!("--data whole.jsonl {keys}"));
    let mut both = eval(&work, &model, &format!("--data a.jsonl --data b.jsonl {keys}"));
    let files = both.as_object_mut().unwrap().remove("files").unwrap();
    assert_eq!(both, whole);
    let names: Vec<_> = [0, 1].map(|i| (&files[i]["data"], &files[i]["n"])).into();
    assert_eq!(names, [(&json!("a.jsonl"), &json!(7)), (&json!("b.jsonl"), &json!(13))]);
    let mut alone = eval(&work, &model, &format!("--data a.jsonl {keys}"));
    alone.as_object_mut().unwrap().insert("data".into(), json!("a.jsonl"));
    assert_eq!(files[0], alone);
    let rate = |score: &Value| score["pass_at_1"].as_f64().unwrap();
    let mean = (7.0 * rate(&files[0]) + 13.0 * rate(&files[1])) / 20.0;
    assert!((rate(&both) - mean).abs() < 1e-12, "{both} of {files}");

    work.write("b.jsonl", "{\"question\": \"?\", \"answer\": \"!\"}\n\n{\"question\": \"?\"}\n");
    work.line(&format!(
        "eval --model {} --data a.jsonl --data b.jsonl {keys}",
        model.path().display()
    ))
    .fails(1, &["error: b.jsonl:3: field `answer` is missing"]);
}

#[test]
fn files_of_ids_are_sliced_and_added_up() {
    let work = Workplace::new();
    let golden = GoldenModel::load("llama_tied");
    let row = |right: bool| {
        let label = if right { &golden.greedy_from_sequence_0[..6] } else { &[1] };
        json!({ "tokens": golden.sequences[0], "label_tokens": label }).to_string() + "\n"
    };
    work.write("a.jsonl", &[true, true, false, true].map(row).concat());
    work.write("b.jsonl", &[false, true, false, false, true].map(row).concat());
    let line = format!("eval --model {} --greedy --max-new-tokens 6", golden.dir.display());
    let ran = work.line(&format!("{line} --data a.jsonl --data b.jsonl@[:2]")).succeeds();
    // Wilson's intervals of 4 of 6, 3 of 4 and 1 of 2, by its formula in Python.
    let expected = "data          a.jsonl, b.jsonl@[:2]
prompts       6
answers each  1
sampling      greedy
pass@1        66.67%
95% interval  30.00% to 90.32%
              75.00% (30.06% to 95.44%) of 4 in a.jsonl
              50.00% (9.45% to 90.55%) of 2 in b.jsonl@[:2]
";
    assert!(ran.stdout.ends_with(expected), "{}", ran.stdout);
    let ran = work.line(&format!("{line} --data a.jsonl --data b.jsonl --max-prompts 5 --json"));
    let result: Value = serde_json::from_str(&ran.succeeds().stdout).unwrap();
    assert_eq!([&result["n"], &result["files"][1]["n"]], [&json!(5), &json!(1)]);
    assert_eq!(result["pass_at_1"], 0.6);
    work.line(&format!("{line} --data b.jsonl@[9:]")).fails(1, &["b.jsonl@[9:]: no prompts"]);
}
