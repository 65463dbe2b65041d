use std::{fmt, path::Path};

use subtle::ConstantTimeEq;

use crate::{Error, Result};

/// The bearer key that requests must carry; never printed.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// Takes a key from where `place` says, for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if it is empty or no HTTP header can carry it.
    pub fn new(key: &str, place: impl Into<String>) -> Result<Self> {
        let key = key.trim();
        let bad = |what: &str| Err(Error::Key { place: place.into(), what: what.into() });
        if key.is_empty() {
            return bad("the key is empty; write one into it");
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return bad("the key must be printable ASCII without spaces");
        }
        Ok(Self(key.as_bytes().to_vec()))
    }

    /// Reads a key from an environment variable.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if it is not set, too.
    pub fn from_env(variable: &str) -> Result<Self> {
        let place = format!("environment variable {variable}");
        match std::env::var(variable) {
            Ok(key) => Self::new(&key, place),
            Err(_) => Err(Error::Key { place, what: "it is not set".into() }),
        }
    }

    /// Reads a key from a file; white space around it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] or [`Error::Key`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.into(), source })?;
        Self::new(&text, path.display().to_string())
    }

    /// Whether an `Authorization` header holds `Bearer` and this key; takes the same time for
    /// every wrong key of this length.
    pub(crate) fn opens(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, given)) = authorization.and_then(|value| value.split_at_checked(7))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(self.0.ct_eq(given.trim_ascii()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_opens() {
        let key = Key::new(" sesame\n", "test").unwrap();
        let opens = |header: &str| key.opens(Some(header.as_bytes()));
        assert!(opens("Bearer sesame") && opens("bearer sesame"));
        for wrong in ["", "Bearer", "Bearer ", "Bearer sesam", "Bearer sesame2", "Basic sesame"] {
            assert!(!opens(wrong), "{wrong}");
        }
        assert!(!key.opens(None));
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn a_key_that_protects_nothing_is_refused() {
        let error = Key::new(" \n", "file k").unwrap_err();
        assert_eq!(error.to_string(), "file k: the key is empty; write one into it");
        assert!(Key::new("a b", "file k").is_err());
        let error = Key::from_env("OPD_SERVE_NO_SUCH_VARIABLE").unwrap_err().to_string();
        assert_eq!(error, "environment variable OPD_SERVE_NO_SUCH_VARIABLE: it is not set");
    }
}
