/// Keys of the TOML file and the flags that set them.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("name", "name"),
    ("steps", "steps"),
    ("seed", "seed"),
    ("precision", "precision"),
    ("frozen_weights", "frozen-weights"),
    ("student.path", "hf-checkpoint"),
    ("student.reference", "ref-load"),
    ("student.lora.rank", "lora-rank"),
    ("student.lora.alpha", "lora-alpha"),
    ("student.lora.target_modules", "lora-target-modules"),
    ("student.lora.rslora", "lora-rslora"),
    ("student.lora.adapter", "lora-adapter"),
    ("data.train", "prompt-data"),
    ("data.validation", "validation-prompt-data"),
    ("data.test", "eval-prompt-data"),
    ("data.eval_sets", "eval-set"),
    ("data.input_key", "input-key"),
    ("data.label_key", "label-key"),
    ("data.tool_key", "tool-key"),
    ("data.chat_template", "apply-chat-template"),
    ("data.chat_template_kwargs", "apply-chat-template-kwargs"),
    ("data.max_prompt_tokens", "rollout-max-prompt-len"),
    ("data.bad_rows", "bad-rows"),
    ("reward.type", "rm-type"),
    ("reward.pattern", "rm-pattern"),
    ("reward.urls", "reward-url"),
    ("reward.api_key_env", "reward-api-key-env"),
    ("reward.api_key_file", "reward-api-key-file"),
    ("rollout.responses", "responses"),
    ("rollout.mix.student", "mix-student"),
    ("rollout.mix.label", "mix-label"),
    ("rollout.mix.teacher", "mix-teacher"),
    ("rollout.mix.by", "mix-by"),
    ("rollout.teacher_temperature", "teacher-temperature"),
    ("rollout.teacher_mixed_alpha", "teacher-mixed-alpha"),
    ("rollout.prompts", "rollout-batch-size"),
    ("rollout.samples_per_prompt", "n-samples-per-prompt"),
    ("rollout.max_response_tokens", "rollout-max-response-len"),
    ("rollout.temperature", "rollout-temperature"),
    ("rollout.top_p", "rollout-top-p"),
    ("rollout.top_k", "rollout-top-k"),
    ("rollout.min_p", "rollout-min-p"),
    ("rollout.repetition_penalty", "rollout-repetition-penalty"),
    ("rollout.stop", "rollout-stop"),
    ("rollout.stop_token_ids", "rollout-stop-token-ids"),
    ("rollout.max_sequences", "rollout-max-sequences"),
    ("rollout.packed_weights", "rollout-packed-weights"),
    ("rollout.shuffle", "rollout-shuffle"),
    ("rollout.dump_interval", "dump-rollouts"),
    ("distillation.type", "opd-type"),
    ("distillation.kl_coef", "opd-kl-coef"),
    ("distillation.discount", "opd-kl-discount"),
    ("distillation.extrapolation", "opd-extrapolation"),
    ("distillation.prefix_weight", "opd-prefix-weight"),
    ("distillation.prefix_ratio", "opd-prefix-ratio"),
    ("distillation.teacher", "opd-teacher-load"),
    ("distillation.teacher_step", "opd-teacher-ckpt-step"),
    ("distillation.tokenizer", "opd-teacher-tokenizer"),
    ("distillation.urls", "rm-url"),
    ("distillation.api_key_env", "rm-api-key-env"),
    ("distillation.api_key_file", "rm-api-key-file"),
    ("distillation.ema_decay", "opd-ema-decay"),
    ("distillation.prompt_key", "opd-teacher-prompt-key"),
    ("distillation.prompt_template", "opd-teacher-prompt-template"),
    ("distillation.max_missing", "opd-missing-max"),
    ("distillation.journal", "opd-journal"),
    ("distillation.teacher_identity", "opd-teacher-identity"),
    ("distillation.accept_temperature_bias", "opd-accept-temperature-bias"),
    ("objective.estimator", "advantage-estimator"),
    ("objective.baseline", "reward-baseline"),
    ("objective.pass_k", "pass-k"),
    ("objective.truncated", "truncated-responses"),
    ("objective.truncation_penalty", "truncation-penalty"),
    ("objective.overlong_buffer", "overlong-buffer-len"),
    ("objective.whiten", "normalize-advantages"),
    ("objective.loss", "loss"),
    ("objective.aggregation", "loss-aggregation"),
    ("objective.old_logprobs", "old-logprobs"),
    ("objective.clip.below", "eps-clip"),
    ("objective.clip.above", "eps-clip-high"),
    ("objective.clip.dual", "eps-clip-c"),
    ("objective.jsd_beta", "jsd-beta"),
    ("objective.skew_alpha", "skew-alpha"),
    ("objective.mixed_forward", "mixed-forward"),
    ("objective.top_k", "loss-top-k"),
    ("objective.top_k_support", "top-k-support"),
    ("objective.top_k_tail", "top-k-tail"),
    ("objective.length_normalised", "length-normalised"),
    ("objective.allow_biased", "allow-biased"),
    ("objective.correction.kind", "sampler-correction"),
    ("objective.correction.grain", "sampler-correction-grain"),
    ("objective.correction.high", "tis-clip"),
    ("objective.correction.low", "tis-clip-low"),
    ("objective.opsm_delta", "opsm-delta"),
    ("objective.entropy_coef", "entropy-coef"),
    ("objective.kl_loss_coef", "kl-loss-coef"),
    ("objective.kl_loss_type", "kl-loss-type"),
    ("objective.kl_loss_unbiased", "use-unbiased-kl"),
    ("objective.kl_coef", "kl-coef"),
    ("objective.gamma", "gamma"),
    ("objective.lambda", "lambd"),
    ("objective.critic.kind", "critic"),
    ("objective.critic.path", "critic-load"),
    ("objective.critic.lr", "critic-lr"),
    ("objective.critic.value_clip", "value-clip"),
    ("objective.critic.student_coef", "value-loss-coef"),
    ("sft.coef", "sft-coef"),
    ("sft.prompts", "sft-batch-size"),
    ("sft.data", "sft-data"),
    ("optimizer.lr", "lr"),
    ("optimizer.warmup", "lr-warmup"),
    ("optimizer.warmup_fraction", "lr-warmup-fraction"),
    ("optimizer.schedule", "lr-schedule"),
    ("optimizer.decay_updates", "lr-decay-iters"),
    ("optimizer.min_lr_ratio", "min-lr-ratio"),
    ("optimizer.beta1", "adam-beta1"),
    ("optimizer.beta2", "adam-beta2"),
    ("optimizer.eps", "adam-eps"),
    ("optimizer.weight_decay", "weight-decay"),
    ("optimizer.clip_grad", "clip-grad"),
    ("optimizer.updates_per_batch", "updates-per-batch"),
    ("optimizer.token_budget", "token-budget"),
    ("optimizer.micro_batches_at_once", "micro-batches-at-once"),
    ("optimizer.activation_checkpointing", "activation-checkpointing"),
    ("evaluation.interval", "eval-interval"),
    ("evaluation.validation_prompts", "validation-prompts"),
    ("evaluation.test_prompts", "eval-prompts"),
    ("evaluation.samples_per_prompt", "n-samples-per-eval-prompt"),
    ("evaluation.temperature", "eval-temperature"),
    ("evaluation.top_p", "eval-top-p"),
    ("evaluation.top_k", "eval-top-k"),
    ("evaluation.max_response_tokens", "eval-max-response-len"),
    ("evaluation.teacher", "eval-teacher"),
    ("checkpoints.interval", "save-interval"),
    ("checkpoints.keep_last", "keep-last"),
    ("checkpoints.max_shard_bytes", "max-shard-bytes"),
    ("stop.action", "stop-action"),
    ("wandb.project", "wandb-project"),
    ("wandb.group", "wandb-group"),
    ("wandb.team", "wandb-team"),
];

/// The flag of a key, `--lr` of `optimizer.lr`.
pub(crate) fn flag_of(key: &str) -> Option<String> {
    KEYS.iter().find(|(held, _)| *held == key).map(|(_, flag)| format!("--{flag}"))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};
    use opd_train::config::{DistillationConfig, LoraConfig, TrainConfig};
    use toml::Value;

    use super::*;
    use crate::{Cli, Command, config::Shape};

    /// A value of each flag that is not its default, as flag and as TOML.
    fn sample(key: &str, shape: &Shape, default: Option<&Value>) -> (String, Value) {
        match shape {
            Shape::Integer => ("37".into(), Value::Integer(37)),
            Shape::Number => ("0.375".into(), Value::Float(0.375)),
            Shape::Bool => ("false".into(), Value::Boolean(false)),
            Shape::OneOf(names) => {
                let other = |name: &&&str| default != Some(&Value::from(**name));
                let name = names.iter().filter(|name| **name != "megatron").find(other).unwrap();
                ((*name).to_owned(), Value::from(*name))
            }
            Shape::List if key.ends_with("_ids") => ("37".into(), Value::Array(vec![37.into()])),
            Shape::List => ("http://h".into(), Value::Array(vec!["http://h".into()])),
            _ => ("text".into(), Value::from("text")),
        }
    }

    fn at<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
        key.split('.').try_fold(value, |value, name| value.get(name))
    }

    fn shape_at<'a>(shape: &'a Shape, key: &str) -> &'a Shape {
        key.split('.').fold(shape, |shape, name| {
            let Shape::Table(fields) = shape else { panic!("{key}") };
            fields.iter().find(|(field, _)| *field == name).map(|(_, shape)| shape).unwrap()
        })
    }

    #[test]
    fn every_flag_sets_its_key_and_no_other() {
        let shape = Shape::of::<TrainConfig>();
        let mut start = TrainConfig {
            distillation: Some(DistillationConfig {
                accept_temperature_bias: true,
                ..DistillationConfig::default()
            }),
            ..TrainConfig::default()
        };
        start.evaluation.teacher = true;
        start.objective.whiten = true;
        start.data.chat_template = true;
        start.objective.allow_biased = true;
        start.objective.kl_loss_unbiased = true;
        start.optimizer.activation_checkpointing = Some(true);
        start.student.lora = Some(LoraConfig { rslora: true, ..LoraConfig::default() });
        let before = Value::try_from(&start).unwrap();
        for (key, flag) in KEYS {
            let (text, expected) = sample(key, shape_at(&shape, key), at(&before, key));
            assert_ne!(at(&before, key), Some(&expected), "{key}");
            let line = ["opd", "train", &format!("--{flag}={text}")];
            let matches = Cli::command().try_get_matches_from(line).unwrap();
            let Command::Train(args) = Cli::from_arg_matches(&matches).unwrap().command else {
                panic!("not train")
            };
            let mut config = start.clone();
            args.apply(&mut config).unwrap();
            let after = Value::try_from(&config).unwrap();
            assert_eq!(at(&after, key), Some(&expected), "--{flag}");
            for (other, _) in KEYS.iter().filter(|(other, _)| *other != *key) {
                let with_it = *flag == "eps-clip" && *other == "objective.clip.above";
                let same = at(&after, other) == at(&before, other);
                assert!(same || with_it, "--{flag} changed {other}");
            }
        }
    }

    #[test]
    fn every_flag_of_a_setting_is_in_the_table() {
        let cli = Cli::command();
        let flags = cli.find_subcommand("train").unwrap().get_arguments();
        let no_setting = [
            "config",
            "output",
            "overwrite",
            "continue",
            "defaults",
            "use-wandb",
            "skip-teacher-check",
            "resume",
            "print-config",
            "device",
            "threads",
            "quiet",
            "use-opd",
            "help",
            "version",
        ];
        for flag in flags.filter_map(|flag| flag.get_long()) {
            let listed = KEYS.iter().any(|(_, held)| *held == flag);
            assert_ne!(listed, no_setting.contains(&flag), "--{flag}");
        }
    }
}
