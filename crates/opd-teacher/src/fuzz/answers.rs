//! Good answers to what [`Case`]s ask for.

use opd_batch::ScoredSequence;

use crate::protocol::Question;

const PROMPT: [u32; 2] = [5, 100];
pub(super) const RESPONSE: [u32; 3] = [200, 300, 400];
const SEQUENCE: ScoredSequence<'_> = ScoredSequence { prompt: &PROMPT, response: &RESPONSE };

/// Ids named for each token of the response, one each.
pub(super) const NAMED: [u32; 3] = [7, 8, 9];

/// A question, and a good answer to it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) items: usize,
    pub(super) k: usize,
    pub(super) named: bool,
    pub(super) temperature: f32,
    pub(super) vocab_size: Option<usize>,
    pub(super) good: String,
}

impl Case {
    /// At temperature 1, with the likeliest ids.
    pub(super) fn new(items: usize, k: usize, good: String) -> Self {
        Self { items, k, named: false, temperature: 1.0, vocab_size: None, good }
    }

    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let sequences = vec![SEQUENCE; self.items];
        let named = vec![&NAMED[..]; if self.named { self.items } else { 0 }];
        ask(&Question {
            sequences: &sequences,
            temperature: self.temperature,
            k: self.k,
            named: &named,
            vocab_size: self.vocab_size,
        })
    }
}

const SGLANG: &str = r#"{"text":"","meta_info":{"finish_reason":{"type":"length","length":0},"prompt_tokens":5,"weight_version":"default","input_token_logprobs":[[null,100,null],[-1.5,200,null],[-2.5,300,null],[-3.5,400,null]],"input_top_logprobs":[null,[[-0.5,7,null]],[[-0.25,8,null]],[[-0.125,9,null]]],"input_logprob_temperature":1.0}}"#;

fn sglang(items: usize) -> String {
    match items {
        1 => SGLANG.to_owned(),
        n => format!("[{}]", vec![SGLANG; n].join(",")),
    }
}

pub(super) fn of_sglang() -> Vec<Case> {
    let mut cases =
        vec![Case::new(1, 0, sglang(1)), Case::new(1, 1, sglang(1)), Case::new(3, 1, sglang(3))];
    for items in [1, 2] {
        let good = sglang(items).replace("input_top_logprobs", "input_token_ids_logprobs");
        cases.push(Case { named: true, ..Case::new(items, 1, good) });
    }
    let cool = sglang(1).replace("temperature\":1.0", "temperature\":0.7");
    cases.push(Case { temperature: 0.7, ..Case::new(1, 0, cool) });
    // The highest id of the vocabulary is echoed as 0.
    let echoed = sglang(1).replace("[-3.5,400,null]", "[-3.5,0,null]");
    cases.push(Case { vocab_size: Some(401), ..Case::new(1, 0, echoed) });
    cases
}

const POSITIONS: &str = r#"[null,{"100":{"logprob":-9.0,"rank":4}},{"200":{"logprob":-1.5},"7":{"logprob":-0.5}},{"300":{"logprob":-2.5},"8":{"logprob":-0.25}},{"400":{"logprob":-3.5},"9":{"logprob":-0.125}}]"#;

fn completions(items: usize) -> String {
    let choice = |index: usize| {
        format!(
            r#"{{"index":{index},"finish_reason":"length","prompt_logprobs":{POSITIONS},"prompt_token_ids":[5,100,200,300,400]}}"#
        )
    };
    let choices: Vec<String> = (0..items).map(choice).collect();
    format!(r#"{{"choices":[{}]}}"#, choices.join(","))
}

/// The form whose answers name the weights.
fn token_form() -> String {
    format!(
        r#"{{"prompt_logprobs":{POSITIONS},"prompt_token_ids":null,"choices":[{{"index":0,"finish_reason":"length","token_ids":[9],"weight_versions":[{{"version":"default","start":0,"end":4}}]}}]}}"#
    )
}

pub(super) fn of_vllm() -> Vec<Case> {
    vec![
        Case::new(1, 0, completions(1)),
        Case::new(1, 1, completions(1)),
        Case::new(3, 1, completions(3)),
        Case::new(1, 0, token_form()),
        Case::new(1, 1, token_form()),
    ]
}
