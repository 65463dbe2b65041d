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
    /// Slow frequencies divided by a factor, fast ones kept, a ramp over dimensions between;
    /// queries and keys are lengthened (YaRN).
    ///
    /// Source: Peng et al. 2023, <https://arxiv.org/abs/2309.00071>.
    Yarn {
        /// Divides the slow frequencies.
        factor: f64,
        /// `original_max_position_embeddings`.
        original_context: f64,
        /// Dimensions with more turns than this within the original context are kept.
        beta_fast: f64,
        /// Dimensions with fewer turns than this are divided.
        beta_slow: f64,
        /// Whether the ends of the ramp are whole dimensions.
        truncate: bool,
        /// Multiplies cosines and sines.
        attention_factor: f64,
    },
}

/// `0.1 scale ln(factor) + 1`, or 1 for factors up to 1.
fn yarn_scale(factor: f64, scale: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
}

impl Rope {
    /// Reads `rope_scaling` (transformers 4) or `rope_parameters` (transformers 5).
    ///
    /// `original` is `original_max_position_embeddings` beside them, which goes first;
    /// `context` is what it is where neither says it.
    pub(crate) fn from_json(
        fields: &Map<String, Value>,
        original: Option<usize>,
        context: usize,
    ) -> Result<Self, String> {
        let kind = fields.get("rope_type").or_else(|| fields.get("type"));
        let optional = |name: &str| match fields.get(name).filter(|value| !value.is_null()) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
                _ => Err(format!("rope: `{name}` must be a number above 0, got {value}")),
            },
        };
        let number = |name: &str| {
            optional(name)?
                .ok_or_else(|| format!("rope: `{name}` must be a number above 0, got none"))
        };
        let original_context = || match original {
            Some(original) => Ok(original as f64),
            None => Ok::<_, String>(
                optional("original_max_position_embeddings")?.unwrap_or(context as f64),
            ),
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
                    original_context: original_context()?,
                })
            }
            Some("yarn") => {
                let original_context = original_context()?;
                let factor = optional("factor")?.unwrap_or(context as f64 / original_context);
                let attention_factor = match optional("attention_factor")? {
                    Some(factor) => factor,
                    None => match (optional("mscale")?, optional("mscale_all_dim")?) {
                        (Some(over), Some(under)) => {
                            yarn_scale(factor, over) / yarn_scale(factor, under)
                        }
                        _ => yarn_scale(factor, 1.0),
                    },
                };
                let truncate = match fields.get("truncate") {
                    None => true,
                    Some(Value::Bool(truncate)) => *truncate,
                    Some(other) => {
                        return Err(format!("rope: `truncate` must be true or false, got {other}"));
                    }
                };
                Ok(Self::Yarn {
                    factor,
                    original_context,
                    beta_fast: optional("beta_fast")?.unwrap_or(32.0),
                    beta_slow: optional("beta_slow")?.unwrap_or(1.0),
                    truncate,
                    attention_factor,
                })
            }
            Some("dynamic") => Err("rope type `dynamic` is not supported: its frequencies change \
                with the length of the sequence, so that a token's log-prob would depend on the \
                tokens after it; supported: default, linear, llama3, yarn"
                .to_owned()),
            Some(other) => Err(format!(
                "rope type `{other}` is not supported; supported: default, linear, llama3, yarn"
            )),
        }
    }

    /// Whether all that the tables are made from is finite.
    pub(crate) fn is_finite(&self, theta: f64, head_dim: usize) -> bool {
        self.attention_factor().is_finite()
            && self.inverse_frequencies(theta, head_dim).iter().all(|angle| angle.is_finite())
    }

    /// What cosines and sines are multiplied by: 1 but for [`Rope::Yarn`].
    pub fn attention_factor(&self) -> f64 {
        match *self {
            Self::Yarn { attention_factor, .. } => attention_factor,
            _ => 1.0,
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
            Self::Yarn { factor, original_context, beta_fast, beta_slow, truncate, .. } => {
                let dimension = |turns: f64| {
                    head_dim as f64 * (original_context / (turns * 2.0 * PI)).ln()
                        / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                plain
                    .enumerate()
                    .map(|(i, frequency)| {
                        let slow = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                        slow * frequency / factor + (1.0 - slow) * frequency
                    })
                    .collect()
            }
        }
    }
}
