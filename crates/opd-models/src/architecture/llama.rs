use super::{Bias, Family, Window};

/// Llama 2, 3, 3.1 and 3.2, and what took their form: SmolLM2, TinyLlama, Yi.
///
/// Source: Touvron et al. 2023, <https://arxiv.org/abs/2307.09288>; transformers `models/llama`.
pub(super) const FAMILY: Family = Family {
    class: "LlamaForCausalLM",
    model_type: "llama",
    gguf: Some("llama"),
    gguf_permuted: true,
    qk_norm: false,
    qkv_bias: Bias::If("attention_bias"),
    output_bias: Bias::If("attention_bias"),
    mlp_bias: Bias::If("mlp_bias"),
    window: Window::Never,
    experts: false,
};
