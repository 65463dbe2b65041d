use crate::Architecture;

/// Tensors outside the layers: the name in GGUF and in the Hugging Face layout.
const OUTER: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// Parts of a layer.
const INNER: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Factors of the rotary frequencies: part of the config in the Hugging Face layout.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The Hugging Face name of a tensor; names that GGUF does not have stay as they are.
pub(super) fn hugging_face(name: &str) -> String {
    if let Some((_, outer)) = OUTER.iter().find(|(gguf, _)| *gguf == name) {
        return (*outer).to_owned();
    }
    let inner = || {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let (part, kind) = rest.rsplit_once('.')?;
        let (_, part) = INNER.iter().find(|(gguf, _)| *gguf == part)?;
        Some(format!("model.layers.{}.{part}.{kind}", layer.parse::<u32>().ok()?))
    };
    inner().unwrap_or_else(|| name.to_owned())
}

/// Of which heads the rows of a tensor are, where they are in the order of interleaved pairs.
pub(super) fn permuted(architecture: Architecture, name: &str) -> Option<Rows> {
    let part = name.strip_prefix("blk.")?.split_once('.')?.1;
    let rows = match part.rsplit_once('.')?.0 {
        "attn_q" => Rows::Queries,
        "attn_k" => Rows::Keys,
        _ => return None,
    };
    architecture.family().gguf_permuted.then_some(rows)
}

/// Heads that the rows of a matrix belong to.
#[derive(Clone, Copy)]
pub(super) enum Rows {
    Queries,
    Keys,
}
