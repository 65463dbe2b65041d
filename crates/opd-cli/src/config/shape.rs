use opd_data::DataFiles;
use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor,
        value::{Error, SeqDeserializer},
    },
    forward_to_deserialize_any,
};

/// What may stand in a place of a TOML file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Named places, in the order of the struct's fields.
    Table(Vec<(&'static str, Shape)>),
    /// `true` or `false`.
    Bool,
    /// A whole number of at least 0.
    Integer,
    /// Any number.
    Number,
    /// Text.
    Text,
    /// A list.
    List,
    /// Text, or a list of texts.
    TextOrList,
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// Something else, which only the type itself can judge.
    Any,
}

impl Shape {
    /// The shape of the values that `T` is read from, asked of `T` itself.
    pub(crate) fn of<T: DeserializeOwned>() -> Self {
        let mut shape = Self::Any;
        match T::deserialize(Recorder(&mut shape)) {
            Ok(_) => shape,
            Err(_) => Self::Any,
        }
    }

    /// Paths of all places, `optimizer.lr`, tables included.
    pub(crate) fn paths(&self) -> Vec<String> {
        let Self::Table(fields) = self else { return Vec::new() };
        let paths = fields.iter().flat_map(|(name, shape)| {
            let below = shape.paths().into_iter().map(move |path| format!("{name}.{path}"));
            std::iter::once((*name).to_owned()).chain(below)
        });
        paths.collect()
    }
}

/// Gives a type any value that it takes, and notes what it asked for.
struct Recorder<'a>(&'a mut Shape);

macro_rules! plain {
    ($($method:ident => $shape:ident, $visit:ident($value:expr);)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            *self.0 = Shape::$shape;
            visitor.$visit($value)
        })*
    };
}

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = Error;

    plain! {
        deserialize_bool => Bool, visit_bool(false);
        deserialize_u8 => Integer, visit_u8(0);
        deserialize_u16 => Integer, visit_u16(0);
        deserialize_u32 => Integer, visit_u32(0);
        deserialize_u64 => Integer, visit_u64(0);
        deserialize_f32 => Number, visit_f32(0.0);
        deserialize_f64 => Number, visit_f64(0.0);
        deserialize_str => Text, visit_str("");
        deserialize_string => Text, visit_str("");
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == DataFiles::NAME {
            *self.0 = Shape::TextOrList;
            return visitor.visit_newtype_struct("".into_deserializer());
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.0 = Shape::List;
        visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<u8>()))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut fields = Vec::new();
        let value = visitor.visit_map(Fields { names: names.iter(), fields: &mut fields })?;
        *self.0 = Shape::Table(fields);
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = Shape::OneOf(names);
        let first = names.first().ok_or_else(|| Error::custom("an enum without variants"))?;
        visitor.visit_enum((*first).into_deserializer())
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("a configuration is made of structs and plain values"))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier
        ignored_any
    }
}

struct Fields<'a> {
    names: std::slice::Iter<'static, &'static str>,
    fields: &'a mut Vec<(&'static str, Shape)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.names.next() else { return Ok(None) };
        self.fields.push((name, Shape::Any));
        seed.deserialize((*name).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (_, shape) =
            self.fields.last_mut().ok_or_else(|| Error::custom("a value without a key"))?;
        seed.deserialize(Recorder(shape))
    }
}

#[cfg(test)]
mod tests {
    use opd_train::config::{TeacherKind, TrainConfig};

    use super::*;

    #[test]
    fn every_level_is_known() {
        let paths = Shape::of::<TrainConfig>().paths();
        let known = [
            "steps",
            "student.path",
            "distillation",
            "distillation.teacher_step",
            "distillation.urls",
            "objective.clip.dual",
            "optimizer.clip_grad",
            "evaluation.test_prompts",
            "stop.action",
            "data.train",
        ];
        for path in known {
            assert!(paths.iter().any(|held| held == path), "{path} is not in {paths:?}");
        }
    }

    #[test]
    fn other_names_of_a_variant_are_known() {
        let Shape::OneOf(names) = Shape::of::<TeacherKind>() else { panic!("not an enum") };
        for name in ["in-process", "megatron", "sglang"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
    }
}
