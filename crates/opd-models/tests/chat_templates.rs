//! Chat templates of real models: texts and ids as transformers has them (tests/data/chat).
//!
//! The texts are always compared. For the ids a tokenizer is needed, which is too big to be kept:
//! `OPD_CHAT_TOKENIZERS` names a folder with `NAME/tokenizer.json` for every model, which
//! `tests/data/chat/fetch` makes and `tests/data/chat/run` hands over.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs, path::Path};

use opd_models::{ChatTemplate, Message, TemplateOptions, Tokenizer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    add_generation_prompt: bool,
    #[serde(borrow)]
    kwargs: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct Golden {
    model: String,
    row: usize,
    text: String,
    n: usize,
    ids: String,
    rendered: Option<String>,
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chat"))
}

/// Calls `check` with every rendering and what transformers made of it.
fn each(mut check: impl FnMut(&Golden, &str)) {
    let rows = fs::read_to_string(folder().join("conversations.jsonl")).unwrap();
    let rows: Vec<Row<'_>> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let golden = fs::read_to_string(folder().join("golden.jsonl")).unwrap();
    let mut templates = BTreeMap::new();
    for line in golden.lines().skip(1) {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let template = templates.entry(golden.model.clone()).or_insert_with(|| {
            ChatTemplate::load(folder().join("templates").join(&golden.model)).unwrap()
        });
        let row = &rows[golden.row];
        let messages: Vec<Message> =
            row.messages.iter().map(|text| Message::from_json(text.get()).unwrap()).collect();
        let mut options = TemplateOptions::default()
            .with_generation_prompt(row.add_generation_prompt)
            .with_variables(row.kwargs.get())
            .unwrap();
        if let Some(tools) = row.tools {
            options = options.with_tools(tools.get()).unwrap();
        }
        let rendered = template.render_with(&messages, &options).unwrap();
        check(&golden, &rendered);
    }
}

#[test]
fn texts_are_those_of_transformers() {
    let mut compared = BTreeMap::<String, usize>::new();
    each(|golden, rendered| {
        if let Some(expected) = &golden.rendered {
            assert_eq!(rendered, expected, "{} row {}", golden.model, golden.row);
        }
        let Golden { model, row, .. } = golden;
        assert_eq!(digest(rendered), golden.text, "{model} row {row}: {rendered}");
        *compared.entry(model.clone()).or_default() += 1;
    });
    let expected = ["qwen2.5", "qwen3", "smollm2"].map(|name| (name.to_owned(), 240));
    assert_eq!(compared, BTreeMap::from(expected));
}

#[test]
fn ids_are_those_of_transformers_where_tokenizers_are_named() {
    let Some(tokenizers) = std::env::var_os("OPD_CHAT_TOKENIZERS") else { return };
    let mut loaded = BTreeMap::new();
    let mut compared = 0;
    each(|golden, rendered| {
        let tokenizer = loaded.entry(golden.model.clone()).or_insert_with(|| {
            Tokenizer::load(Path::new(&tokenizers).join(&golden.model)).unwrap()
        });
        let ids = tokenizer.encode_continuation(rendered).unwrap();
        let spelled: Vec<String> = ids.iter().map(u32::to_string).collect();
        assert_eq!(ids.len(), golden.n, "{} row {}", golden.model, golden.row);
        assert_eq!(digest(&spelled.join(" ")), golden.ids, "{} row {}", golden.model, golden.row);
        compared += 1;
    });
    assert_eq!(compared, 720);
    println!("{compared} ids compared");
}
