use super::{Bias, Family, Window};

/// Qwen2 and Qwen2.5.
///
/// Source: Yang et al. 2024, <https://arxiv.org/abs/2407.10671>; transformers `models/qwen2`.
pub(super) const FAMILY: Family = Family {
    class: "Qwen2ForCausalLM",
    model_type: "qwen2",
    gguf: Some("qwen2"),
    gguf_permuted: false,
    qk_norm: false,
    qkv_bias: Bias::Always,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::IfUsed,
    experts: false,
};
