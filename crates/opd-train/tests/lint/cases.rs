//! What sets each rule off, and the test that shows what would have gone wrong.

use opd_train::config::{
    AggregationKind, CorrectionKind, CriticKind, DistillationConfig, EstimatorKind, KlKind,
    LoraConfig, LossKind, OldLogprobs, ResponseSource, TailKind, TeacherKind, TrainConfig,
    TruncatedKind,
};

use crate::{adapters, authors, critics, groups, losses, own_teachers, signals, tokenizers};

/// A rule's name, what sets it off, and what would have gone wrong.
pub(crate) type Case = (&'static str, fn(&mut TrainConfig), fn());

pub(crate) const CASES: &[Case] = &[
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
        "teacher-temperature-unknown",
        |config| {
            config.rollout.temperature = 0.7;
            let distillation = distillation(config);
            (distillation.kind, distillation.teacher) = (TeacherKind::Sglang, None);
            distillation.urls = vec!["http://127.0.0.1:1".into()];
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
        "lora-learning-rate",
        |config| {
            let lora = LoraConfig { rank: Some(16), ..LoraConfig::default() };
            (config.student.lora, config.optimizer.lr) = (Some(lora), 1e-6);
        },
        adapters::a_rate_for_weights_moves_adapters_little,
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

pub(crate) fn reference(config: &mut TrainConfig, kind: KlKind, unbiased: bool) {
    config.objective.kl_loss_coef = 0.1;
    config.objective.kl_loss_type = kind;
    config.objective.kl_loss_unbiased = unbiased;
}

pub(crate) fn distillation(config: &mut TrainConfig) -> &mut DistillationConfig {
    config.distillation.as_mut().unwrap()
}

pub(crate) fn own(config: &mut TrainConfig, kind: TeacherKind) {
    (distillation(config).kind, distillation(config).teacher) = (kind, None);
}

/// A run that nothing can be said against.
pub(crate) fn config() -> TrainConfig {
    let mut config = TrainConfig { steps: 1, ..TrainConfig::default() };
    config.student.path = "student".into();
    config.data.train = "train.jsonl".into();
    let teacher = Some("teacher".into());
    config.distillation = Some(DistillationConfig { teacher, ..DistillationConfig::default() });
    config
}
