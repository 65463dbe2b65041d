use opd_testkit::GoldenModel;

use crate::command::{Ran, Workplace};

/// Runs a command on `good`, then `line`; nothing but the input is left.
#[track_caller]
fn second_line(command: &str, line: &str, expected: &str) {
    let work = Workplace::new();
    work.write("in.jsonl", &format!("{{\"tokens\": [1, 2, 3]}}\n{line}\n"));
    let ran = run(&work, command);
    ran.fails(1, &["error: in.jsonl:2: ", expected]);
    assert_eq!(work.names(), ["in.jsonl"], "{line}");
}

fn run(work: &Workplace, command: &str) -> Ran {
    let golden = GoldenModel::load("qwen3_tied");
    let dir = golden.dir.display();
    work.line(&format!("{command} --model {dir} --input in.jsonl --output out.jsonl"))
}

const GENERATE: &str = "generate --max-new-tokens 4";

fn context() -> usize {
    let golden = GoldenModel::load("qwen3_tied");
    opd_models::ModelConfig::load(&golden.dir).unwrap().context
}

#[test]
fn prompt_len_out_of_range() {
    let expected = "`prompt_len` must be from 1 to the number of tokens, 3; got";
    second_line("score", r#"{"tokens": [1, 2, 3], "prompt_len": 0}"#, &format!("{expected} 0"));
    second_line("score", r#"{"tokens": [1, 2, 3], "prompt_len": 4}"#, &format!("{expected} 4"));
    second_line("score", r#"{"tokens": [1, 2], "prompt_len": -1}"#, "not a record");
}

#[test]
fn no_tokens() {
    for command in ["score", GENERATE] {
        second_line(command, r#"{"tokens": []}"#, "`tokens` is empty");
        second_line(command, "{}", "neither `tokens` (token ids) nor `prompt` (text)");
        second_line(command, r#"{"tokens": [1], "prompt": "1"}"#, "both `tokens` and `prompt`");
        second_line(command, r#"{"prompt": ""}"#, "`prompt` is empty");
    }
}

#[test]
fn an_id_outside_the_vocabulary() {
    for command in ["score", GENERATE] {
        let line = r#"{"tokens": [1, 320]}"#;
        let expected = "token id 320 (token 1 from 0) is outside the vocabulary of 320";
        second_line(command, line, expected);
        second_line(command, r#"{"tokens": [-1]}"#, "not a record");
        second_line(command, r#"{"tokens": [4294967296]}"#, "not a record");
    }
}

#[test]
fn longer_than_the_context() {
    let context = context();
    let line = |n| format!("{{\"tokens\": {:?}}}", vec![1; n]);
    let too_long = format!("{} tokens; the model's context holds {context}", context + 1);
    second_line("score", &line(context + 1), &too_long);
    second_line(GENERATE, &line(context + 1), &too_long);
    second_line(GENERATE, &line(context), "leaves no room for more");
    let work = Workplace::new();
    work.write("in.jsonl", &line(context));
    run(&work, "score").succeeds();
}

#[test]
fn lines_that_are_no_records() {
    for command in ["score", GENERATE] {
        second_line(command, r#"{"tokens": [1, 2"#, "not a record: EOF while parsing");
        second_line(command, "tokens", "not a record: expected");
        second_line(command, r#"{"tokens": "1 2"}"#, "not a record: invalid type: string");
        second_line(command, "\u{0}", "not a record");
    }
}

#[test]
fn text_without_a_tokenizer() {
    let work = Workplace::new();
    work.write("in.jsonl", "{\"prompt\": \"12\", \"response\": \"3\"}\n");
    let causes = [
        "error: text needs the model's tokenizer",
        "caused by: ",
        "tokenizer.json: there is no such file",
    ];
    for command in ["score", GENERATE] {
        run(&work, command).fails(1, &causes);
        assert_eq!(work.names(), ["in.jsonl"]);
    }
    work.write("in.jsonl", "{\"prompt\": \"12\"}\n");
    run(&work, "score").fails(1, &["in.jsonl:1: text to score needs a `response`"]);
}

#[test]
fn an_output_that_was_there_stays_as_it_was() {
    let work = Workplace::new();
    work.write("out.jsonl", "precious");
    work.write("in.jsonl", "{\"tokens\": []}\n");
    run(&work, "score").fails(1, &["in.jsonl:1"]);
    assert_eq!(std::fs::read_to_string(work.path("out.jsonl")).unwrap(), "precious");
    assert_eq!(work.names(), ["in.jsonl", "out.jsonl"]);
}

#[test]
fn files_that_are_not_there() {
    let work = Workplace::new();
    run(&work, "score").fails(1, &["error: in.jsonl: cannot read\n  caused by: No such file"]);
    work.write("in.jsonl", "");
    let golden = GoldenModel::load("qwen3_tied");
    let dir = golden.dir.display();
    work.line(&format!("score --model {dir} --input in.jsonl --output no/out.jsonl"))
        .fails(1, &["error: no/out.jsonl: cannot write there\n  caused by: No such file"]);
    work.line("score --model nowhere --input in.jsonl --output out.jsonl")
        .fails(1, &["error: nowhere"]);
    assert_eq!(work.names(), ["in.jsonl"]);
}

#[test]
fn weights_cut_short() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_tied");
    let copy = work.path("model");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(golden.dir.join("config.json"), copy.join("config.json")).unwrap();
    let weights = std::fs::read(golden.dir.join("model.safetensors")).unwrap();
    std::fs::write(copy.join("model.safetensors"), &weights[..weights.len() - 9]).unwrap();
    work.write("in.jsonl", "{\"tokens\": [1, 2]}\n");
    work.line("score --model model --input in.jsonl --output out.jsonl")
        .fails(1, &["error: model/model.safetensors"]);
    assert_eq!(work.names(), ["in.jsonl", "model"]);
}
