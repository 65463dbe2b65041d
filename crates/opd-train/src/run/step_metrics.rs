use std::collections::BTreeMap;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor},
    ser::SerializeMap,
};

use crate::run::key;

const STEP: &str = "step";

/// Greatest integer up to which every integer is an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What is known of one step: a line of `metrics.jsonl`.
///
/// Flat: `step` first, then the keys in alphabetical order. Floats are written with as many
/// digits as it takes to read the same bits back, whole numbers without a point. JSON has
/// no NaN and no infinity: they are written as `null` and read back as NaN. Values that
/// depend on the clock are under [`key::SECONDS`].
///
/// ```
/// use opd_train::run::{StepMetrics, key};
///
/// let metrics = StepMetrics::new(7)
///     .with(key::REVERSE_KL, 0.25)
///     .with("tokens", 512.0)
///     .with_seconds("rollout", 1.5)
///     .with("broken", f64::NAN);
/// let line = r#"{"step":7,"broken":null,"reverse_kl":0.25,"seconds/rollout":1.5,"tokens":512}"#;
/// assert_eq!(metrics.to_string(), line);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepMetrics {
    /// Number of completed steps, 0 before the first.
    pub step: u64,
    /// Values by key; `step` is no key of its own and is left out if used.
    pub values: BTreeMap<String, f64>,
}

impl StepMetrics {
    /// A step of which nothing is known yet.
    pub fn new(step: u64) -> Self {
        Self { step, values: BTreeMap::new() }
    }

    /// Adds a value, replacing one of the same key.
    #[must_use]
    pub fn with(mut self, key: &str, value: f64) -> Self {
        self.values.insert(key.to_owned(), value);
        self
    }

    /// Adds a duration or a rate under [`key::SECONDS`].
    #[must_use]
    pub fn with_seconds(self, phase: &str, seconds: f64) -> Self {
        self.with(&format!("{}{phase}", key::SECONDS), seconds)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.values.get(key).copied()
    }

    /// Without what depends on the clock: equal between runs of one seed.
    #[must_use]
    pub fn without_seconds(mut self) -> Self {
        self.values.retain(|key, _| !key.starts_with(key::SECONDS));
        self
    }
}

/// The line of `metrics.jsonl`, without the line break.
impl std::fmt::Display for StepMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

impl Serialize for StepMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(STEP, &self.step)?;
        for (key, &value) in self.values.iter().filter(|(key, _)| *key != STEP) {
            let whole = value.fract() == 0.0 && value.abs() < EXACT;
            if whole && !(value == 0.0 && value.is_sign_negative()) {
                map.serialize_entry(key, &(value as i64))?;
            } else {
                map.serialize_entry(key, &value)?;
            }
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for StepMetrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = StepMetrics;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with a `step` and numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StepMetrics, A::Error> {
        let mut step = None;
        let mut values = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == STEP {
                step = Some(map.next_value()?);
            } else {
                values.insert(key, map.next_value::<Option<f64>>()?.unwrap_or(f64::NAN));
            }
        }
        let step = step.ok_or_else(|| A::Error::missing_field(STEP))?;
        Ok(StepMetrics { step, values })
    }
}
