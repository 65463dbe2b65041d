//! Prompt files as token ids: the shapes of dapo-math-17k and GSM8K, filters, bad rows.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, path::Path};

use opd_data::{BadRows, Fields};
use opd_models::{CausalLm, ChatTemplate, TemplateOptions, Tokenizer};
use opd_testkit::GoldenModel;
use opd_train::PromptReader;

/// ChatML with `<eos>`, and a variable of its own.
const TEMPLATE: &str = "{{ mood }}{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}[{{ m.role }}]{{ m.content }}<eos>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

struct Set {
    dir: tempfile::TempDir,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    model: opd_models::ModelConfig,
}

fn set() -> Set {
    let dir = tempfile::tempdir().unwrap();
    opd_testkit::write_byte_level(dir.path(), &[]);
    fs::write(dir.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    let golden = GoldenModel::load("qwen3_tied");
    let lm =
        CausalLm::load(golden.dir, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let mut model = lm.config().clone();
    (model.context, model.eos_token_ids) = (400, vec![0]);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let template = ChatTemplate::load(dir.path()).unwrap();
    Set { dir, tokenizer, template, model }
}

impl Set {
    fn reader(&self) -> PromptReader<'_> {
        let options = TemplateOptions::default().with_variables(r#"{"mood": ":)"}"#).unwrap();
        let template = Some((&self.template, options));
        PromptReader { template, ..PromptReader::new(&self.tokenizer, &self.model, 100) }
    }

    fn text(&self, ids: &[u32]) -> String {
        self.tokenizer.decode(ids).unwrap()
    }

    fn file(&self, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join("p.jsonl");
        fs::write(&path, text).unwrap();
        path
    }
}

fn sample(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../opd-data/tests/data").join(name)
}

#[test]
fn dapo_and_gsm8k_are_read_as_they_are() {
    let set = set();
    let fields = Fields { label: "reward_model.ground_truth".into(), ..Fields::default() };
    let reader = PromptReader { fields, ..set.reader() };
    let [lines, columns] = ["dapo.jsonl", "dapo-zstd-v2.parquet"].map(|name| {
        let prompts = reader.read(&[sample(name)]).unwrap();
        prompts.get_all(0..prompts.len()).unwrap()
    });
    assert_eq!(lines.len(), 50);
    for (line, column) in lines.iter().zip(&columns) {
        assert_eq!((&line.tokens, &line.example.label), (&column.tokens, &column.example.label));
    }
    let text = set.text(&lines[3].tokens);
    assert!(
        text.starts_with(":)[user]Solve: what is 3 + 3?") && text.ends_with("[assistant]"),
        "{text}"
    );
    assert_eq!(lines[3].example.source.as_str(), "math_dapo");

    let fields = Fields { input: "question".into(), label: "answer".into(), ..Fields::default() };
    let reader = PromptReader { fields, template: None, ..set.reader() };
    let prompts = reader.read(&[sample("gsm8k.parquet")]).unwrap();
    let prompt = prompts.get(4).unwrap().unwrap();
    assert_eq!(set.text(&prompt.tokens), prompt.example.prompt);
    assert!(prompt.example.label.unwrap().ends_with("#### 8"));
}

#[test]
fn long_and_bad_rows_are_dropped_by_policy() {
    let set = set();
    let long = "x".repeat(350);
    let path = set.file(&format!("{{\"prompt\": \"{long}\"}}\n{{\"prompt\": \"abc\"}}\nnothing\n"));
    let reader = PromptReader { template: None, ..set.reader() };
    let error = reader.read(&[&path]).unwrap_err().to_string();
    let expected = "p.jsonl:1: the prompt has 350 tokens; with 100 for the response the model's context of 400 is exceeded";
    assert!(error.contains(expected), "{error}");

    let skip = PromptReader { bad_rows: BadRows::Skip, ..reader.clone() };
    let prompts = skip.read(&[&path]).unwrap();
    assert_eq!((prompts.len(), prompts.left_out()), (1, (2, 0)));
    assert_eq!(prompts.bad().iter().map(|bad| bad.row).collect::<Vec<_>>(), [1, 3]);

    let short = PromptReader { max_prompt_tokens: Some(10), ..skip };
    let prompts = short.read(&[&path]).unwrap();
    assert_eq!((prompts.len(), prompts.left_out(), prompts.longest()), (1, (1, 1), 3));
}

#[test]
fn tools_and_answers_reach_the_template() {
    let set = set();
    let path = set.file(
        r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [{"z": 1, "a": 2}]}"#,
    );
    let prompts = set.reader().read(&[path]).unwrap();
    let prompt = prompts.get(0).unwrap().unwrap();
    assert_eq!(set.text(&prompt.tokens), r#":)[{"z": 1, "a": 2}][user]a[assistant]"#);
    let written = prompt.written.unwrap();
    assert_eq!(set.text(&written.response), "b");
    assert_eq!((written.response.last(), written.mask), (Some(&0), vec![true, true]));
}
