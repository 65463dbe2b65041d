use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer},
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

/// An entry of a list.
enum Entry {
    Number(i64),
    List(Numbers),
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        match seq.next_element()? {
            None => Ok(Numbers::Flat(Vec::new())),
            Some(Entry::Number(first)) => {
                let mut numbers = vec![first];
                while let Some(number) = seq.next_element::<i64>()? {
                    numbers.push(number);
                }
                Ok(Numbers::Flat(numbers))
            }
            Some(Entry::List(first)) => {
                let mut lists = vec![first];
                while let Some(list) = seq.next_element::<Numbers>()? {
                    lists.push(list);
                }
                Ok(Numbers::Lists(lists))
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
        f.write_str("a token id or a list of token ids")
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
