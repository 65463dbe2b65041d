use std::{collections::BTreeSet, fs};

use opd_batch::Source;
use opd_models::Message;
use opd_rollout::{Example, Fields, PromptSet};

fn read(text: impl AsRef<[u8]>, fields: &Fields) -> Result<PromptSet, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prompts.jsonl");
    fs::write(&path, text).unwrap();
    let prefix = dir.path().display().to_string();
    PromptSet::from_jsonl(&path, fields).map_err(|error| error.to_string().replace(&prefix, "DIR"))
}

fn message(text: impl AsRef<[u8]>) -> String {
    read(text, &Fields::default()).unwrap_err()
}

#[test]
fn fields_are_read_by_name() {
    let text = "\u{20}\n{\"prompt\": \"2+2\", \"label\": 4, \"source\": \"sums\", \"more\": [1]}\r\n\n{\"prompt\": \"é\"}";
    let set = read(text, &Fields::default()).unwrap();
    let first = Example {
        prompt: "2+2".into(),
        label: Some("4".into()),
        source: Source::new("sums"),
        ..Example::default()
    };
    let second = Example { prompt: "é".into(), ..Example::default() };
    assert_eq!(set.examples(), [first, second]);
    let fields = Fields { input: "q".into(), label: "a".into(), ..Fields::default() };
    let set = read("{\"q\": \"x\", \"a\": \"y\", \"label\": null}", &fields).unwrap();
    assert_eq!(set.examples()[0].label.as_deref(), Some("y"));
}

#[test]
fn a_bad_line_is_named() {
    let good = "{\"prompt\": \"a\"}\n";
    let at = |bad: &str| message(format!("{good}\n{bad}\n{good}"));
    assert_eq!(
        at("{\"prompt\": \"b\""),
        "DIR/prompts.jsonl:3: not a JSON object: EOF while parsing an object at line 1 column 14"
    );
    assert_eq!(
        at("[1]"),
        "DIR/prompts.jsonl:3: not a JSON object: invalid type: sequence, expected a map at line 1 column 0"
    );
    assert_eq!(
        at("{\"text\": \"b\", \"answer\": \"c\"}"),
        "DIR/prompts.jsonl:3: field `prompt` is missing (there are: answer, text); name it with --input-key"
    );
    assert_eq!(at("{\"prompt\": \"\"}"), "DIR/prompts.jsonl:3: field `prompt` is empty");
    assert_eq!(
        at("{\"prompt\": [\"a\"]}"),
        "DIR/prompts.jsonl:3: field `prompt`: each message must have a `role` and a text as `content`: invalid type: string \"a\", expected struct Message"
    );
    assert_eq!(at("{\"prompt\": []}"), "DIR/prompts.jsonl:3: field `prompt` is empty");
    assert_eq!(at("{\"prompt\": {}}"), "DIR/prompts.jsonl:3: field `prompt` must be text, got {}");
    let tools = r#"{"prompt": [{"role": "user", "content": "a"}], "tools": [{}]}"#;
    assert_eq!(at(tools), "DIR/prompts.jsonl:3: field `tools`: prompts with tools are not there");
    assert_eq!(
        at("{\"prompt\": \"a\", \"label\": true}"),
        "DIR/prompts.jsonl:3: field `label` must be text, got true"
    );
    assert_eq!(
        message(b"{\"prompt\": \"a\"}\n{\"prompt\": \"\xff\"}\n"),
        "DIR/prompts.jsonl:2: not UTF-8: invalid utf-8 sequence of 1 bytes from index 12"
    );
    let none = "DIR/prompts.jsonl: no prompts; expected one JSON object a line";
    assert_eq!([message(""), message("\n \n")], [none, none]);
    let missing = PromptSet::from_jsonl("/nowhere/prompts.jsonl", &Fields::default());
    assert_eq!(missing.unwrap_err().to_string(), "/nowhere/prompts.jsonl: cannot read");
}

#[test]
fn a_prompt_may_be_a_conversation() {
    let text = r#"{"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "label": 3, "source": "chats"}"#;
    let set = read(text, &Fields::default()).unwrap();
    let [example] = set.examples() else { panic!("one prompt") };
    let message =
        |role: &str, content: &str| Message { role: role.into(), content: content.into() };
    assert_eq!(example.messages, [message("system", "s"), message("user", "u")]);
    assert_eq!((example.prompt.as_str(), example.label.as_deref()), ("u", Some("3")));
    assert_eq!(example.source, Source::new("chats"));
}

#[test]
fn the_order_of_the_file_goes_round() {
    let set = set(5);
    assert_eq!(set.in_order(0, 3), [0, 1, 2]);
    assert_eq!(set.in_order(1, 3), [3, 4, 0]);
    assert_eq!(set.in_order(0, 7), [0, 1, 2, 3, 4, 0, 1]);
}

fn set(n: usize) -> PromptSet {
    let text: String = (0..n).map(|i| format!("{{\"prompt\": \"{i}\"}}\n")).collect();
    read(text, &Fields::default()).unwrap()
}

#[test]
fn every_epoch_has_every_example_once_in_an_order_of_its_own() {
    let set = set(23);
    // 23 steps of 5 are 5 epochs; batches lie across their ends.
    let order: Vec<usize> = (0..23).flat_map(|step| set.batch(7, step, 5)).collect();
    let epochs: Vec<&[usize]> = order.chunks(23).collect();
    assert_eq!(epochs.len(), 5);
    for epoch in &epochs {
        assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), 23);
    }
    let distinct: BTreeSet<_> = epochs.iter().collect();
    assert_eq!(distinct.len(), 5);
    assert!(!distinct.contains(&&(0..23).collect::<Vec<_>>()[..]));
}

#[test]
fn a_batch_is_a_function_of_seed_and_step() {
    let set = set(23);
    let all: Vec<Vec<usize>> = (0..12).map(|step| set.batch(7, step, 5)).collect();
    for step in (0..12).rev() {
        assert_eq!(set.batch(7, step as u64, 5), all[step]);
    }
    // The order does not know how it is cut: two steps of 5 are one of 10.
    assert_eq!(set.batch(7, 1, 10), [&all[2][..], &all[3]].concat());
    assert_ne!(set.batch(8, 0, 23), set.batch(7, 0, 23));
    // More than an epoch at once.
    let long = set.batch(7, 0, 60);
    assert_eq!(long, all.concat());
}

#[test]
fn first_places_are_evenly_shared() {
    let set = set(6);
    let mut counts = [0; 6];
    for seed in 0..6000 {
        counts[set.batch(seed, 0, 1)[0]] += 1;
    }
    // Mean 1000, standard deviation 29.
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}
