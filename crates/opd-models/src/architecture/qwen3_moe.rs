use super::{Bias, Family, Window};

/// Qwen3 whose feed-forward is a mixture of experts.
///
/// Source: Yang et al. 2025, <https://arxiv.org/abs/2505.09388>; transformers `models/qwen3_moe`.
pub(super) const FAMILY: Family = Family {
    class: "Qwen3MoeForCausalLM",
    model_type: "qwen3_moe",
    gguf: None,
    gguf_permuted: false,
    qk_norm: true,
    qkv_bias: Bias::If("attention_bias"),
    output_bias: Bias::If("attention_bias"),
    mlp_bias: Bias::Never,
    window: Window::IfUsed,
    experts: true,
};
