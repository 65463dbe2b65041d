use std::{fmt, path::Path};

use reqwest::header::HeaderValue;

use crate::{Error, Result};

/// A bearer key. It is shown nowhere: not by `Debug`, not in errors, not in logs.
///
/// ```
/// use opd_http::ApiKey;
///
/// let key = ApiKey::new("sesame").unwrap();
/// assert_eq!(format!("{key:?}"), "ApiKey(***)");
/// ```
#[derive(Clone)]
pub struct ApiKey {
    header: HeaderValue,
    key: String,
}

impl ApiKey {
    /// A key of visible ASCII characters; `None` for an empty or any other text.
    pub fn new(key: &str) -> Option<Self> {
        let visible = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let mut header =
            HeaderValue::from_str(&format!("Bearer {key}")).ok().filter(|_| visible)?;
        header.set_sensitive(true);
        Some(Self { header, key: key.to_owned() })
    }

    /// The key in an environment variable.
    ///
    /// # Errors
    ///
    /// [`Error::KeyVariable`] if it is not set or holds no key.
    pub fn from_env(variable: &str) -> Result<Self> {
        let bad = |what| Error::KeyVariable { variable: variable.to_owned(), what };
        let key = std::env::var(variable).map_err(|_| bad("it is not set"))?;
        Self::new(key.trim()).ok_or_else(|| bad("it is empty or has odd characters"))
    }

    /// The key in a file; space around it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if it cannot be read or holds no key.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bad = |what: String| Error::KeyFile { path: path.to_owned(), what };
        let key = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        Self::new(key.trim()).ok_or_else(|| bad("it is empty or has odd characters".into()))
    }

    /// The key of the variable, else of the file, that is named; `None` if neither is.
    ///
    /// # Errors
    ///
    /// Those of [`Self::from_env`] or [`Self::from_file`].
    pub fn named(variable: Option<&str>, file: Option<&Path>) -> Result<Option<Self>> {
        match (variable, file) {
            (Some(variable), _) => Self::from_env(variable).map(Some),
            (None, Some(path)) => Self::from_file(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// `text` without the key, should a server have sent it back.
    pub(crate) fn redact(&self, text: &str) -> String {
        text.replace(&self.key, "***")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}
