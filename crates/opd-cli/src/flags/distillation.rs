use std::path::PathBuf;

use clap::Args;
use opd_train::config::{DistillationConfig, TeacherKind};
use serde::Serialize;

use crate::{config::choices, failure::Failure, flags::settings::Setting};

#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Distillation")]
pub(super) struct DistillationFlags {
    /// Learn from a teacher: --opd-type says where it is
    #[arg(long)]
    pub(super) use_opd: bool,
    /// Where the teacher is: `in-process` (--opd-teacher-load), `sglang` or `vllm` (--rm-url;
    /// `opd serve` is asked as sglang); `start`, the student before training; `ema`, a moving
    /// average of the student; or nowhere any more: `replay` takes its scores from --opd-journal;
    /// `megatron` is another name of in-process
    #[arg(long, value_name = "TYPE", value_parser = choices::<TeacherKind>())]
    opd_type: Option<TeacherKind>,
    /// Weight of the reverse KL to the teacher
    #[arg(long, value_name = "X")]
    opd_kl_coef: Option<f64>,
    /// How much a token answers for the KL of those after it, from 0 (not at all) to 1
    #[arg(long, value_name = "X")]
    opd_kl_discount: Option<f64>,
    /// How far to go from the student before training towards the teacher: 1 to the teacher,
    /// more goes beyond
    #[arg(long, value_name = "X")]
    opd_extrapolation: Option<f64>,
    /// Weigh early tokens up to 1 + X, by the share of the disagreement that is yet to come
    #[arg(long, value_name = "X")]
    opd_prefix_weight: Option<f64>,
    /// Weigh tokens by the probability ratio of what came before, teacher over student and at most
    /// 1, to the power X: 0 weighs all the same, 1 is the ratio itself
    #[arg(long, value_name = "X")]
    opd_prefix_ratio: Option<f64>,
    /// The teacher of type in-process, with the student's tokenizer: a Hugging Face model
    /// directory, a GGUF file, or a name on the hub
    #[arg(long, value_name = "MODEL")]
    opd_teacher_load: Option<PathBuf>,
    /// Take checkpoints/step-N of --opd-teacher-load, which is then one of our own run
    /// directories
    #[arg(long, value_name = "N")]
    opd_teacher_ckpt_step: Option<u64>,
    /// Whose scores type replay takes, where --opd-journal holds those of several teachers
    #[arg(long, value_name = "TEXT")]
    opd_teacher_identity: Option<String>,
    /// Directory of the teacher's tokenizer.json, where it is not the student's: what the student
    /// writes is cut anew for the teacher, and scores are aligned by the text
    #[arg(long, value_name = "DIR")]
    opd_teacher_tokenizer: Option<PathBuf>,
    /// The teacher of type sglang or vllm: URL of a server; repeat it for several of one model
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rm_url: Vec<String>,
    /// Environment variable that holds the servers' bearer key
    #[arg(long, value_name = "NAME")]
    rm_api_key_env: Option<String>,
    /// File that holds the servers' bearer key
    #[arg(long, value_name = "FILE")]
    rm_api_key_file: Option<PathBuf>,
    /// How much of itself the teacher of type ema keeps at every step
    #[arg(long, value_name = "X")]
    opd_ema_decay: Option<f64>,
    /// Field of the prompt file that the teacher sees instead of the prompt, with what only it is
    /// to know
    #[arg(long, value_name = "KEY")]
    opd_teacher_prompt_key: Option<String>,
    /// What the teacher sees instead of the prompt, with {prompt} and {label} in their places
    #[arg(long, value_name = "TEXT")]
    opd_teacher_prompt_template: Option<String>,
    /// Fraction of a batch's tokens that may lack a score; a batch with more ends the run before
    /// it is trained on
    #[arg(long, value_name = "X")]
    opd_missing_max: Option<f64>,
    /// Keep the teacher's scores in this file and take them from it; a resumed run or another
    /// loss then asks only for what is new
    #[arg(long, value_name = "FILE")]
    opd_journal: Option<PathBuf>,
    /// Compare samples at --rollout-temperature with a teacher that scores at temperature 1
    /// only: the KL, and what is learned, is biased
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    opd_accept_temperature_bias: Option<bool>,
}

impl DistillationFlags {
    /// Makes room for the given flags; `distillation` is that of the file, if it has one.
    pub(super) fn prepare(
        &self,
        distillation: &mut Option<DistillationConfig>,
        settings: &[Setting],
    ) -> anyhow::Result<()> {
        let own = settings.iter().filter(|setting| setting.key.starts_with("distillation."));
        let own: Vec<String> = own.map(|setting| format!("--{}", setting.flag)).collect();
        if distillation.is_none() && !self.use_opd {
            return match own.first() {
                None => Ok(()),
                Some(flag) => Err(Failure::usage(format!(
                    "{flag} without --use-opd: there is no distillation to set; add --use-opd, \
                     or drop {}",
                    own.join(", ")
                ))),
            };
        }
        if distillation.is_none() && self.opd_type.is_none() {
            return Err(Failure::usage(
                "--use-opd without --opd-type: say where the teacher is, with --opd-type \
                 in-process --opd-teacher-load DIR or with --opd-type sglang --rm-url URL",
            ));
        }
        let config = distillation.get_or_insert_default();
        if self.opd_type.is_some_and(|kind| kind != config.kind) {
            // What the file says of the other kind of teacher does not hold for this one.
            (config.teacher, config.teacher_step, config.urls) = (None, None, Vec::new());
            config.tokenizer = None;
            (config.api_key_env, config.api_key_file) = (None, None);
            config.teacher_identity = None;
        }
        if self.opd_teacher_load.is_some() {
            config.teacher_step = None;
        }
        Ok(())
    }
}
