//! Flags without a counterpart here.

use crate::slime::{
    line::Given,
    rule::{Answer, Rule, not_needed, only, refused},
};

/// The first rule of a name counts.
const RULES: &[Rule] = &[
    // Refusals that a prefix below would swallow.
    refused(
        &["sglang-speculative*", "sglang-quantization", "sglang-kv-cache-dtype", "sglang-lora*"],
        "the student is sampled as it is trained, in this process; drop it",
    ),
    refused(
        &["moe-aux-loss-coeff", "moe-z-loss-coeff"],
        "mixtures of experts are not trained here; drop it",
    ),
    // Where things run.
    not_needed(
        &[
            "actor-num-*",
            "rollout-num-gpus*",
            "num-gpus-per-node",
            "colocate",
            "offload*",
            "no-offload*",
            "train-backend",
            "train-env-vars",
            "distributed-*",
            "ray-*",
            "release-train",
            "rollout-data-transport",
            "use-distributed-post",
            "http-proxy",
            "critic-num-*",
            "prefill-num-servers",
        ],
        "training and sampling share one process; see --device",
    ),
    not_needed(
        &[
            "tensor-model-parallel-size",
            "pipeline-model-parallel-size",
            "context-parallel-size",
            "expert-model-parallel-size",
            "expert-tensor-parallel-size",
            "sequence-parallel",
            "num-layers-per-virtual-pipeline-stage",
            "decoder-first-pipeline-num-layers",
            "decoder-last-pipeline-num-layers",
            "use-distributed-optimizer",
            "overlap-*",
            "tp-comm-*",
            "ddp-*",
            "cp-comm-type",
            "allgather-cp",
            "balance-data",
            "account-for-*",
            "no-*-fusion",
            "use-precision-aware-optimizer",
            "optimizer-cpu-offload",
            "data-parallel-*",
            "use-torch-fsdp2",
            "use-megatron-fsdp",
        ],
        "one process holds the whole model",
    ),
    not_needed(
        &[
            "sglang-*",
            "router-*",
            "use-slime-router",
            "slime-router-*",
            "use-fault-tolerance",
            "rollout-health-check-*",
            "update-weight-*",
            "check-weight-update-equal",
            "custom-update-weight-*",
            "rollout-buffer-url",
            "fetch-trajectory-retry-times",
            "min-batch-collection-ratio",
        ],
        "the student is sampled in this process, with the weights that are trained",
    ),
    // How the model is computed.
    not_needed(
        &[
            "swiglu",
            "num-layers",
            "hidden-size",
            "ffn-hidden-size",
            "num-attention-heads",
            "group-query-attention",
            "num-query-groups",
            "use-rotary-position-embeddings",
            "position-embedding-type",
            "disable-bias-linear",
            "add-qkv-bias",
            "add-bias-linear",
            "normalization",
            "norm-epsilon",
            "rotary-*",
            "use-rope-scaling",
            "rope-*",
            "no-rope-fusion",
            "vocab-size",
            "padded-vocab-size",
            "make-vocab-size-divisible-by",
            "kv-channels",
            "qk-layernorm",
            "untie-embeddings-and-output-weights",
            "max-position-embeddings",
            "seq-length",
            "model-name",
            "tokenizer-type",
            "tokenizer-model",
            "trust-remote-code",
            "spec",
        ],
        "config.json of --hf-checkpoint says it",
    ),
    not_needed(
        &[
            "recompute-*",
            "log-probs-chunk-size",
            "log-probs-max-tokens-per-gpu",
            "micro-batch-size",
            "data-pad-size-multiplier",
            "train-memory-margin-bytes",
        ],
        "--token-budget and --activation-checkpointing bound the memory, and change no result",
    ),
    not_needed(
        &[
            "bf16",
            "accumulate-allreduce-grads-in-fp32",
            "attention-softmax-in-fp32",
            "attention-backend",
            "transformer-impl",
            "grad-reduce-in-bf16",
            "loss-scale",
            "initial-loss-scale",
            "qwen-gdn-backend",
            "use-flash-attn",
            "use-cpu-initialization",
            "deterministic-mode",
            "cross-entropy-*",
            "apply-layernorm-1p",
            "disable-*-buffers-cpu-backup",
        ],
        "everything is computed in f32 by kernels of our own, the same in every run",
    ),
    refused(&["fp16", "fp8*", "fp4*", "megatron-deepgemm-*"], "training is in f32; drop it"),
    only(&["attention-dropout", "hidden-dropout"], &["0", "0.0", "0.00"], "there is no dropout"),
    refused(
        &[
            "enable-mtp-training",
            "mtp-*",
            "moe-*",
            "num-experts",
            "freeze-*",
            "only-train-params-name-list",
            "custom-model-provider-path",
            "custom-megatron-*",
            "megatron-config-path",
            "use-routing-replay",
            "use-rollout-routing-replay",
        ],
        "all weights of a dense model are trained, and nothing else; drop it",
    ),
    // Checkpoints.
    not_needed(
        &[
            "async-save",
            "ckpt-*",
            "dist-ckpt-*",
            "no-save-optim",
            "no-save-rng",
            "no-load-optim",
            "no-load-rng",
            "use-dist-ckpt",
            "auto-detect-ckpt-format",
            "finetune",
            "save-hf",
            "use-checkpoint-args",
            "start-rollout-id",
            "ckpt-format",
        ],
        "checkpoints hold all that a run needs to go on exactly, and each is a Hugging Face \
         directory",
    ),
    refused(
        &["ref-ckpt-step", "ckpt-step"],
        "name the directory of the model itself, with --hf-checkpoint or --ref-load",
    ),
    refused(
        &["ref-update-interval", "keep-old-actor"],
        "the start policy stays what it is; drop it",
    ),
    only(&["update-weights-interval"], &["1"], "every step is sampled with the newest weights"),
    // The optimizer.
    refused(
        &["lr-wsd-*", "lr-decay-samples", "lr-warmup-samples"],
        "the schedule counts updates; use --lr-warmup-iters or --lr-warmup-fraction, \
         --lr-decay-iters and --lr-decay-style",
    ),
    only(&["lr-warmup-init"], &["0", "0.0"], "the learning rate rises from 0"),
    only(&["weight-decay-incr-style"], &["constant"], "weight decay is constant"),
    not_needed(
        &[
            "override-opt-param-scheduler",
            "use-checkpoint-opt-param-scheduler",
            "train-iters",
            "train-samples",
        ],
        "the schedule is that of this command line",
    ),
    refused(
        &[
            "start-weight-decay",
            "end-weight-decay",
            "reset-optimizer-states",
            "use-stateless-adam",
            "decoupled-lr",
            "decoupled-min-lr",
            "sgd-momentum",
        ],
        "AdamW keeps its moments, and one learning rate and weight decay hold for all weights; \
         drop it",
    ),
    // Prompts and responses.
    not_needed(
        &["metadata-key", "rollout-task-type", "loss-mask-type", "use-rollout-entropy"],
        "nothing that is built in reads it",
    ),
    refused(
        &["multimodal-keys", "eval-tool-key"],
        "messages are text, and the tools of held-out prompts are in the field of --tool-key; drop \
         it",
    ),
    refused(
        &[
            "rollout-max-context-len",
            "eval-max-context-len",
            "eval-max-prompt-len",
            "eval-min-new-tokens",
        ],
        "--rollout-max-prompt-len leaves out long prompts of every file, held-out ones too; use \
         that and --rollout-max-response-len",
    ),
    not_needed(&["rollout-skip-special-tokens"], "answers are read without special tokens"),
    refused(
        &["eval-config", "eval-input-key", "eval-label-key", "eval-reward-key", "eval-custom-*"],
        "held-out prompts are read and judged as those of training; use --eval-prompt-data NAME \
         FILE",
    ),
    not_needed(
        &["skip-eval-before-train"],
        "the table compares with the student before training; without --eval-prompt-data there is \
         none",
    ),
    refused(
        &[
            "partial-rollout",
            "mask-offpolicy-in-partial-rollout",
            "dynamic-sampling-filter-path",
            "buffer-filter-path",
            "disable-rollout-global-dataset",
            "data-source-path",
            "rollout-function-path",
            "eval-function-path",
            "custom-generate-function-path",
            "rollout-sample-*",
            "rollout-all-samples-process-path",
            "rollout-data-postprocess-path",
            "custom-convert-samples-to-train-data-path",
            "rollout-external-engine-addrs",
            "group-rm",
            "reward-key",
        ],
        "each step samples its prompts once, and learns from all that was sampled; a trainer of \
         your own is built from opd-core (docs/extending.md)",
    ),
    refused(
        &[
            "custom-advantage-function-path",
            "custom-loss-function-path",
            "custom-pg-loss-reducer-function-path",
            "get-mismatch-metrics",
            "disable-compute-advantages-and-returns",
            "custom-config-path",
        ],
        "functions in Python cannot be called; an estimator or a loss of your own is a trait in \
         Rust (docs/extending.md)",
    ),
    not_needed(
        &["num-critic-only-steps"],
        "a critic learns from the first step on, together with the student",
    ),
    // What is shown and kept.
    not_needed(
        &[
            "use-tensorboard",
            "tb-*",
            "tensorboard-*",
            "log-*",
            "no-log-*",
            "timing-log-*",
            "disable-wandb-random-suffix",
            "wandb-always-use-train-step",
            "wandb-save-dir",
            "wandb-exp-name",
            "custom-rollout-log-function-path",
            "custom-eval-rollout-log-function-path",
        ],
        "all metrics go into the run's directory, TensorBoard's files included, under the run's \
         own name; a sink of your own implements `MetricSink`",
    ),
    not_needed(
        &[
            "profile*",
            "use-pytorch-profiler",
            "memory-*",
            "record-memory-history",
            "ci-*",
            "use-gpu-metrics",
            "recompute-loss-function",
        ],
        "it watches the program, not the run",
    ),
    refused(
        &[
            "debug-rollout-only",
            "debug-train-only",
            "load-debug-rollout-data*",
            "load-forge-rollout-data",
            "save-debug-train-data",
        ],
        "a run samples and trains; --dump-rollouts keeps what was sampled",
    ),
];

/// What is to be said of a flag; `None` if it is unknown.
pub(super) fn answer(given: &Given) -> Option<Answer> {
    Some(RULES.iter().find(|rule| rule.covers(given))?.answer(given))
}

/// All names but for those of a prefix.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let names = RULES.iter().flat_map(|rule| rule.names).copied();
    names.filter(|name| !name.contains('*'))
}
