use clap::Args;
use opd_train::config::{
    AggregationKind, EstimatorKind, KlKind, LossKind, ObjectiveConfig, OldLogprobs,
};

use crate::{
    config::choices,
    flags::{set, set_some},
};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Advantages and loss")]
pub(super) struct ObjectiveFlags {
    /// Estimator of the advantage from task rewards, to which distillation adds its signal;
    /// `zero` is pure distillation
    #[arg(long, value_name = "NAME", value_parser = choices::<EstimatorKind>())]
    advantage_estimator: Option<EstimatorKind>,
    /// Give advantages mean 0 and deviation 1 over each batch
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    normalize_advantages: Option<bool>,
    /// The loss: a policy loss over sampled tokens, or a divergence over the whole vocabulary
    /// (reverse_kl, forward_kl, jsd)
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
    /// Weight of the entropy bonus
    #[arg(long, value_name = "X")]
    entropy_coef: Option<f64>,
    /// Weight, in the loss, of the KL to the student before training
    #[arg(long, value_name = "X")]
    kl_loss_coef: Option<f64>,
    /// Its estimator
    #[arg(long, value_name = "NAME", value_parser = choices::<KlKind>())]
    kl_loss_type: Option<KlKind>,
    /// Weight, in the reward, of the KL to the student before training
    #[arg(long, value_name = "X")]
    kl_coef: Option<f64>,
    /// Discount of rewards, from 0 to 1
    #[arg(long, value_name = "X")]
    gamma: Option<f64>,
}

impl ObjectiveFlags {
    pub(super) fn apply(&self, objective: &mut ObjectiveConfig) {
        set(&mut objective.estimator, &self.advantage_estimator);
        set(&mut objective.whiten, &self.normalize_advantages);
        set(&mut objective.loss, &self.loss);
        set(&mut objective.aggregation, &self.loss_aggregation);
        set(&mut objective.old_logprobs, &self.old_logprobs);
        set(&mut objective.clip.below, &self.eps_clip);
        set(&mut objective.clip.above, &self.eps_clip_high.or(self.eps_clip));
        set_some(&mut objective.clip.dual, &self.eps_clip_c);
        set(&mut objective.jsd_beta, &self.jsd_beta);
        set(&mut objective.entropy_coef, &self.entropy_coef);
        set(&mut objective.kl_loss_coef, &self.kl_loss_coef);
        set(&mut objective.kl_loss_type, &self.kl_loss_type);
        set(&mut objective.kl_coef, &self.kl_coef);
        set(&mut objective.gamma, &self.gamma);
    }
}
