use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// Files that are read one after another as one data set; as text `"a.jsonl"`, or
/// `["a.jsonl", "b.parquet@[:100]"]` for several.
///
/// ```
/// use opd_data::DataFiles;
///
/// let one: DataFiles = serde_json::from_str(r#""a.jsonl""#)?;
/// let two: DataFiles = serde_json::from_str(r#"["a.jsonl", "b.jsonl"]"#)?;
/// assert_eq!((one.paths().len(), two.to_string().as_str()), (1, "a.jsonl, b.jsonl"));
/// assert_eq!(serde_json::to_string(&one)?, r#""a.jsonl""#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFiles(Vec<PathBuf>);

impl DataFiles {
    /// What its type is called where it is read, by those that ask for it.
    pub const NAME: &str = "DataFiles";

    /// The files, or slices of files, in their order; one that is named twice counts twice.
    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The files, to put others in their places.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, PathBuf> {
        self.0.iter_mut()
    }
}

impl<'a> IntoIterator for &'a mut DataFiles {
    type Item = &'a mut PathBuf;
    type IntoIter = std::slice::IterMut<'a, PathBuf>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl From<Vec<PathBuf>> for DataFiles {
    fn from(paths: Vec<PathBuf>) -> Self {
        Self(paths)
    }
}

impl From<PathBuf> for DataFiles {
    fn from(path: PathBuf) -> Self {
        Self(vec![path])
    }
}

impl From<&str> for DataFiles {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl fmt::Display for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|path| path.display().to_string());
        f.write_str(&names.collect::<Vec<_>>().join(", "))
    }
}

impl Serialize for DataFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [] => Path::new("").serialize(serializer),
            [path] => path.serialize(serializer),
            paths => paths.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for DataFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(Self::NAME, OneOrSeveral)
    }
}

struct OneOrSeveral;

impl<'de> Visitor<'de> for OneOrSeveral {
    type Value = DataFiles;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path, or a list of paths")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<DataFiles, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_str<E>(self, path: &str) -> Result<DataFiles, E> {
        Ok(if path.is_empty() { DataFiles::default() } else { path.into() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<DataFiles, A::Error> {
        let mut paths = Vec::new();
        while let Some(path) = list.next_element()? {
            paths.push(path);
        }
        Ok(DataFiles(paths))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_a_text_and_several_are_a_list() {
        for (text, names) in [
            (r#""""#, &[][..]),
            (r#""a.jsonl""#, &["a.jsonl"]),
            (r#"["a.jsonl","b.jsonl@[:5]"]"#, &["a.jsonl", "b.jsonl@[:5]"]),
            (r#"["a.jsonl","a.jsonl"]"#, &["a.jsonl", "a.jsonl"]),
        ] {
            let files: DataFiles = serde_json::from_str(text).unwrap();
            assert_eq!(files.paths(), names.iter().map(PathBuf::from).collect::<Vec<_>>());
            assert_eq!(serde_json::to_string(&files).unwrap(), text);
        }
        let one: DataFiles = serde_json::from_str(r#"["a.jsonl"]"#).unwrap();
        assert_eq!(one, "a.jsonl".into());
        for bad in ["3", "{}", "[3]", "null"] {
            let error = serde_json::from_str::<DataFiles>(bad).unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
        }
    }
}
