use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Url;

use crate::{Error, Result, Settings, circuit::Circuit};

/// One server.
#[derive(Debug)]
pub(crate) struct Endpoint {
    base: String,
    pub(crate) circuit: Circuit,
    in_flight: AtomicUsize,
}

impl Endpoint {
    pub(crate) fn new(url: &str, settings: &Settings) -> Result<Self> {
        let bad = |what: &str| Error::Url { url: shown(url), what: what.to_owned() };
        let parsed = Url::parse(url).map_err(|error| bad(&error.to_string()))?;
        if !["http", "https"].contains(&parsed.scheme()) || parsed.host_str().is_none() {
            return Err(bad("it is neither http:// nor https://"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(bad("it holds a name or password; give a key by variable or file"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(bad("it has a part after ? or #"));
        }
        let base = parsed.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, circuit: Circuit::new(settings.circuit), in_flight: AtomicUsize::new(0) })
    }

    /// Address without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn load(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub(crate) fn occupy(&self) -> Occupied<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Occupied(self)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct Occupied<'a>(&'a Endpoint);

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A URL without what stands before an `@`, which may be secret.
fn shown(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => {
            format!("{}***{}", &url[..scheme + 3], &url[at..])
        }
        _ => url.to_owned(),
    }
}
