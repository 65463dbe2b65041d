//! `config.json` in the forms of transformers 4 and 5, and what is wrong with one.

use std::fs;

use candle_core::{DType, Device};
use opd_batch::ScoredSequence;
use opd_models::{Architecture, CausalLm, ModelConfig, Rope};
use opd_testkit::{GoldenModel, ModelDir};
use serde_json::{Map, Value, json};

use super::{eight, load, logprobs, within};

/// Rewrites the rope settings and dtype as transformers 4 has them.
fn to_transformers_4(config: &mut Map<String, Value>) {
    let Some(Value::Object(mut rope)) = config.remove("rope_parameters") else {
        panic!("not the transformers 5 form");
    };
    config.insert("rope_theta".into(), rope.remove("rope_theta").unwrap());
    let scaled = rope["rope_type"] != "default";
    config.insert("rope_scaling".into(), if scaled { rope.into() } else { Value::Null });
    let dtype = config.remove("dtype").unwrap();
    config.insert("torch_dtype".into(), dtype);
    config.insert("transformers_version".into(), "4.51.0".into());
}

#[test]
fn both_forms_of_the_config_are_one_model() {
    for golden in GoldenModel::trainable() {
        let dir = ModelDir::copy(&golden.dir);
        dir.edit_config(to_transformers_4);
        let (new, old) = (load(&golden.dir, DType::F32), load(dir.path(), DType::F32));
        assert_eq!(new.config().rope, old.config().rope);
        assert_eq!(new.config().rope_theta, old.config().rope_theta);
        let eight = within(new.config().vocab_size, eight());
        assert_eq!(logprobs(&new, &eight, 1.0), logprobs(&old, &eight, 1.0));
        // An earlier spelling of `rope_type`.
        dir.edit_config(|config| {
            if let Some(Value::Object(rope)) = config.get_mut("rope_scaling") {
                let kind = rope.remove("rope_type").unwrap();
                rope.insert("type".into(), kind);
            }
        });
        assert_eq!(new.config().rope, ModelConfig::load(dir.path()).unwrap().rope);
    }
}

fn edited(
    edit: impl FnOnce(&mut Map<String, Value>),
) -> (ModelDir, opd_models::Result<ModelConfig>) {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_tied").dir);
    fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    dir.edit_config(edit);
    let config = ModelConfig::load(dir.path());
    (dir, config)
}

#[test]
fn what_is_missing_has_its_usual_value() {
    let (_dir, config) = edited(|config| {
        for field in [
            "head_dim",
            "num_key_value_heads",
            "rms_norm_eps",
            "rope_parameters",
            "tie_word_embeddings",
            "architectures",
            "attention_bias",
            "eos_token_id",
            "hidden_act",
        ] {
            config.remove(field).unwrap();
        }
    });
    let config = config.unwrap();
    assert_eq!(config.architecture, Architecture::Qwen3);
    assert_eq!((config.head_dim, config.n_kv_heads, config.rms_norm_eps), (16, 4, 1e-6));
    assert_eq!((config.rope_theta, &config.rope), (10_000.0, &Rope::Default));
    assert!(!config.tie_word_embeddings && !config.qkv_bias && config.eos_token_ids.is_empty());
}

#[test]
fn end_tokens_are_one_or_several_and_generation_config_wins() {
    let eos = |value: Value| edited(|config| drop(config.insert("eos_token_id".into(), value))).1;
    assert_eq!(eos(json!(7)).unwrap().eos_token_ids, [7]);
    assert_eq!(eos(json!([7, 9])).unwrap().eos_token_ids, [7, 9]);
    let (dir, _) = edited(|_| ());
    let path = dir.path().join("generation_config.json");
    fs::write(&path, r#"{"eos_token_id": [3, 4]}"#).unwrap();
    assert_eq!(ModelConfig::load(dir.path()).unwrap().eos_token_ids, [3, 4]);
    fs::write(&path, r#"{"eos_token_id": "three"}"#).unwrap();
    assert_eq!(
        ModelConfig::load(dir.path()).unwrap_err().to_string(),
        format!(
            "{}: `eos_token_id` must be a token id or a list of them, got \"three\"",
            path.display()
        )
    );
}

#[test]
fn a_bad_field_is_named() {
    let rope = |rope: Value| ("rope_parameters", rope);
    let cases: Vec<((&str, Value), &str)> = vec![
        (("vocab_size", Value::Null), "field `vocab_size` is missing"),
        (
            ("vocab_size", json!(1u64 << 40)),
            "`vocab_size` must be a whole number from 1 to 67108864, got 1099511627776",
        ),
        (
            ("hidden_size", json!(0)),
            "`hidden_size` must be a whole number from 1 to 67108864, got 0",
        ),
        (
            ("num_hidden_layers", json!(-3)),
            "`num_hidden_layers` must be a whole number from 1 to 67108864, got -3",
        ),
        (
            ("intermediate_size", json!(1.5)),
            "`intermediate_size` must be a whole number from 1 to 67108864, got 1.5",
        ),
        (
            ("num_key_value_heads", json!(3)),
            "num_attention_heads (4) must be a multiple of num_key_value_heads (3)",
        ),
        (("head_dim", json!(7)), "head_dim must be even, above 0 and at most 65536, got 7"),
        (
            ("head_dim", json!(1 << 20)),
            "head_dim must be even, above 0 and at most 65536, got 1048576",
        ),
        (("rms_norm_eps", json!(0)), "`rms_norm_eps` must be a number above 0, got 0"),
        (
            ("tie_word_embeddings", json!("yes")),
            "`tie_word_embeddings` must be true or false, got \"yes\"",
        ),
        (("hidden_act", json!("gelu")), "hidden_act must be \"silu\", got \"gelu\""),
        (
            ("layer_types", json!(["full_attention", "sliding_attention"])),
            "layer_types must all be \"full_attention\", got \"sliding_attention\"",
        ),
        (rope(json!(3)), "rope settings must be an object, got 3"),
        (rope(json!({"rope_theta": -1})), "`rope_theta` must be a number above 0, got -1"),
        (
            rope(json!({"rope_theta": 1e4, "partial_rotary_factor": 0.5})),
            "partial_rotary_factor must be 1, got 0.5",
        ),
        (
            rope(json!({"rope_type": "longrope"})),
            "rope type `longrope` is not supported; supported: default, linear, llama3, yarn",
        ),
        (
            rope(json!({"rope_type": "dynamic", "factor": 2})),
            "rope type `dynamic` is not supported: its frequencies change with the length of the \
             sequence, so that a token's log-prob would depend on the tokens after it; supported: \
             default, linear, llama3, yarn",
        ),
        (
            rope(json!({"full_attention": {"rope_type": "default"}})),
            "rope settings by kind of layer (`full_attention`) are not supported",
        ),
        (
            rope(json!({"rope_type": "linear", "rope_theta": 1, "factor": 1e-310})),
            "the rope settings give frequencies that are not finite",
        ),
        (
            rope(json!({"rope_type": "yarn", "truncate": 1})),
            "rope: `truncate` must be true or false, got 1",
        ),
        (rope(json!({"rope_type": "linear"})), "rope: `factor` must be a number above 0, got none"),
        (
            rope(json!({"rope_type": "llama3", "low_freq_factor": 4, "high_freq_factor": 4})),
            "rope: `high_freq_factor` (4) must be above `low_freq_factor` (4)",
        ),
    ];
    for ((field, value), message) in cases {
        let (dir, config) = edited(|config| drop(config.insert(field.into(), value)));
        let path = dir.path().join("config.json");
        let expected = format!("{}: {message}", path.display());
        assert_eq!(config.unwrap_err().to_string(), expected);
    }
}

#[test]
fn yarn_is_read_as_transformers_reads_it() {
    let yarn = |rope: Value, original: Value| {
        let (_dir, config) = edited(|config| {
            config.insert("rope_scaling".into(), rope);
            config.insert("original_max_position_embeddings".into(), original);
        });
        config.unwrap().rope
    };
    // The context is 512; what is not said follows from it.
    let from_context = yarn(json!({"type": "yarn"}), json!(128));
    assert_eq!(from_context.attention_factor(), 0.1 * 4f64.ln() + 1.0);
    assert_eq!(
        from_context,
        yarn(json!({"type": "yarn", "factor": 4, "beta_fast": 32, "beta_slow": 1}), json!(128))
    );
    let inside = json!({"type": "yarn", "factor": 4, "original_max_position_embeddings": 128});
    assert_eq!(from_context, yarn(inside.clone(), Value::Null));
    assert_ne!(from_context, yarn(inside, json!(64)));
    let scales = json!({"type": "yarn", "factor": 4, "mscale": 2.0, "mscale_all_dim": 0.5});
    let expected = (0.2 * 4f64.ln() + 1.0) / (0.05 * 4f64.ln() + 1.0);
    assert_eq!(yarn(scales, json!(128)).attention_factor(), expected);
    let said = json!({"type": "yarn", "factor": 4, "attention_factor": 0.75});
    assert_eq!(yarn(said, json!(128)).attention_factor(), 0.75);
    assert_eq!(yarn(json!({"type": "linear", "factor": 3}), Value::Null).attention_factor(), 1.0);
}

#[test]
fn the_context_ends_where_a_window_would_cut() {
    let context = |name: &str, fields: Value, removed: &str| {
        let dir = ModelDir::copy(&GoldenModel::load(name).dir);
        dir.edit_config(|config| {
            config.remove(removed);
            config.extend(fields.as_object().unwrap().clone());
        });
        ModelConfig::load(dir.path()).unwrap().context
    };
    // The context of mistral is 256, that of qwen3_tied 512.
    for (window, expected) in [(json!(null), 256), (json!(256), 256), (json!(255), 255)] {
        assert_eq!(context("mistral", json!({"sliding_window": window}), ""), expected);
    }
    // What is missing is 4096, as for the first Mistral 7B: its config says 32768.
    for (stated, expected) in [(4095, 4095), (4097, 4096), (32768, 4096)] {
        let fields = json!({"max_position_embeddings": stated});
        assert_eq!(context("mistral", fields, "sliding_window"), expected);
    }
    for (used, window, expected) in [(false, 8, 512), (true, 8, 8), (true, 512, 512)] {
        let fields = json!({"use_sliding_window": used, "sliding_window": window});
        assert_eq!(context("qwen3_tied", fields, ""), expected);
    }
    assert_eq!(context("llama_tied", json!({"sliding_window": 8}), ""), 512);
}

#[test]
fn sequences_longer_than_the_window_are_refused() {
    let dir = ModelDir::copy(&GoldenModel::load("mistral").dir);
    dir.edit_config(|config| drop(config.insert("sliding_window".into(), json!(6))));
    let model = CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
    let pack = |response: &[u32]| {
        let sequence = ScoredSequence { prompt: &[1, 2, 3], response };
        model.pack(&[sequence]).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(pack(&[4, 5, 6]), Ok(()));
    let error = pack(&[4, 5, 6, 7]).unwrap_err();
    assert!(error.contains("sequence 0 has 7 tokens, the model's context holds 6"), "{error}");
}

#[test]
fn experts_are_counted_in_both_forms() {
    let dir = ModelDir::copy(&GoldenModel::load("qwen3_moe").dir);
    let new = ModelConfig::load(dir.path()).unwrap().experts.unwrap();
    assert_eq!((new.n_experts, new.n_active, new.intermediate_size), (8, 2, 24));
    assert_eq!([0, 1, 2].map(|layer| new.in_layer(layer)), [true, false, true]);
    dir.edit_config(|config| {
        let n = config.remove("num_local_experts").unwrap();
        config.insert("num_experts".into(), n);
    });
    assert_eq!(ModelConfig::load(dir.path()).unwrap().experts.unwrap(), new);
    let plain = ModelConfig::load(&GoldenModel::load("qwen3_moe_plain").dir).unwrap();
    let experts = plain.experts.unwrap();
    assert_eq!([0, 1].map(|layer| experts.in_layer(layer)), [false, true]);
    for (field, value, message) in [
        (
            "num_experts_per_tok",
            json!(9),
            "num_experts_per_tok (9) must be at most the number of experts (8)",
        ),
        ("mlp_only_layers", json!([3]), "`mlp_only_layers` must list layers below 3, got [3]"),
        ("moe_intermediate_size", Value::Null, "field `moe_intermediate_size` is missing"),
    ] {
        let dir = ModelDir::copy(dir.path());
        dir.edit_config(|config| drop(config.insert(field.into(), value)));
        let path = dir.path().join("config.json");
        let error = ModelConfig::load(dir.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {message}", path.display()));
    }
}

#[test]
fn an_unknown_architecture_is_refused_with_the_known_ones() {
    for (architectures, model_type, got) in [
        (json!(["MambaForCausalLM"]), json!("qwen3"), "MambaForCausalLM"),
        (Value::Null, json!("gemma"), "gemma"),
        (json!([]), Value::Null, "none"),
    ] {
        let (dir, config) = edited(|config| {
            config.insert("architectures".into(), architectures);
            config.insert("model_type".into(), model_type);
        });
        assert_eq!(
            config.unwrap_err().to_string(),
            format!(
                "{}: architecture `{got}` is not supported; supported: Qwen3ForCausalLM, \
                 Qwen2ForCausalLM, LlamaForCausalLM, MistralForCausalLM, Qwen3MoeForCausalLM",
                dir.path().join("config.json").display()
            )
        );
    }
}

#[test]
fn malformed_json_and_missing_files_are_named() {
    let (dir, _) = edited(|_| ());
    let path = dir.path().join("config.json");
    let message = || {
        let error = CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap_err();
        error.to_string()
    };
    for (text, what) in [
        ("{\"vocab_size\": 3,", "EOF while parsing a value at line 1 column 17"),
        ("[1, 2]", "expected a JSON object"),
        ("", "EOF while parsing a value at line 1 column 0"),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(message(), format!("{}: {what}", path.display()));
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(message(), format!("{}: cannot read", path.display()));
}
