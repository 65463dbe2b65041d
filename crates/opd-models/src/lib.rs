#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod architecture;
mod block;
mod chat_template;
mod config;
mod decoder;
mod encoded;
mod error;
mod feed_forward;
mod files;
mod footprint;
mod gguf;
mod gradients;
#[cfg(feature = "hub")]
mod hub;
mod kv_cache;
mod loader;
mod lora;
mod mixture;
mod model;
mod packed;
mod parameters;
mod precision;
mod rope;
mod safetensors_file;
mod save;
mod score;
mod shards;
mod tape;
mod tokenizer;
mod value_head;
mod weights;

#[cfg(feature = "hub")]
pub use self::hub::{Hub, HubId, hub_id, resolve};
pub use self::{
    architecture::Architecture,
    chat_template::{ChatTemplate, Message, TemplateOptions},
    config::{Experts, ModelConfig, eos_token_ids},
    decoder::Decoder,
    encoded::encoded_bytes,
    error::{Error, Result},
    files::{is_model, model_files},
    footprint::Footprint,
    gradients::Gradients,
    kv_cache::{KvCache, KvRows},
    lora::{ALL_LINEAR, LoraConfig, LoraTarget},
    model::CausalLm,
    packed::Packed,
    parameters::{Parameter, Parameters},
    rope::Rope,
    save::SHARD_BYTES,
    score::chunks,
    tape::Checkpointing,
    tokenizer::{Spelled, Tokenizer},
    value_head::ValueHead,
};
