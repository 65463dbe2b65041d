//! What a configuration trains, and what it says that it does not do.
//!
//! A rule looks at a whole [`TrainConfig`] and may find one thing. Refusals end `opd train`
//! before anything is loaded; warnings are shown. Each rule's test shows with numbers what would
//! have gone wrong.

mod combinations;
mod gradient;
mod groups;
mod lora;
mod own_teacher;
mod reference_kl;
mod sampling;
mod teacher;
mod top_k;
mod unread;

pub use self::gradient::expected_gradient;
use crate::config::TrainConfig;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The run would not train what it says.
    Refuse,
    /// The run does something that is easily overlooked.
    Warn,
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The rule's name.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Which settings, and what they do.
    pub reason: String,
    /// What to do instead.
    pub remedy: &'static str,
}

/// What all rules found, and what the expected gradient is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Lint {
    /// The terms that the expected gradient is of, one a line.
    pub gradient: Vec<String>,
    /// Refusals and warnings, in the order of [`RULES`].
    pub findings: Vec<Finding>,
}

impl Lint {
    /// Findings that end the run.
    pub fn refusals(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Refuse)
    }

    /// Findings that are shown.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Warn)
    }
}

/// A name and a look at the whole configuration.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Name, as in the documentation.
    pub name: &'static str,
    severity: Severity,
    check: fn(&TrainConfig) -> Option<Said>,
}

/// What a rule says: reason and remedy.
type Said = (String, &'static str);

const fn refuse(name: &'static str, check: fn(&TrainConfig) -> Option<Said>) -> Rule {
    Rule { name, severity: Severity::Refuse, check }
}

const fn warn(name: &'static str, check: fn(&TrainConfig) -> Option<Said>) -> Rule {
    Rule { name, severity: Severity::Warn, check }
}

/// Every rule.
pub const RULES: &[Rule] = &[
    refuse("k1-as-loss", reference_kl::k1_as_loss),
    warn("k3-as-loss", reference_kl::k3_as_loss),
    warn("k2-weighted", reference_kl::k2_weighted),
    refuse("divergence-without-teacher", teacher::divergence_without_teacher),
    refuse("divergence-across-tokenizers", teacher::divergence_across_tokenizers),
    refuse("one-vocabulary-sorted", teacher::one_vocabulary),
    refuse("nothing-to-learn", teacher::nothing_to_learn),
    warn("teacher-temperature", teacher::other_temperature),
    warn("teacher-temperature-unknown", teacher::temperature_unknown),
    warn("whitened-distillation", teacher::whitened_distillation),
    refuse("own-teacher-agrees", own_teacher::agrees),
    refuse("ema-never-moves", own_teacher::never_moves),
    warn("ema-decay-not-read", own_teacher::decay_not_read),
    warn("lora-learning-rate", lora::learning_rate),
    refuse("top-1-renormalised", top_k::one_renormalised),
    refuse("top-k-truncated", top_k::truncated),
    refuse("single-sample-group", groups::single_sample),
    refuse("team-larger-than-group", groups::team_larger_than_group),
    warn("negative-rewards-of-max-rl", groups::negative_rewards),
    warn("length-bias", groups::length_bias),
    warn("truncated-sampling", sampling::truncated_sampling),
    warn("no-ratio", sampling::no_ratio),
    warn("nothing-to-correct", sampling::nothing_to_correct),
    warn("mask-never-acts", sampling::mask_never_acts),
    refuse("sft-on-own-samples", combinations::sft_on_own_samples),
    refuse("policy-loss-on-labels", combinations::policy_loss_on_labels),
    refuse("unweighted-off-policy", combinations::unweighted_off_policy),
    refuse("old-is-not-the-student", combinations::old_is_not_the_student),
    refuse("mixing-nothing", combinations::mixing_nothing),
    refuse("greedy-policy-samples", combinations::greedy_policy_samples),
    warn("greedy-repeats", combinations::greedy_repeats),
    refuse("mix-not-read", combinations::mix_not_read),
    refuse("reward-not-read", unread::reward),
    warn("signal-not-read", unread::signal),
    refuse("kl-coef-not-read", unread::kl_coef),
    warn("gamma-not-read", unread::gamma),
    warn("lambda-not-read", unread::lambda),
    refuse("critic-not-read", unread::critic),
    warn("value-loss-not-read", unread::value_loss),
    warn("value-clip-never-acts", unread::value_clip),
    warn("penalty-not-read", unread::penalty),
    refuse("kl-loss-not-read", unread::kl_loss),
    warn("correction-not-read", unread::correction),
];

/// Looks at a configuration with every rule.
pub fn lint(config: &TrainConfig) -> Lint {
    let find = |rule: &Rule| {
        let (reason, remedy) = (rule.check)(config)?;
        Some(Finding { rule: rule.name, severity: rule.severity, reason, remedy })
    };
    Lint { gradient: expected_gradient(config), findings: RULES.iter().filter_map(find).collect() }
}
