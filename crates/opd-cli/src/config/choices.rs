use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::{
    DeserializeOwned, IntoDeserializer,
    value::{Error, StrDeserializer},
};

use crate::config::Shape;

/// A flag's parser for an enum of the configuration: the names are those of the TOML file.
pub(crate) fn choices<T>() -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    let names: &[&str] = match Shape::of::<T>() {
        Shape::OneOf(names) => names,
        _ => &[],
    };
    PossibleValuesParser::new(names.iter().copied()).try_map(|name| {
        let name: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
        T::deserialize(name)
    })
}
