use clap::Args;
use opd_train::config::{
    AggregationKind, BaselineKind, CorrectionGrain, CorrectionKind, EstimatorKind, KlKind,
    LossKind, OldLogprobs, SupportKind, TailKind, TruncatedKind,
};
use serde::Serialize;

use crate::config::choices;

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Advantages and loss")]
pub(super) struct ObjectiveFlags {
    /// Estimator of the advantage from task rewards, to which distillation adds its signal;
    /// `zero` is pure distillation
    #[arg(long, value_name = "NAME", value_parser = choices::<EstimatorKind>())]
    advantage_estimator: Option<EstimatorKind>,
    /// What --advantage-estimator reinforce takes off a reward
    #[arg(long, value_name = "NAME", value_parser = choices::<BaselineKind>())]
    reward_baseline: Option<BaselineKind>,
    /// Answers per team of --advantage-estimator pass_at_k
    #[arg(long, value_name = "N")]
    pass_k: Option<usize>,
    /// What becomes of answers that reached the token limit
    #[arg(long, value_name = "NAME", value_parser = choices::<TruncatedKind>())]
    truncated_responses: Option<TruncatedKind>,
    /// What `penalise` and `overlong` take off the reward of such an answer
    #[arg(long, value_name = "X")]
    truncation_penalty: Option<f64>,
    /// Tokens before the limit over which `overlong` grows
    #[arg(long, value_name = "TOKENS")]
    overlong_buffer_len: Option<usize>,
    /// Give advantages mean 0 and deviation 1 over each batch
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    normalize_advantages: Option<bool>,
    /// The loss: a policy loss over sampled tokens, a divergence over the whole vocabulary
    /// (reverse_kl, forward_kl, jsd, skew_*, mixed_kl, tvd) or over the likeliest ids (top_k_*),
    /// both (mini_llm), or cross-entropy (sft)
    #[arg(long, value_name = "NAME", value_parser = choices::<LossKind>())]
    loss: Option<LossKind>,
    /// How the losses of tokens become one number
    #[arg(long, value_name = "NAME", value_parser = choices::<AggregationKind>())]
    loss_aggregation: Option<AggregationKind>,
    /// Whose log-probs the importance ratio starts from
    #[arg(long, value_name = "WHOSE", value_parser = choices::<OldLogprobs>())]
    old_logprobs: Option<OldLogprobs>,
    /// Keep the importance ratio above 1 - X, and under 1 + X unless --eps-clip-high is given
    #[arg(long, value_name = "X")]
    eps_clip: Option<f64>,
    /// Keep the importance ratio under 1 + X
    #[arg(long, value_name = "X")]
    eps_clip_high: Option<f64>,
    /// Dual clip: bound, above 1, of the ratio where the advantage is negative
    #[arg(long, value_name = "X")]
    eps_clip_c: Option<f64>,
    /// Weight of the teacher in the mixture of --loss jsd, from 0 to 1
    #[arg(long, value_name = "X")]
    jsd_beta: Option<f64>,
    /// Weight of the own side in the mixture of --loss skew_forward_kl and skew_reverse_kl
    #[arg(long, value_name = "X")]
    skew_alpha: Option<f64>,
    /// Weight of the forward KL in --loss mixed_kl, from 0 to 1
    #[arg(long, value_name = "X")]
    mixed_forward: Option<f64>,
    /// Ids per token of --loss top_k_forward_kl and top_k_reverse_kl
    #[arg(long, value_name = "K")]
    loss_top_k: Option<usize>,
    /// Whose likeliest ids these are
    #[arg(long, value_name = "WHOSE", value_parser = choices::<SupportKind>())]
    top_k_support: Option<SupportKind>,
    /// What is done with the probability outside them
    #[arg(long, value_name = "NAME", value_parser = choices::<TailKind>())]
    top_k_tail: Option<TailKind>,
    /// Divide what follows a token by the number of tokens that follow, in --loss mini_llm
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    length_normalised: Option<bool>,
    /// Accept a loss that is known to be biased
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    allow_biased: Option<bool>,
    /// Correct policy losses for a sampler that computes something else than the trainer:
    /// truncate is TIS, reject is IcePop
    #[arg(long, value_name = "NAME", value_parser = choices::<CorrectionKind>())]
    sampler_correction: Option<CorrectionKind>,
    /// What one weight of the correction is of
    #[arg(long, value_name = "NAME", value_parser = choices::<CorrectionGrain>())]
    sampler_correction_grain: Option<CorrectionGrain>,
    /// Upper bound of the correction's weight
    #[arg(long, value_name = "X")]
    tis_clip: Option<f64>,
    /// Lower bound of the correction's weight
    #[arg(long, value_name = "X")]
    tis_clip_low: Option<f64>,
    /// Off-policy sequence masking: mean log-ratio, in nats, above which the bad tokens of an
    /// answer are masked
    #[arg(long, value_name = "X")]
    opsm_delta: Option<f64>,
    /// Weight of the entropy bonus
    #[arg(long, value_name = "X")]
    entropy_coef: Option<f64>,
    /// Weight, in the loss, of the KL to the student before training
    #[arg(long, value_name = "X")]
    kl_loss_coef: Option<f64>,
    /// Its estimator
    #[arg(long, value_name = "NAME", value_parser = choices::<KlKind>())]
    kl_loss_type: Option<KlKind>,
    /// Weigh it by the importance ratio, so that its gradient is that of the KL
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    use_unbiased_kl: Option<bool>,
    /// Weight, in the reward, of the KL to the student before training
    #[arg(long, value_name = "X")]
    kl_coef: Option<f64>,
    /// Discount of rewards, from 0 to 1
    #[arg(long, value_name = "X")]
    gamma: Option<f64>,
    /// How far --advantage-estimator ppo looks past the critic's next value: 0 trusts it, 1
    /// takes the whole return
    #[arg(long, value_name = "X")]
    lambd: Option<f64>,
}
