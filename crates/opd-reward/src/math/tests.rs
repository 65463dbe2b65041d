use std::time::{Duration, Instant};

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use super::*;
use crate::{Answer, Reward};

const PAIRS: &str = include_str!("../../tests/data/math_pairs.jsonl");

#[derive(serde::Deserialize)]
struct Pair {
    right: String,
    given: String,
    same: bool,
    ours: Option<bool>,
    why: Option<String>,
}

fn pairs() -> Vec<Pair> {
    PAIRS.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn it_agrees_with_math_verify_but_where_the_file_says_why() {
    let pairs = pairs();
    assert!(pairs.len() >= 300, "{}", pairs.len());
    let mut differing = 0;
    for Pair { right, given, same, ours, why } in &pairs {
        assert_eq!(ours.is_some(), why.is_some(), "{right} | {given}");
        assert_ne!(*ours, Some(*same), "a difference that is none: {right} | {given}");
        differing += usize::from(ours.is_some());
        let expected = ours.unwrap_or(*same);
        assert_eq!(same_answer(given, right), expected, "right {right:?}, given {given:?}");
    }
    assert!(differing * 15 < pairs.len(), "{differing} of {} differ", pairs.len());
}

#[test]
fn the_rules_of_slime_find_and_compare() {
    let of = |form, wrong, response: &str, label: &str| {
        let answer = Answer { response, label: Some(label), ..Answer::default() };
        MathAnswer { form, wrong }.reward(&answer).unwrap()
    };
    assert_eq!(of(AnswerForm::Boxed, 0.0, "\\boxed{18}", "9*2\n#### 18"), 1.0);
    assert_eq!(of(AnswerForm::Boxed, 0.0, "18", "18"), 0.0);
    assert_eq!(of(AnswerForm::AnswerLine, -1.0, "so\nAnswer: $\\frac{68}{2}$", "34"), 1.0);
    assert_eq!(of(AnswerForm::AnswerLine, -1.0, "so\nAnswer: 35", "34"), -1.0);
    assert_eq!(of(AnswerForm::AnswerLine, -1.0, "34", "34"), -1.0);
    assert_eq!(of(AnswerForm::Hashes, 0.0, "9*2\n#### $1,800", "#### 1800"), 1.0);
    let unlabelled = Answer { response: "\\boxed{1}", ..Answer::default() };
    assert_eq!(MathAnswer::default().reward(&unlabelled).unwrap(), 0.0);
}

/// Answers with pieces cut, doubled, swapped or replaced, and rows of tokens.
fn inputs() -> impl Strategy<Value = String> {
    let pieces = [
        "\\frac",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\left",
        "\\right",
        "^",
        "_",
        "\\sqrt",
        "1",
        "12",
        "1,000",
        ".5",
        "x",
        "pi",
        "\\pi",
        "+",
        "-",
        "*",
        "/",
        "=",
        "<",
        "\\le",
        "\\cup",
        ",",
        "%",
        "!",
        "|",
        "\\text{",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "\\infty",
        "e",
        "i",
        " ",
        "é",
        "\\",
        "99999999999999999999999999",
        "\\binom",
        "\\log",
        "\\pm",
        "\\{",
        "\\}",
        "f(",
    ];
    let row = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..40);
    let deep =
        (1usize..900, proptest::sample::select(vec!["(", "\\frac{", "{", "-", "\\sqrt", "^", "|"]));
    prop_oneof![
        row.prop_map(|pieces| pieces.concat()),
        deep.prop_map(|(n, piece)| piece.repeat(n)),
        ".{0,60}",
    ]
}

#[test]
fn fuzz_of_answers() {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let time = Duration::from_secs(variable("OPD_FUZZ_SECONDS").unwrap_or(1));
    let least = variable("OPD_FUZZ_INPUTS").unwrap_or(0);
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    );
    let (strategy, pairs) = (inputs(), pairs());
    let (start, mut tried, mut longest) = (Instant::now(), 0u64, Duration::ZERO);
    while start.elapsed() < time || tried < least {
        let text = strategy.new_tree(&mut runner).unwrap().current();
        let other = &pairs[tried as usize % pairs.len()].right;
        let began = Instant::now();
        let _ = same_answer(&text, other);
        let spelled = same_answer(&text, &format!(" {text}"));
        assert!(spelled || text.trim().is_empty(), "an answer is the same as itself: {text:?}");
        for form in [AnswerForm::Boxed, AnswerForm::AnswerLine, AnswerForm::Hashes] {
            let _ = form.find(&text);
        }
        longest = longest.max(began.elapsed());
        tried += 1;
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    println!("math answers: {tried} inputs, in {:.1?}, the slowest {longest:.1?}", start.elapsed());
}
