//! What the expected gradient of a run is of.

use crate::config::{
    BaselineKind, DistillationConfig, EstimatorKind, KlKind, LossKind, ObjectiveConfig,
    ResponseSource, SupportKind, TailKind, TrainConfig,
};

/// The terms that the expected gradient of a first update is of, one a line; minimised unless a
/// line says otherwise.
pub fn expected_gradient(config: &TrainConfig) -> Vec<String> {
    let objective = &config.objective;
    let mut terms = match objective.loss {
        LossKind::Sft => vec![format!("the cross-entropy of {}", responses(config))],
        loss if loss.is_divergence() => vec![divergence(config)],
        _ => policy(config),
    };
    if let Some(distillation) = config.distillation.as_ref().filter(|d| d.tells_teacher()) {
        terms.push(match &distillation.prompt_key {
            Some(key) => format!("(the teacher sees the field `{key}` instead of the prompt)"),
            None => "(the teacher sees distillation.prompt_template instead of the prompt)".into(),
        });
    }
    if config.sft.coef > 0.0 {
        let of = match &config.sft.data {
            None => "the labels".to_owned(),
            Some(path) => format!("the labels of {}", path.display()),
        };
        terms.push(format!("{} x the cross-entropy of {of}", config.sft.coef));
    }
    if objective.entropy_coef > 0.0 && objective.loss != LossKind::Sft {
        terms.push(format!("- {} x the student's entropy", objective.entropy_coef));
    }
    if objective.kl_loss_coef > 0.0 && objective.loss.is_policy() {
        terms.push(reference(objective));
    }
    terms
}

fn divergence(config: &TrainConfig) -> String {
    let objective = &config.objective;
    let whole = match objective.loss {
        LossKind::ForwardKl => "KL(teacher || student)".to_owned(),
        LossKind::Jsd if objective.jsd_beta == 0.0 => "KL(teacher || student)".to_owned(),
        LossKind::Jsd if objective.jsd_beta == 1.0 => "KL(student || teacher)".to_owned(),
        LossKind::Jsd => format!("the Jensen-Shannon divergence with beta {}", objective.jsd_beta),
        LossKind::SkewForwardKl => {
            format!(
                "KL(teacher || {0} teacher + {1} student)",
                objective.skew_alpha,
                1.0 - objective.skew_alpha
            )
        }
        LossKind::SkewReverseKl => {
            format!(
                "KL(student || {0} student + {1} teacher)",
                objective.skew_alpha,
                1.0 - objective.skew_alpha
            )
        }
        LossKind::MixedKl => format!(
            "{} KL(teacher || student) + {} KL(student || teacher)",
            objective.mixed_forward,
            1.0 - objective.mixed_forward
        ),
        LossKind::Tvd => "the total variation distance".to_owned(),
        LossKind::Uld => "the distance of sorted probabilities".to_owned(),
        LossKind::Gold => format!(
            "{} x the Jensen-Shannon divergence with beta {} over shared tokens + {} x the distance of the others' sorted probabilities",
            objective.gold_matched, objective.jsd_beta, objective.gold_unmatched
        ),
        LossKind::TopKForwardKl => format!("KL(teacher || student) {}", support(objective)),
        LossKind::TopKReverseKl => format!("KL(student || teacher) {}", support(objective)),
        _ => "KL(student || teacher)".to_owned(),
    };
    format!("{whole} of the next token, at each token of {}", responses(config))
}

/// Whose responses count as given.
fn responses(config: &TrainConfig) -> String {
    let own = "the student's own responses, which themselves count as given";
    let written = match config.rollout.teacher_temperature {
        0.0 => "the teacher's likeliest responses",
        _ => "the teacher's responses",
    };
    match config.rollout.responses {
        ResponseSource::Student => own.to_owned(),
        ResponseSource::Label => "the labels".to_owned(),
        ResponseSource::Teacher => written.to_owned(),
        ResponseSource::Mixed => {
            let mix = &config.rollout.mix;
            let parts = [(mix.label, "the labels"), (mix.teacher, written), (mix.student, own)];
            let parts = parts.into_iter().filter(|(share, _)| *share > 0.0);
            let parts = parts.map(|(share, whose)| format!("{:.3} {whose}", share / mix.total()));
            parts.collect::<Vec<_>>().join(" + ")
        }
    }
}

fn support(objective: &ObjectiveConfig) -> String {
    let whose = match objective.top_k_support {
        SupportKind::Teacher => "teacher",
        SupportKind::Student => "student",
    };
    let rest = match objective.top_k_tail {
        TailKind::Bucket => "the rest as one more outcome",
        TailKind::Renormalised => "the rest divided out",
        TailKind::Truncated => "the rest left out (biased)",
    };
    format!("over the {whose}'s {} likeliest ids, {rest},", objective.top_k)
}

fn policy(config: &TrainConfig) -> Vec<String> {
    let objective = &config.objective;
    let mut terms = Vec::new();
    if let Some(distillation) = config.distillation.as_ref().filter(|d| d.kl_coef > 0.0) {
        terms.push(match objective.loss {
            LossKind::MiniLlm => mini_llm(config, distillation.kl_coef),
            _ => signal(distillation),
        });
    }
    let reward = match (objective.estimator, objective.baseline) {
        (EstimatorKind::Zero, _) => None,
        (EstimatorKind::RawReward, _) => Some("the expected reward"),
        (EstimatorKind::Reinforce, BaselineKind::None) => Some("the expected discounted reward"),
        (EstimatorKind::Reinforce, _) => Some("the expected discounted reward (less a baseline)"),
        (EstimatorKind::Grpo, _) => {
            Some("the expected reward, in standard deviations of its group")
        }
        (EstimatorKind::DrGrpo | EstimatorKind::Rloo | EstimatorKind::Opo, _) => {
            Some("the expected reward (less a baseline of its group)")
        }
        (EstimatorKind::MaxRl, _) => Some("the log of the pass rate, nearly"),
        (EstimatorKind::PassAtK, _) => Some("the best reward of a team, standardised"),
        (EstimatorKind::ReinforcePlusPlus | EstimatorKind::ReinforcePlusPlusBaseline, _) => {
            Some("the expected reward, whitened over the batch")
        }
        (EstimatorKind::Ppo, _) => Some(match (objective.gamma, objective.lambda) {
            (1.0, 1.0) => "the expected reward (less the critic's values)",
            (_, 1.0) => "the expected discounted reward (less the critic's values)",
            _ => "the expected reward, as far as the critic's values are right",
        }),
    };
    terms.extend(reward.map(|reward| format!("- {reward}")));
    if objective.kl_coef > 0.0 && objective.estimator.reads_kl_coef() {
        terms.push(format!("{} x KL(student || start policy)", objective.kl_coef));
    }
    let whitens = objective.whiten || objective.estimator.whitens();
    if whitens && !terms.is_empty() {
        terms
            .push("(advantages of all terms whitened together: their scale is the batch's)".into());
    }
    terms
}

fn mini_llm(config: &TrainConfig, coef: f64) -> String {
    let length = match config.objective.length_normalised {
        true => ", what follows a token over the number of tokens that follow",
        false => "",
    };
    let alpha = config.rollout.teacher_mixed_alpha;
    let weights = match alpha > 0.0 || config.rollout.teacher_writes() {
        true => " (importance weights token by token: biased beyond the next token)",
        false => "",
    };
    format!(
        "{coef} x KL(student || teacher) of the whole response, the next token's exactly{length}{weights}"
    )
}

fn signal(distillation: &DistillationConfig) -> String {
    let DistillationConfig { kl_coef, discount, extrapolation, .. } = distillation;
    let goal = match extrapolation {
        1.0 => "KL(student || teacher)".to_owned(),
        lambda => {
            format!("KL(student || start policy (teacher / start policy)^{lambda}, normalised)")
        }
    };
    let horizon = match discount {
        0.0 => "of the next token, each token answering for itself".to_owned(),
        1.0 => "of the whole response".to_owned(),
        g => format!("of what follows, discounted by {g} a token"),
    };
    let likely = match distillation.prefix_ratio {
        0.0 => String::new(),
        p => format!(
            ", prefixes weighing min(1, (teacher / student)^{p}) of what the student makes of them"
        ),
    };
    let early = match distillation.prefix_weight {
        0.0 => String::new(),
        w => format!(", early tokens weighing up to {}", 1.0 + w),
    };
    format!("{kl_coef} x {goal} {horizon}{likely}{early}")
}

fn reference(objective: &ObjectiveConfig) -> String {
    let of = match (objective.kl_loss_type, objective.kl_loss_unbiased) {
        (KlKind::K1, false) => "nothing (k1 as a loss)",
        (KlKind::K2, false) => "KL(student || start policy)",
        (KlKind::K3 | KlKind::LowVarKl, false) => "KL(start policy || student)",
        (KlKind::K2, true) => "half the mean squared log-ratio to the start policy",
        (KlKind::K1 | KlKind::K3 | KlKind::LowVarKl, true) => "KL(student || start policy)",
    };
    format!("{} x {of}", objective.kl_loss_coef)
}
