use serde::{Deserialize, de::IgnoredAny};

use super::rules::GREEDY;
use crate::NextToken;

/// `sampling_params` of SGLang; what it does not know is refused by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SamplingParams {
    pub(crate) max_new_tokens: Option<i64>,
    pub(crate) temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    sampling_seed: Option<u64>,
    n: Option<i64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    logit_bias: Option<IgnoredAny>,
    json_schema: Option<IgnoredAny>,
    regex: Option<IgnoredAny>,
    ebnf: Option<IgnoredAny>,
    structural_tag: Option<IgnoredAny>,
    /// These change nothing about at most one new token.
    #[serde(rename = "stop")]
    _stop: Option<IgnoredAny>,
    #[serde(rename = "stop_token_ids")]
    _stop_token_ids: Option<IgnoredAny>,
    #[serde(rename = "stop_regex")]
    _stop_regex: Option<IgnoredAny>,
    #[serde(rename = "min_new_tokens")]
    _min_new_tokens: Option<IgnoredAny>,
    #[serde(rename = "ignore_eos")]
    _ignore_eos: Option<IgnoredAny>,
    #[serde(rename = "skip_special_tokens")]
    _skip_special_tokens: Option<IgnoredAny>,
    #[serde(rename = "spaces_between_special_tokens")]
    _spaces_between_special_tokens: Option<IgnoredAny>,
    #[serde(rename = "no_stop_trim")]
    _no_stop_trim: Option<IgnoredAny>,
    #[serde(rename = "stream_interval")]
    _stream_interval: Option<IgnoredAny>,
    #[serde(rename = "custom_params")]
    _custom_params: Option<IgnoredAny>,
}

/// Tokens that SGLang generates unless told otherwise.
const SGLANG_DEFAULT: i64 = 128;

impl SamplingParams {
    /// Whether a token is to be generated: 0 or 1, or a refusal.
    pub(crate) fn generates(&self) -> Result<bool, String> {
        match self.max_new_tokens {
            Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(n) if n < 0 => Err(format!("max_new_tokens must be at least 0, got {n}.")),
            other => Err(format!(
                "max_new_tokens: this server scores and generates at most one token; expected 0 or 1, got {}",
                other.map_or(format!("none, which means {SGLANG_DEFAULT}"), |n| n.to_string())
            )),
        }
    }

    /// How the one token is chosen.
    pub(crate) fn next(&self, fresh_seed: impl FnOnce() -> u64) -> Result<NextToken, String> {
        let unusual = [
            ("n", self.n.is_some_and(|n| n != 1)),
            ("frequency_penalty", self.frequency_penalty.is_some_and(|x| x != 0.0)),
            ("presence_penalty", self.presence_penalty.is_some_and(|x| x != 0.0)),
            ("repetition_penalty", self.repetition_penalty.is_some_and(|x| x != 1.0)),
            ("logit_bias", self.logit_bias.is_some()),
            ("json_schema", self.json_schema.is_some()),
            ("regex", self.regex.is_some()),
            ("ebnf", self.ebnf.is_some()),
            ("structural_tag", self.structural_tag.is_some()),
        ];
        if let Some((field, _)) = unusual.iter().find(|(_, given)| *given) {
            return Err(format!("{field}: this server does not offer it; leave it out"));
        }
        let seed = self.sampling_seed.unwrap_or_else(fresh_seed);
        choice(self.temperature, self.top_k, self.top_p, self.min_p, seed)
    }
}

/// Greedy or a draw, from settings that SGLang and vLLM have in common.
pub(crate) fn choice(
    temperature: Option<f64>,
    top_k: Option<i64>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    seed: u64,
) -> Result<NextToken, String> {
    let top_p = top_p.unwrap_or(1.0);
    if !(top_p > 0.0 && top_p <= 1.0) {
        return Err(format!("top_p must be in (0, 1], got {top_p}."));
    }
    let min_p = min_p.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&min_p) {
        return Err(format!("min_p must be in [0, 1], got {min_p}."));
    }
    let top_k = match top_k {
        None | Some(-1 | 0) => 0,
        Some(k) => usize::try_from(k)
            .map_err(|_| format!("top_k must be -1 (all) or at least 1, got {k}."))?,
    };
    if top_k == 1 || temperature.is_some_and(|t| t < GREEDY) {
        return Ok(NextToken::Greedy);
    }
    Ok(NextToken::Random { top_k, top_p, min_p, seed })
}
