//! Every rule of the linter: what sets it off, and with numbers what would have gone wrong.
//!
//! Expectations are exact sums over a small vocabulary: no sampling.
#![allow(clippy::unwrap_used)]

mod adapters;
mod authors;
mod cases;
mod critics;
mod groups;
mod losses;
mod own_teachers;
mod signals;
mod steps;
mod tokenizers;
mod world;

use cases::{CASES, config, distillation, own, reference};
use opd_train::{
    config::{EstimatorKind, KlKind, LossKind, ResponseSource, TailKind, TeacherKind, TrainConfig},
    lint::{RULES, Severity, lint},
};

#[test]
fn every_rule_has_a_case() {
    let rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    let cases: Vec<&str> = CASES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(rules, cases);
}

/// The documentation's table has a line for each rule, with what becomes of the run.
#[test]
fn every_rule_is_documented() {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/objectives.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let table = docs.split_once("\n## What the linter says\n").unwrap().1;
    let table = table.split_once("\n## ").unwrap().0;
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let rows = table.lines().filter(|line| line.starts_with("| `")).map(cells);
    let mut told: Vec<(String, String)> = Vec::new();
    for row in rows {
        assert!(!row[3].is_empty(), "{row:?}");
        let names = row[1].split(", ").map(|name| name.trim_matches('`').to_owned());
        told.extend(names.map(|name| (name, row[2].clone())));
    }
    let mut expected: Vec<(String, String)> = Vec::new();
    for (name, set_off, _) in CASES {
        let mut config = config();
        set_off(&mut config);
        let findings = lint(&config).findings;
        let found = findings.iter().find(|finding| finding.rule == *name).unwrap();
        let outcome = match found.severity {
            Severity::Refuse => "refused",
            Severity::Warn => "warned",
        };
        expected.push(((*name).to_owned(), outcome.to_owned()));
    }
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn a_sound_run_has_no_finding() {
    assert_eq!(lint(&config()).findings, []);
    config().validate().unwrap();
}

#[test]
fn each_rule_fires_where_it_should_and_is_right() {
    for (name, set_off, shown) in CASES {
        let mut config = config();
        set_off(&mut config);
        let findings = lint(&config).findings;
        let found = findings.iter().find(|finding| finding.rule == *name);
        let found = found.unwrap_or_else(|| panic!("{name} is not among {findings:?}"));
        assert!(!found.reason.is_empty() && !found.remedy.is_empty());
        let others: Vec<_> = findings
            .iter()
            .filter(|finding| finding.rule != *name && finding.severity == Severity::Refuse)
            .collect();
        assert!(others.is_empty(), "{name} comes with {others:?}");
        match found.severity {
            Severity::Refuse => {
                let message = config.validate().unwrap_err().to_string();
                assert_eq!(message, format!("{}; {}", found.reason, found.remedy));
            }
            Severity::Warn => config.validate().unwrap(),
        }
        shown();
    }
}

#[test]
fn a_bias_that_is_asked_for_is_accepted() {
    let mut config = config();
    config.objective.loss = LossKind::TopKForwardKl;
    config.objective.top_k_tail = TailKind::Truncated;
    assert!(config.validate().unwrap_err().to_string().contains("more certainty"));
    config.objective.allow_biased = true;
    config.validate().unwrap();
}

/// What makes a teacher of the student's own weights worth having.
#[test]
fn a_teacher_of_ones_own_needs_something_to_teach() {
    let refused = |change: fn(&mut TrainConfig)| {
        let mut config = config();
        own(&mut config, TeacherKind::Ema);
        change(&mut config);
        lint(&config).findings.iter().any(|finding| finding.rule == "own-teacher-agrees")
    };
    assert!(refused(|_| {}));
    assert!(refused(|config| config.objective.loss = LossKind::Jsd));
    assert!(refused(|config| config.objective.loss = LossKind::MiniLlm));
    assert!(!refused(|config| distillation(config).prompt_key = Some("hinted".into())));
    assert!(!refused(|config| config.objective.estimator = EstimatorKind::Rloo));
    assert!(!refused(|config| config.sft.coef = 0.1));
    let written = |temperature: f64| {
        let mut config = config();
        own(&mut config, TeacherKind::Start);
        config.objective.loss = LossKind::Sft;
        config.rollout.responses = ResponseSource::Teacher;
        config.rollout.teacher_temperature = temperature;
        lint(&config).refusals().count()
    };
    assert_eq!((written(1.0), written(0.5)), (1, 0), "sharpened responses teach sharpness");
}

#[test]
fn the_gradient_is_said_in_words() {
    let of = |change: fn(&mut TrainConfig)| {
        let mut config = config();
        change(&mut config);
        lint(&config).gradient
    };
    assert_eq!(
        of(|_| {}),
        ["1 x KL(student || teacher) of the next token, each token answering for itself"]
    );
    assert_eq!(
        of(|config| {
            config.objective.estimator = EstimatorKind::Rloo;
            distillation(config).discount = 1.0;
            reference(config, KlKind::K3, false);
        }),
        [
            "1 x KL(student || teacher) of the whole response",
            "- the expected reward (less a baseline of its group)",
            "0.1 x KL(start policy || student)",
        ]
    );
    assert_eq!(
        of(|config| {
            config.objective.loss = LossKind::Sft;
            config.rollout.responses = ResponseSource::Label;
        }),
        ["the cross-entropy of the labels"]
    );
    assert_eq!(
        of(|config| {
            config.objective.loss = LossKind::Jsd;
            config.rollout.responses = ResponseSource::Mixed;
            config.rollout.mix.student = 1.5;
            config.sft.coef = 0.1;
        }),
        [
            "the Jensen-Shannon divergence with beta 0.5 of the next token, at each token of \
             0.250 the labels + 0.750 the student's own responses, which themselves count as given",
            "0.1 x the cross-entropy of the labels",
        ]
    );
    assert_eq!(
        of(|config| {
            config.objective.loss = LossKind::MiniLlm;
            config.rollout.teacher_mixed_alpha = 0.2;
        }),
        [
            "1 x KL(student || teacher) of the whole response, the next token's exactly, what follows \
          a token over the number of tokens that follow (importance weights token by token: \
          biased beyond the next token)"
        ]
    );
    let ppo = of(|config| {
        config.objective.estimator = EstimatorKind::Ppo;
        config.objective.lambda = 0.95;
        config.objective.kl_coef = 0.01;
    });
    assert_eq!(ppo[1], "- the expected reward, as far as the critic's values are right");
    assert_eq!(ppo[2..], ["0.01 x KL(student || start policy)"]);
    let top = of(|config| config.objective.loss = LossKind::TopKReverseKl);
    assert!(top[0].contains("teacher's 64 likeliest ids, the rest as one more outcome"), "{top:?}");
}
