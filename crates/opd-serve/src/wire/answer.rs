use serde::{Serialize, Serializer, ser::SerializeSeq};

use crate::ServedModel;

/// `[log-prob, id, text]` as SGLang writes it.
pub(crate) type Entry = (Option<f32>, u32, Option<String>);

/// Makes entries, with texts if they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries<'a> {
    pub(crate) model: &'a ServedModel,
    pub(crate) texts: bool,
}

impl Entries<'_> {
    pub(crate) fn entry(&self, logprob: Option<f32>, id: u32) -> Entry {
        let text = if self.texts { self.model.text_of(id) } else { None };
        (logprob, id, text)
    }

    pub(crate) fn list(&self, of: impl Iterator<Item = (u32, f32)>) -> Vec<Entry> {
        of.map(|(id, logprob)| self.entry(Some(logprob), id)).collect()
    }
}

/// A sequence whose first value is null.
#[derive(Debug)]
pub(crate) struct BehindNull<T>(pub(crate) Vec<T>);

impl<T: Serialize> Serialize for BehindNull<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len() + 1))?;
        seq.serialize_element(&())?;
        for value in &self.0 {
            seq.serialize_element(value)?;
        }
        seq.end()
    }
}
