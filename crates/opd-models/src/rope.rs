use std::f64::consts::PI;

use serde_json::{Map, Value};

/// How positions turn into rotation frequencies.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rope {
    /// `theta^(-2i/d)`.
    Default,
    /// Frequencies divided by a factor (position interpolation).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Low frequencies divided by a factor, high ones kept, a blend between.
    Llama3 {
        /// Divides the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are low-frequency.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are high-frequency.
        high_freq_factor: f64,
        /// `original_max_position_embeddings`.
        original_context: f64,
    },
}

impl Rope {
    /// Reads `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
    pub(crate) fn from_json(fields: &Map<String, Value>) -> Result<Self, String> {
        let kind = fields.get("rope_type").or_else(|| fields.get("type"));
        let number = |name: &str| match fields.get(name).and_then(Value::as_f64) {
            Some(value) if value > 0.0 => Ok(value),
            _ => {
                let got = fields.get(name).map_or("none".to_owned(), Value::to_string);
                Err(format!("rope: `{name}` must be a number above 0, got {got}"))
            }
        };
        match kind.and_then(Value::as_str) {
            None | Some("default") => Ok(Self::Default),
            Some("linear") => Ok(Self::Linear { factor: number("factor")? }),
            Some("llama3") => {
                let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
                if high <= low {
                    return Err(format!(
                        "rope: `high_freq_factor` ({high}) must be above `low_freq_factor` ({low})"
                    ));
                }
                Ok(Self::Llama3 {
                    factor: number("factor")?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_context: number("original_max_position_embeddings")?,
                })
            }
            Some(other) => Err(format!(
                "rope type `{other}` is not supported; supported: default, linear, llama3"
            )),
        }
    }

    /// The `head_dim / 2` angles per position step.
    pub fn inverse_frequencies(&self, theta: f64, head_dim: usize) -> Vec<f64> {
        let plain = (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
        match *self {
            Self::Default => plain.collect(),
            Self::Linear { factor } => plain.map(|frequency| frequency / factor).collect(),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => plain
                .map(|frequency| {
                    let turns = original_context * frequency / (2.0 * PI);
                    let blend = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let blend = blend.clamp(0.0, 1.0);
                    (1.0 - blend) * frequency / factor + blend * frequency
                })
                .collect(),
        }
    }
}
