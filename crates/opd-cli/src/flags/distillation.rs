use std::path::PathBuf;

use clap::Args;
use opd_train::config::{DistillationConfig, TeacherKind};

use crate::{
    config::choices,
    failure::Failure,
    flags::{set, set_some},
};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Distillation")]
pub(super) struct DistillationFlags {
    /// Learn from a teacher: --opd-type says where it is
    #[arg(long)]
    use_opd: bool,
    /// Where the teacher is: `in-process` (--opd-teacher-load), `sglang` or `vllm` (--rm-url;
    /// `opd serve` is asked as sglang), or nowhere any more: `replay` takes its scores from
    /// --opd-journal; `megatron` is another name of in-process
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
    /// The teacher of type in-process: a Hugging Face model directory with the student's
    /// tokenizer
    #[arg(long, value_name = "DIR")]
    opd_teacher_load: Option<PathBuf>,
    /// Take checkpoints/step-N of --opd-teacher-load, which is then one of our own run
    /// directories
    #[arg(long, value_name = "N")]
    opd_teacher_ckpt_step: Option<u64>,
    /// Whose scores type replay takes, where --opd-journal holds those of several teachers
    #[arg(long, value_name = "TEXT")]
    opd_teacher_identity: Option<String>,
    /// The teacher of type sglang or vllm: URL of a server; repeat it for several of one model
    #[arg(long, value_name = "URL")]
    rm_url: Vec<String>,
    /// Environment variable that holds the servers' bearer key
    #[arg(long, value_name = "NAME")]
    rm_api_key_env: Option<String>,
    /// File that holds the servers' bearer key
    #[arg(long, value_name = "FILE")]
    rm_api_key_file: Option<PathBuf>,
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
    pub(super) fn any(&self) -> bool {
        self.use_opd || !self.settings().is_empty()
    }

    /// The given flags, but for `--use-opd`.
    fn settings(&self) -> Vec<&'static str> {
        let given = [
            ("--opd-type", self.opd_type.is_some()),
            ("--opd-kl-coef", self.opd_kl_coef.is_some()),
            ("--opd-kl-discount", self.opd_kl_discount.is_some()),
            ("--opd-extrapolation", self.opd_extrapolation.is_some()),
            ("--opd-prefix-weight", self.opd_prefix_weight.is_some()),
            ("--opd-teacher-load", self.opd_teacher_load.is_some()),
            ("--opd-teacher-ckpt-step", self.opd_teacher_ckpt_step.is_some()),
            ("--opd-teacher-identity", self.opd_teacher_identity.is_some()),
            ("--rm-url", !self.rm_url.is_empty()),
            ("--rm-api-key-env", self.rm_api_key_env.is_some()),
            ("--rm-api-key-file", self.rm_api_key_file.is_some()),
            ("--opd-missing-max", self.opd_missing_max.is_some()),
            ("--opd-journal", self.opd_journal.is_some()),
            ("--opd-accept-temperature-bias", self.opd_accept_temperature_bias.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// `distillation` is that of the file, if it has one.
    pub(super) fn apply(
        &self,
        distillation: &mut Option<DistillationConfig>,
    ) -> anyhow::Result<()> {
        let settings = self.settings();
        if distillation.is_none() && !self.use_opd {
            return match settings.first() {
                None => Ok(()),
                Some(flag) => Err(Failure::usage(format!(
                    "{flag} without --use-opd: there is no distillation to set; add --use-opd, \
                     or drop {}",
                    settings.join(", ")
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
        if let Some(kind) = self.opd_type.filter(|&kind| kind != config.kind) {
            // What the file says of the other kind of teacher does not hold for this one.
            (config.teacher, config.teacher_step, config.urls) = (None, None, Vec::new());
            (config.api_key_env, config.api_key_file) = (None, None);
            config.teacher_identity = None;
            config.kind = kind;
        }
        set(&mut config.kl_coef, &self.opd_kl_coef);
        set(&mut config.discount, &self.opd_kl_discount);
        set(&mut config.extrapolation, &self.opd_extrapolation);
        set(&mut config.prefix_weight, &self.opd_prefix_weight);
        if let Some(teacher) = &self.opd_teacher_load {
            (config.teacher, config.teacher_step) = (Some(teacher.clone()), None);
        }
        set_some(&mut config.teacher_step, &self.opd_teacher_ckpt_step);
        set_some(&mut config.teacher_identity, &self.opd_teacher_identity);
        if !self.rm_url.is_empty() {
            config.urls.clone_from(&self.rm_url);
        }
        set_some(&mut config.api_key_env, &self.rm_api_key_env);
        set_some(&mut config.api_key_file, &self.rm_api_key_file);
        set(&mut config.max_missing, &self.opd_missing_max);
        set_some(&mut config.journal, &self.opd_journal);
        set(&mut config.accept_temperature_bias, &self.opd_accept_temperature_bias);
        Ok(())
    }
}
