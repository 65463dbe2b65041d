//! Every rule of the linter: what sets it off, and with numbers what would have gone wrong.
//!
//! Expectations are exact sums over a small vocabulary: no sampling.
#![allow(clippy::unwrap_used)]

mod authors;
mod critics;
mod groups;
mod losses;
mod own_teachers;
mod signals;
mod tokenizers;
mod world;

use opd_train::{
    config::{
        AggregationKind, CorrectionKind, CriticKind, DistillationConfig, EstimatorKind, KlKind,
        LossKind, OldLogprobs, ResponseSource, TailKind, TeacherKind, TrainConfig, TruncatedKind,
    },
    lint::{RULES, Severity, lint},
};

/// A rule's name, what sets it off, and what would have gone wrong.
type Case = (&'static str, fn(&mut TrainConfig), fn());

const CASES: &[Case] = &[
    ("k1-as-loss", |config| reference(config, KlKind::K1, false), losses::k1_has_no_gradient),
    (
        "k3-as-loss",
        |config| reference(config, KlKind::K3, false),
        losses::k3_follows_the_forward_kl,
    ),
    ("k2-weighted", |config| reference(config, KlKind::K2, true), losses::weighted_k2_is_no_kl),
    (
        "divergence-without-teacher",
        |config| {
            config.distillation = None;
            config.objective.loss = LossKind::Jsd;
        },
        losses::a_divergence_needs_a_teacher,
    ),
    (
        "divergence-across-tokenizers",
        |config| {
            distillation(config).tokenizer = Some("other".into());
            config.objective.loss = LossKind::ReverseKl;
        },
        tokenizers::one_text_under_two_numberings_is_no_agreement,
    ),
    (
        "one-vocabulary-sorted",
        |config| config.objective.loss = LossKind::Uld,
        tokenizers::sorting_forgets_which_token_is_likely,
    ),
    (
        "nothing-to-learn",
        |config| distillation(config).kl_coef = 0.0,
        signals::no_coefficient_no_gradient,
    ),
    (
        "teacher-temperature",
        |config| {
            config.rollout.temperature = 0.6;
            let distillation = distillation(config);
            (distillation.kind, distillation.teacher) = (TeacherKind::Vllm, None);
            distillation.urls = vec!["http://127.0.0.1:1".into()];
            distillation.accept_temperature_bias = true;
        },
        signals::another_temperature_moves_a_student_that_agrees,
    ),
    (
        "whitened-distillation",
        |config| config.objective.whiten = true,
        signals::whitening_cancels_the_coefficient,
    ),
    (
        "own-teacher-agrees",
        |config| own(config, TeacherKind::Start),
        own_teachers::a_teacher_that_agrees_teaches_nothing,
    ),
    (
        "ema-never-moves",
        |config| {
            own(config, TeacherKind::Ema);
            distillation(config).ema_decay = 1.0;
            distillation(config).prompt_key = Some("hinted".into());
        },
        own_teachers::an_average_that_keeps_all_never_moves,
    ),
    (
        "ema-decay-not-read",
        |config| distillation(config).ema_decay = 0.5,
        own_teachers::a_frozen_teacher_does_not_follow,
    ),
    (
        "top-1-renormalised",
        |config| {
            config.objective.loss = LossKind::TopKReverseKl;
            (config.objective.top_k, config.objective.top_k_tail) = (1, TailKind::Renormalised);
        },
        losses::one_renormalised_id_says_nothing,
    ),
    (
        "top-k-truncated",
        |config| {
            config.objective.loss = LossKind::TopKReverseKl;
            config.objective.top_k_tail = TailKind::Truncated;
        },
        losses::truncation_moves_mass_where_both_agree,
    ),
    (
        "single-sample-group",
        |config| {
            config.rollout.samples_per_prompt = 1;
            config.objective.estimator = EstimatorKind::Rloo;
        },
        groups::a_group_of_one_has_no_advantage,
    ),
    (
        "team-larger-than-group",
        |config| {
            config.rollout.samples_per_prompt = 4;
            config.objective.estimator = EstimatorKind::PassAtK;
        },
        groups::one_team_has_no_advantage,
    ),
    (
        "negative-rewards-of-max-rl",
        |config| {
            config.objective.estimator = EstimatorKind::MaxRl;
            config.objective.truncated = TruncatedKind::Penalise;
        },
        groups::a_negative_mean_silences_max_rl,
    ),
    (
        "length-bias",
        |config| {
            config.objective.estimator = EstimatorKind::DrGrpo;
            config.objective.aggregation = AggregationKind::SequenceMeanTokenMean;
        },
        groups::long_wrong_answers_are_punished_less,
    ),
    (
        "truncated-sampling",
        |config| config.rollout.top_k = Some(2),
        signals::cut_samples_have_another_gradient,
    ),
    (
        "no-ratio",
        |config| {
            config.objective.loss = LossKind::Reinforce;
            config.optimizer.updates_per_batch = 2;
        },
        losses::reinforce_is_biased_once_the_policy_has_moved,
    ),
    (
        "nothing-to-correct",
        |config| {
            config.objective.correction.kind = CorrectionKind::Truncate;
            config.objective.old_logprobs = OldLogprobs::Sampler;
        },
        losses::a_sampler_that_is_its_own_judge_weighs_1,
    ),
    (
        "mask-never-acts",
        |config| config.objective.opsm_delta = Some(1e-4),
        losses::a_policy_that_has_not_moved_masks_nothing,
    ),
    (
        "sft-on-own-samples",
        |config| config.objective.loss = LossKind::Sft,
        losses::cross_entropy_of_own_samples_has_no_gradient,
    ),
    (
        "policy-loss-on-labels",
        |config| config.rollout.responses = ResponseSource::Label,
        signals::labels_are_not_samples,
    ),
    (
        "unweighted-off-policy",
        |config| config.rollout.responses = ResponseSource::Teacher,
        authors::teachers_samples_need_weights,
    ),
    (
        "old-is-not-the-student",
        |config| {
            config.objective.loss = LossKind::MiniLlm;
            config.objective.old_logprobs = OldLogprobs::Sampler;
            config.rollout.teacher_mixed_alpha = 0.2;
        },
        authors::a_mixture_is_not_the_student,
    ),
    (
        "mixing-nothing",
        |config| {
            config.objective.loss = LossKind::Sft;
            config.rollout.responses = ResponseSource::Label;
            config.rollout.teacher_mixed_alpha = 0.2;
        },
        authors::labels_are_not_drawn,
    ),
    (
        "greedy-policy-samples",
        |config| {
            config.rollout.responses = ResponseSource::Teacher;
            config.rollout.teacher_temperature = 0.0;
            config.objective.correction.kind = CorrectionKind::Truncate;
        },
        authors::greedy_samples_have_no_weights,
    ),
    (
        "greedy-repeats",
        |config| {
            config.objective.loss = LossKind::Sft;
            config.rollout.responses = ResponseSource::Teacher;
            config.rollout.teacher_temperature = 0.0;
        },
        authors::repeats_change_nothing,
    ),
    (
        "mix-not-read",
        |config| config.rollout.mix.student = 0.9,
        authors::shares_are_read_where_responses_are_mixed,
    ),
    (
        "reward-not-read",
        |config| {
            config.objective.loss = LossKind::ReverseKl;
            config.objective.estimator = EstimatorKind::Grpo;
        },
        losses::a_divergence_reads_no_advantages,
    ),
    (
        "signal-not-read",
        |config| {
            config.objective.loss = LossKind::ReverseKl;
            distillation(config).discount = 0.5;
        },
        losses::a_divergence_reads_no_advantages,
    ),
    (
        "kl-coef-not-read",
        |config| {
            config.objective.estimator = EstimatorKind::Grpo;
            config.objective.kl_coef = 0.1;
        },
        groups::grpo_has_no_kl_in_its_reward,
    ),
    (
        "gamma-not-read",
        |config| {
            config.objective.estimator = EstimatorKind::Grpo;
            config.objective.gamma = 0.9;
        },
        groups::grpo_discounts_nothing,
    ),
    (
        "lambda-not-read",
        |config| {
            config.objective.estimator = EstimatorKind::Grpo;
            config.objective.lambda = 0.95;
        },
        critics::without_a_critic_lambda_is_no_setting,
    ),
    (
        "critic-not-read",
        |config| {
            config.objective.estimator = EstimatorKind::Grpo;
            config.objective.critic.kind = CriticKind::Model;
        },
        critics::grpo_reads_no_values,
    ),
    (
        "value-loss-not-read",
        |config| {
            config.objective.estimator = EstimatorKind::Ppo;
            config.objective.critic.kind = CriticKind::Model;
            config.objective.critic.student_coef = 0.5;
        },
        critics::another_models_loss_does_not_reach_the_student,
    ),
    (
        "value-clip-never-acts",
        |config| {
            config.objective.estimator = EstimatorKind::Ppo;
            config.objective.critic.value_clip = 0.5;
        },
        critics::values_that_have_not_moved_are_not_clipped,
    ),
    (
        "penalty-not-read",
        |config| config.objective.truncated = TruncatedKind::Penalise,
        groups::zero_ignores_a_penalty,
    ),
    (
        "kl-loss-not-read",
        |config| {
            config.objective.loss = LossKind::ReverseKl;
            config.objective.kl_loss_coef = 0.1;
        },
        losses::a_divergence_has_no_pull_to_the_start,
    ),
    (
        "correction-not-read",
        |config| {
            config.objective.loss = LossKind::ReverseKl;
            config.objective.correction.kind = CorrectionKind::Truncate;
        },
        authors::a_divergence_reads_no_sampler,
    ),
];

fn reference(config: &mut TrainConfig, kind: KlKind, unbiased: bool) {
    config.objective.kl_loss_coef = 0.1;
    config.objective.kl_loss_type = kind;
    config.objective.kl_loss_unbiased = unbiased;
}

fn distillation(config: &mut TrainConfig) -> &mut DistillationConfig {
    config.distillation.as_mut().unwrap()
}

fn own(config: &mut TrainConfig, kind: TeacherKind) {
    (distillation(config).kind, distillation(config).teacher) = (kind, None);
}

/// A run that nothing can be said against.
fn config() -> TrainConfig {
    let mut config = TrainConfig { steps: 1, ..TrainConfig::default() };
    config.student.path = "student".into();
    config.data.train = "train.jsonl".into();
    let teacher = Some("teacher".into());
    config.distillation = Some(DistillationConfig { teacher, ..DistillationConfig::default() });
    config
}

#[test]
fn every_rule_has_a_case() {
    let rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    let cases: Vec<&str> = CASES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(rules, cases);
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
