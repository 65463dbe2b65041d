use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

/// One value for all sequences of a request, or a list with one for each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    /// The value of each of `n` sequences.
    pub(crate) fn each(self, field: &str, n: usize, is_batch: bool) -> Result<Vec<T>, String> {
        match self {
            Self::One(value) => Ok(vec![value; n]),
            Self::Many(_) if !is_batch => {
                Err(format!("{field}: a list, but the request is of one sequence; give one value"))
            }
            Self::Many(values) if values.len() != n => Err(format!(
                "{field}: expected {n} values, one for each sequence, got {}",
                values.len()
            )),
            Self::Many(values) => Ok(values),
        }
    }
}

/// The value of each of `n` sequences; `default` where the field is not given.
pub(crate) fn each<T: Clone>(
    value: Option<OneOrMany<T>>,
    default: T,
    field: &str,
    n: usize,
    is_batch: bool,
) -> Result<Vec<T>, String> {
    value.unwrap_or(OneOrMany::One(default)).each(field, n, is_batch)
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

struct OneOrManyVisitor<T>(PhantomData<T>);

/// Visits a scalar without a buffer between.
macro_rules! scalar {
    ($($method:ident: $type:ty),*) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<Self::Value, E> {
            T::deserialize(value.into_deserializer()).map(OneOrMany::One)
        }
    )*};
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value, or a list with one for each sequence")
    }

    scalar!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OneOrMany::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
    }
}
