//! Prompt files: what is read of them, which rows are bad, and in which order they are handed out.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use opd_batch::Source;
use opd_data::{BadRows, Error, Example, Fields, PromptSet, Turn};
use tempfile::TempDir;

/// A set whose file goes with the directory.
fn read(text: impl AsRef<[u8]>, fields: &Fields) -> Result<(PromptSet, TempDir), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prompts.jsonl");
    fs::write(&path, text).unwrap();
    let prefix = dir.path().display().to_string();
    let set = PromptSet::open(&[path], fields, BadRows::Fail);
    Ok((set.map_err(|error| error.to_string().replace(&prefix, "DIR"))?, dir))
}

fn message(text: impl AsRef<[u8]>) -> String {
    read(text, &Fields::default()).unwrap_err()
}

fn examples(set: &PromptSet) -> Vec<Example> {
    (0..set.len()).map(|i| set.get(i).unwrap().unwrap()).collect()
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn dapo() -> Fields {
    Fields { label: "reward_model.ground_truth".into(), ..Fields::default() }
}

#[test]
fn fields_are_read_by_name() {
    let text = "\u{20}\n{\"prompt\": \"2+2\", \"label\": 4, \"source\": \"sums\", \"more\": [1]}\r\n\n{\"prompt\": \"é\", \"label\": true}";
    let (set, _dir) = read(text, &Fields::default()).unwrap();
    let first = Example {
        prompt: "2+2".into(),
        label: Some("4".into()),
        source: Source::new("sums"),
        ..Example::default()
    };
    let second = Example { prompt: "é".into(), label: Some("true".into()), ..Example::default() };
    assert_eq!(examples(&set), [first, second]);
    assert_eq!(set.get(2).unwrap(), None);
}

#[test]
fn a_name_with_dots_reaches_into_objects() {
    let text =
        r#"{"q": {"x.y": {"z": "deep"}, "x": 3}, "a.b": "flat", "a": {"b": "nested"}, "n": 1}"#;
    for (input, label, expected) in [
        ("q.x.y.z", "a.b", ("deep", Some("flat"))),
        ("q.x", "n.b", ("3", None)),
        ("q.x", "q.w.v", ("3", None)),
    ] {
        let fields = Fields { input: input.into(), label: label.into(), ..Fields::default() };
        let (set, _dir) = read(text, &fields).unwrap();
        let Example { prompt, label, .. } = set.get(0).unwrap().unwrap();
        assert_eq!((prompt.as_str(), label.as_deref()), expected);
    }
}

#[test]
fn a_bad_line_is_named() {
    let good = "{\"prompt\": \"a\"}\n";
    let at = |bad: &str| message(format!("{good}\n{bad}\n{good}"));
    assert_eq!(
        at("{\"prompt\": \"b\""),
        "DIR/prompts.jsonl:3: not a JSON object: EOF while parsing an object at line 1 column 14"
    );
    assert!(at("[1]").starts_with("DIR/prompts.jsonl:3: not a JSON object: "));
    assert_eq!(
        at("{\"text\": \"b\", \"answer\": \"c\"}"),
        "DIR/prompts.jsonl:3: field `prompt` is missing (there are: answer, text); name it with --input-key"
    );
    assert_eq!(at("{\"prompt\": \"\"}"), "DIR/prompts.jsonl:3: field `prompt` is empty");
    assert_eq!(
        at("{\"prompt\": [\"a\"]}"),
        "DIR/prompts.jsonl:3: field `prompt`: each message must have a `role` and a text as `content`: invalid type: string \"a\", expected struct Message at line 1 column 3"
    );
    assert_eq!(at("{\"prompt\": []}"), "DIR/prompts.jsonl:3: field `prompt` is empty");
    assert_eq!(at("{\"prompt\": {}}"), "DIR/prompts.jsonl:3: field `prompt` must be text, got {}");
    let tools = r#"{"prompt": "a", "tools": 3}"#;
    assert!(at(tools).contains("field `tools` must be a list of tools"), "{}", at(tools));
    assert_eq!(
        message(b"{\"prompt\": \"a\"}\n{\"prompt\": \"\xff\"}\n"),
        "DIR/prompts.jsonl:2: not UTF-8: invalid utf-8 sequence of 1 bytes from index 12"
    );
    let none = "DIR/prompts.jsonl: no prompts; expected one JSON object a line, or a row of a Parquet file, for each";
    assert_eq!([message(""), message("\n \n")], [none, none]);
    let missing = PromptSet::open(&["/nowhere/p.jsonl"], &Fields::default(), BadRows::Fail);
    assert_eq!(missing.unwrap_err().to_string(), "/nowhere/p.jsonl: cannot read");
}

#[test]
fn bad_rows_are_left_out_counted_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.jsonl");
    fs::write(&path, "{\"prompt\": \"a\"}\nx\n{\"prompt\": \"long\"}\n{}\n{\"prompt\": \"b\"}")
        .unwrap();
    let short = |example: &Example| match example.prompt.len() {
        n if n > 3 => Err(format!("{n} characters")),
        _ => Ok(example.prompt != "b"),
    };
    let open = |policy| PromptSet::open_and(&[&path], &Fields::default(), policy, short);
    let set = open(BadRows::Skip).unwrap();
    assert_eq!(examples(&set).iter().map(|e| e.prompt.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!((set.n_bad(), set.n_dropped()), (3, 1));
    assert_eq!(set.bad().iter().map(|bad| bad.row).collect::<Vec<_>>(), [2, 3, 4]);
    assert_eq!(set.bad()[1].what, "4 characters");
    assert!(matches!(open(BadRows::Fail).unwrap_err(), Error::Row { row: 2, .. }));
    fs::write(&path, "x\ny").unwrap();
    let none = open(BadRows::Skip).unwrap_err().to_string();
    assert!(none.ends_with("; 2 bad rows were skipped"), "{none}");
}

#[test]
fn a_prompt_may_be_a_conversation_with_tools() {
    let text = r#"{"prompt": [{"role": "system", "content": "s"}, {"content": [{"type": "text", "text": "u"}, {"type": "image"}], "role": "user", "name": "x"}, {"role": "assistant", "content": null, "tool_calls": []}], "label": 3, "source": "chats", "tools": "[{\"b\": 1, \"a\": 2}]"}"#;
    let (set, _dir) = read(text, &Fields::default()).unwrap();
    let example = set.get(0).unwrap().unwrap();
    assert_eq!(example.turns[0].json, r#"{"role": "system", "content": "s"}"#);
    assert!(example.turns[1].json.starts_with(r#"{"content": ["#), "fields keep their order");
    let said: Vec<_> = example.turns.iter().map(|t| (t.role.as_str(), t.text.as_str())).collect();
    assert_eq!(said, [("system", "s"), ("user", "u"), ("assistant", "")]);
    assert_eq!(example.tools.as_deref(), Some(r#"[{"b": 1, "a": 2}]"#));
    assert_eq!((example.prompt.as_str(), example.label.as_deref()), ("", Some("3")));
    let plain = Turn::new("user", "\"é\"");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&plain.json).unwrap()["content"], "\"é\"");
}

/// The Parquet files are pyarrow's; the JSONL file has the same rows.
#[test]
fn every_compression_of_parquet_gives_the_rows_of_the_jsonl_file() {
    let expected = PromptSet::open(&[sample("dapo.jsonl")], &dapo(), BadRows::Fail).unwrap();
    let expected = examples(&expected);
    assert_eq!(expected.len(), 50);
    assert_eq!(expected[7].label.as_deref(), Some("14"));
    assert_eq!(expected[7].source.as_str(), "math_dapo");
    assert_eq!(expected[7].turns[0].role, "user");
    let mut read = 0;
    for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"] {
        for version in [1, 2] {
            let path = sample(&format!("dapo-{codec}-v{version}.parquet"));
            let set = PromptSet::open(&[&path], &dapo(), BadRows::Fail).unwrap();
            let got = examples(&set);
            assert_eq!(got.len(), 50, "{path:?}");
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!((&got.prompt, &got.label), (&expected.prompt, &expected.label));
                assert_eq!(
                    (&got.source, &got.turns[0].role),
                    (&expected.source, &expected.turns[0].role)
                );
            }
            read += 1;
        }
    }
    assert_eq!(read, 12);
}

#[test]
fn gsm8k_is_read_as_it_is() {
    let fields = Fields { input: "question".into(), label: "answer".into(), ..Fields::default() };
    let open = |name| PromptSet::open(&[sample(name)], &fields, BadRows::Fail).unwrap();
    let (lines, columns) = (open("gsm8k.jsonl"), open("gsm8k.parquet"));
    assert_eq!(examples(&lines), examples(&columns));
    assert!(lines.get(3).unwrap().unwrap().label.unwrap().ends_with("#### 6"));
    let wrong = PromptSet::open(&[sample("gsm8k.parquet")], &Fields::default(), BadRows::Skip);
    let wrong = wrong.unwrap_err().to_string();
    assert!(wrong.contains("column `prompt` is missing (there are: question, answer)"), "{wrong}");
}

#[test]
fn several_files_and_slices_follow_each_other() {
    let of = |slices: &[&str]| {
        let paths: Vec<String> =
            slices.iter().map(|s| format!("{}{s}", sample("").display())).collect();
        let set = PromptSet::open(&paths, &dapo(), BadRows::Fail).unwrap();
        let label = |e: Example| e.label.unwrap().parse::<u32>().unwrap() / 2;
        examples(&set).into_iter().map(label).collect::<Vec<_>>()
    };
    assert_eq!(of(&["dapo.jsonl@[3:5]", "dapo-snappy-v1.parquet@[-2:]"]), [3, 4, 48, 49]);
    assert_eq!(of(&["dapo.jsonl@[-3:-1]", "dapo-zstd-v2.parquet@[19:22]"]), [47, 48, 19, 20, 21]);
    assert_eq!(of(&["dapo-none-v1.parquet@[:1]", "dapo.jsonl@[49:]"]), [0, 49]);
    let none = format!("{}@[50:]", sample("dapo.jsonl").display());
    let none = PromptSet::open(&[none], &dapo(), BadRows::Fail).unwrap_err().to_string();
    assert!(none.contains("dapo.jsonl@[50:]: no prompts"), "{none}");
}

#[test]
fn several_files_are_one_set_in_every_order() {
    let dir = tempfile::tempdir().unwrap();
    let row = |i: usize| {
        let source = if i.is_multiple_of(2) { "even" } else { "odd" };
        format!("{{\"prompt\": \"{i}\", \"label\": {i}, \"source\": \"{source}\"}}\n")
    };
    let file = |name: &str, rows: std::ops::Range<usize>| {
        let path = dir.path().join(name);
        fs::write(&path, rows.map(row).collect::<String>()).unwrap();
        path
    };
    let (whole, a, b) = (file("whole", 0..11), file("a", 0..4), file("b", 4..11));
    let open =
        |paths: &[&PathBuf]| PromptSet::open(paths, &Fields::default(), BadRows::Fail).unwrap();
    let (one, two) = (open(&[&whole]), open(&[&a, &b]));
    assert_eq!(examples(&two), examples(&one));
    assert_eq!(two.get(5).unwrap().unwrap().source, Source::new("odd"));
    // Batches of 3 lie across the end of the first file, and across that of an epoch.
    for step in 0..8 {
        assert_eq!(two.batch(5, step, 3), one.batch(5, step, 3));
        assert_eq!(two.in_order(step, 3), one.in_order(step, 3));
    }
    assert_eq!(two.in_order(1, 3), [3, 4, 5]);
    assert_eq!([two.place(3), two.place(4)], [Some((&*a, 4)), Some((&*b, 1))]);
    assert_eq!(two.place(11), None);

    let used: Vec<_> = two.files().iter().map(|file| (&file.path.file, file.rows)).collect();
    assert_eq!(used, [(&a, 4), (&b, 7)]);
    // By the definition, bit by bit (polynomial 0x82f63b78), in Python.
    assert_eq!(two.files()[0].crc32c, 0xc7f2_263d);
    let swapped = open(&[&b, &a]);
    assert_eq!([&swapped.files()[1], &swapped.files()[0]], [&two.files()[0], &two.files()[1]]);
    assert_eq!(open(&[&a, &a]).len(), 8, "a file that is named twice counts twice");

    fs::write(&b, row(4) + "{\"label\": 1}\n").unwrap();
    let bad = PromptSet::open(&[&a, &b], &Fields::default(), BadRows::Fail).unwrap_err();
    assert!(matches!(&bad, Error::Row { path, row: 2, .. } if *path == b), "{bad}");
    fs::write(&b, "\n").unwrap();
    let none = PromptSet::open(&[&a, &b], &Fields::default(), BadRows::Fail).unwrap_err();
    assert!(matches!(&none, Error::NoPrompts { path, .. } if path.file == b), "{none}");
}

#[test]
fn a_file_that_changes_is_noticed() {
    let (set, dir) =
        read("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n", &Fields::default()).unwrap();
    fs::write(dir.path().join("prompts.jsonl"), "{\"prompt\": \"a\"}\n").unwrap();
    assert_eq!(set.get(0).unwrap().unwrap().prompt, "a");
    assert!(matches!(set.get(1).unwrap_err(), Error::Changed { row: 2, .. }));
}

#[test]
fn the_order_of_the_file_goes_round() {
    let (set, _dir) = set(5);
    assert_eq!(set.in_order(0, 3), [0, 1, 2]);
    assert_eq!(set.in_order(1, 3), [3, 4, 0]);
    assert_eq!(set.in_order(0, 7), [0, 1, 2, 3, 4, 0, 1]);
}

fn set(n: usize) -> (PromptSet, TempDir) {
    let text: String = (0..n).map(|i| format!("{{\"prompt\": \"{i}\"}}\n")).collect();
    read(text, &Fields::default()).unwrap()
}

#[test]
fn every_epoch_has_every_example_once_in_an_order_of_its_own() {
    let (set, _dir) = set(23);
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
    let (set, _dir) = set(23);
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
    let (set, _dir) = set(6);
    let mut counts = [0; 6];
    for seed in 0..6000 {
        counts[set.batch(seed, 0, 1)[0]] += 1;
    }
    // Mean 1000, standard deviation 29.
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}
