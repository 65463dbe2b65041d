use super::{Bias, Family, Window};

/// Mistral 7B and its kin; windows shorter than the context are refused.
///
/// GGUF files of Mistral name themselves `llama`, which they are but for the window.
///
/// Source: Jiang et al. 2023, <https://arxiv.org/abs/2310.06825>; transformers `models/mistral`.
pub(super) const FAMILY: Family = Family {
    class: "MistralForCausalLM",
    model_type: "mistral",
    gguf: None,
    gguf_permuted: true,
    qk_norm: false,
    qkv_bias: Bias::Never,
    output_bias: Bias::Never,
    mlp_bias: Bias::Never,
    window: Window::UnlessNull(4096),
    experts: false,
};
