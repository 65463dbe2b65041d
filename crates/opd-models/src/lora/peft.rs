//! The files of the `peft` package.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::{ALL_LINEAR, LoraConfig, LoraTarget};
use crate::{
    CausalLm, Error, Result,
    loader::WeightSource,
    save::{save_parameters, write_synced},
    weights::WeightFiles,
};

const CONFIG: &str = "adapter_config.json";
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// Names of the two factors of a module, `model.layers.0.self_attn.q_proj`.
pub(super) fn names(module: &str) -> [String; 2] {
    ["A", "B"].map(|factor| format!("base_model.model.{module}.lora_{factor}.weight"))
}

/// Initialisations that leave the base as it is; others split it.
const PLAIN_STARTS: [&str; 2] = ["gaussian", "eva"];

/// Fields that change what an adapter computes, all of them off.
const OFF: [&str; 13] = [
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_to_transform",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "exclude_modules",
    "alora_invocation_tokens",
    "use_qalora",
];

pub(super) fn read_config(dir: &Path) -> Result<LoraConfig> {
    let path = dir.join(CONFIG);
    let bad = |what: String| Error::Config { path: path.clone(), what };
    let text = fs::read(&path).map_err(Error::io(&path, "read"))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let wrong = |name: &str, expected: &str| {
        bad(format!("`{name}` must be {expected}, got {}", field(name)))
    };
    if field("peft_type") != "LORA" {
        return Err(wrong("peft_type", "\"LORA\""));
    }
    for name in OFF {
        let off = match field(name) {
            Value::Null | Value::Bool(false) => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if !off {
            return Err(wrong(name, "off: it is not supported"));
        }
    }
    match field("bias") {
        Value::Null => {}
        bias if bias == "none" => {}
        _ => return Err(wrong("bias", "\"none\"")),
    }
    match field("init_lora_weights") {
        Value::Null | Value::Bool(_) => {}
        Value::String(start) if PLAIN_STARTS.contains(&start.as_str()) => {}
        _ => return Err(wrong("init_lora_weights", "one that leaves the base as it is")),
    }
    let rank = field("r").as_u64().filter(|&rank| (1..=1 << 20).contains(&rank));
    let rank = rank.ok_or_else(|| wrong("r", "a whole number of at least 1"))? as usize;
    let alpha = field("lora_alpha").as_f64().filter(|alpha| *alpha > 0.0);
    let alpha = alpha.ok_or_else(|| wrong("lora_alpha", "a number above 0"))?;
    let names: Vec<&str> = match field("target_modules") {
        Value::String(all) if all == ALL_LINEAR => vec![ALL_LINEAR],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if names.is_empty() {
        return Err(wrong("target_modules", "a list of names, or \"all-linear\""));
    }
    let targets = LoraTarget::of_names(&names).map_err(|error| bad(error.to_string()))?;
    let rslora = field("use_rslora").as_bool().unwrap_or(false);
    Ok(LoraConfig { rank, alpha, targets, rslora })
}

impl CausalLm {
    /// Writes the adapters as the `peft` package does: `adapter_config.json` and
    /// `adapter_model.safetensors`, in f32. The directory is made if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file; [`Error::Lora`] for a model without adapters.
    pub fn save_adapter(&self, dir: impl AsRef<Path>) -> Result<()> {
        let (dir, lora) = (dir.as_ref(), self.expect_lora()?);
        fs::create_dir_all(dir).map_err(Error::io(dir, "make the directory"))?;
        save_parameters(&lora.parameters, &dir.join(WEIGHTS))?;
        let LoraConfig { rank, alpha, targets, rslora } = &lora.config;
        let whole = alpha.fract() == 0.0 && alpha.abs() < 1e15;
        let targets: Vec<&str> = targets.iter().map(|target| target.name()).collect();
        let base = std::path::absolute(self.source()).unwrap_or_else(|_| self.source().to_owned());
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": rank,
            "lora_alpha": if whole { json!(*alpha as i64) } else { json!(alpha) },
            "use_rslora": rslora,
            "target_modules": targets,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "modules_to_save": null,
        });
        write_synced(&dir.join(CONFIG), format!("{config:#}\n"))
    }

    /// Takes over the adapters of another directory: of the same settings, on the same model.
    ///
    /// # Errors
    ///
    /// As [`Self::with_adapter`]; [`Error::Lora`] for a model without adapters, or with others.
    pub fn reload_adapter(&self, dir: impl AsRef<Path>) -> Result<()> {
        let (dir, lora) = (dir.as_ref(), self.expect_lora()?);
        let theirs = read_config(dir)?;
        if theirs != lora.config {
            let what =
                format!("{} holds {theirs:?}, the model has {:?}", dir.display(), lora.config);
            return Err(Error::Lora { what });
        }
        let mut file = WeightSource::Files(WeightFiles::single(&dir.join(WEIGHTS))?);
        for parameter in lora.parameters.iter() {
            let columns = Some(parameter.tensor().dims()[1]);
            let values = file.stack(parameter.parts(), columns, self.dtype(), self.device())?;
            parameter.var().set(&values)?;
        }
        Ok(())
    }

    fn expect_lora(&self) -> Result<&super::Lora> {
        self.lora.as_ref().ok_or_else(|| Error::Lora { what: "the model has no adapters".into() })
    }
}
