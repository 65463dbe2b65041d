use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Unexpected, Visitor, value::SeqAccessDeserializer},
};

/// A list of whole numbers, or of such lists, to any depth; all entries of a list are of one
/// kind. Memory is a small multiple of the text's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numbers {
    /// `[]`, `[1, 2]`
    Flat(Vec<i64>),
    /// `[[1], [2, 3]]`
    Lists(Vec<Numbers>),
}

/// The first entry of a list, which says of what kind the others must be.
pub(super) enum Entry {
    Text(String),
    Number(i64),
    List(Numbers),
}

/// A whole list of which `first` was read.
pub(super) fn rest<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(
    mut seq: A,
    first: T,
) -> Result<Vec<T>, A::Error> {
    let mut all = vec![first];
    while let Some(next) = seq.next_element()? {
        all.push(next);
    }
    Ok(all)
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(NumbersVisitor)
    }
}

struct NumbersVisitor;

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of token ids, or a list of such lists")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers, A::Error> {
        match seq.next_element()? {
            None => Ok(Numbers::Flat(Vec::new())),
            Some(Entry::Number(first)) => rest(seq, first).map(Numbers::Flat),
            Some(Entry::List(first)) => rest(seq, first).map(Numbers::Lists),
            Some(Entry::Text(text)) => {
                let expected = &"a token id or a list of token ids";
                Err(A::Error::invalid_type(Unexpected::Str(&text), expected))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a token id or a list of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Entry, E> {
        Ok(Entry::Number(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Entry, E> {
        // Beyond any vocabulary either way.
        Ok(Entry::Number(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Entry, A::Error> {
        Numbers::deserialize(SeqAccessDeserializer::new(seq)).map(Entry::List)
    }
}
