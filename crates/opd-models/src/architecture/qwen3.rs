use super::{Bias, Family, Window};

/// Qwen3 with a dense feed-forward.
///
/// Source: Yang et al. 2025, <https://arxiv.org/abs/2505.09388>; transformers `models/qwen3`.
pub(super) const FAMILY: Family = Family {
    class: "Qwen3ForCausalLM",
    model_type: "qwen3",
    gguf: Some("qwen3"),
    gguf_permuted: false,
    qk_norm: true,
    qkv_bias: Bias::If("attention_bias"),
    output_bias: Bias::If("attention_bias"),
    mlp_bias: Bias::Never,
    window: Window::IfUsed,
    experts: false,
};
