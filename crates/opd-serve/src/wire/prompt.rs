use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

use super::numbers::{Entry, Numbers, rest};

/// `prompt` of a completion: text, texts, ids or lists of ids.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Ids(Numbers),
}

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PromptVisitor)
    }
}

struct PromptVisitor;

impl<'de> Visitor<'de> for PromptVisitor {
    type Value = Prompt;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a list of token ids, or a list of either")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Prompt, E> {
        Ok(Prompt::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Prompt, A::Error> {
        match seq.next_element()? {
            None => Ok(Prompt::Ids(Numbers::Flat(Vec::new()))),
            Some(Entry::Text(first)) => rest(seq, first).map(Prompt::Texts),
            Some(Entry::Number(first)) => {
                rest(seq, first).map(|ids| Prompt::Ids(Numbers::Flat(ids)))
            }
            Some(Entry::List(first)) => {
                rest(seq, first).map(|lists| Prompt::Ids(Numbers::Lists(lists)))
            }
        }
    }
}
