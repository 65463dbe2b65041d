use std::path::PathBuf;

use opd_models::LoraTarget;
use serde::{Deserialize, Serialize};

use super::{
    ConfigError,
    error::{at_least_one, check},
};

/// Low-rank adapters, which are trained instead of the weights. Checkpoints hold them alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of every adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// An adapter's product is multiplied by this over the rank; 32 without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Layers that have an adapter: `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`,
    /// `up_proj`, `down_proj`, or `all-linear` for all of them, as none is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target_modules: Vec<String>,
    /// Divide `alpha` by the root of the rank instead (rsLoRA).
    pub rslora: bool,
    /// Start from the adapters of this directory, in the format of `peft`, which says rank,
    /// alpha, layers and rsLoRA itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
}

impl LoraConfig {
    /// The numerator of the scale, where nothing is said.
    pub const ALPHA: f64 = 32.0;

    /// What new adapters are to be.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for an unknown layer, or without a rank.
    pub fn settings(&self) -> Result<opd_models::LoraConfig, ConfigError> {
        let remedy = "give it with --lora-rank N, e.g. 16";
        let rank = self.rank.ok_or(ConfigError::Missing { key: "student.lora.rank", remedy })?;
        Ok(opd_models::LoraConfig {
            rank,
            alpha: self.alpha.unwrap_or(Self::ALPHA),
            targets: self.targets()?,
            rslora: self.rslora,
        })
    }

    fn targets(&self) -> Result<Vec<LoraTarget>, ConfigError> {
        LoraTarget::of_names(&self.target_modules).map_err(|error| ConfigError::Conflict {
            what: format!("student.lora.target_modules: {error}"),
            remedy: "correct --lora-target-modules",
        })
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if let Some(rank) = self.rank {
            at_least_one("student.lora.rank", rank as u64)?;
        }
        if let Some(alpha) = self.alpha {
            let expected = "finite and above 0";
            check(alpha > 0.0 && alpha.is_finite(), "student.lora.alpha", expected, alpha)?;
        }
        let plain = Self { adapter: self.adapter.clone(), ..Self::default() };
        match &self.adapter {
            Some(_) if *self != plain => Err(ConfigError::Conflict {
                what: "student.lora.adapter with rank, alpha, target_modules or rslora: the adapter's own adapter_config.json says them".into(),
                remedy: "drop --lora-adapter, or the others",
            }),
            Some(_) => Ok(()),
            None => self.settings().map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(config: &LoraConfig) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn settings_are_checked_and_have_defaults() {
        let config = LoraConfig { rank: Some(8), ..LoraConfig::default() };
        config.validate().unwrap();
        let settings = config.settings().unwrap();
        assert_eq!((settings.rank, settings.scale()), (8, 4.0));
        assert_eq!(settings.targets, LoraTarget::ALL);
        let names = ["v_proj".to_owned(), "q_proj".into()].to_vec();
        let two = LoraConfig { target_modules: names, ..config.clone() }.settings().unwrap();
        assert_eq!(two.targets, [LoraTarget::QProj, LoraTarget::VProj]);

        assert!(refusal(&LoraConfig::default()).contains("student.lora.rank is not set"));
        let none = LoraConfig { rank: Some(0), ..config.clone() };
        assert_eq!(refusal(&none), "student.lora.rank must be at least 1, got 0");
        let zero = LoraConfig { alpha: Some(0.0), ..config.clone() };
        assert_eq!(refusal(&zero), "student.lora.alpha must be finite and above 0, got 0");
        let unknown = LoraConfig { target_modules: vec!["query".into()], ..config.clone() };
        let said = refusal(&unknown);
        assert!(said.contains("`query` is unknown") && said.contains("q_proj"), "{said}");
        let adapter = LoraConfig { adapter: Some("a".into()), ..LoraConfig::default() };
        adapter.validate().unwrap();
        let both = LoraConfig { rank: Some(8), ..adapter };
        assert!(refusal(&both).contains("adapter_config.json says them"));
    }
}
