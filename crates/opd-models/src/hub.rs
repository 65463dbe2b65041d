use std::{
    env, fs,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use hf_hub::{
    Cache, Repo, RepoType,
    api::sync::{ApiBuilder, ApiError, ApiRepo},
};

use crate::{Error, Result, save::COMPANIONS, weights::shards};

/// A model of the Hugging Face hub: `organisation/name`, or `organisation/name@revision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `organisation/name`.
    pub repo: String,
    /// A branch, tag or commit; `main` if none is named.
    pub revision: String,
}

impl HubId {
    /// The id that a text is, if it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (organisation, name) = repo.split_once('/')?;
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !name.contains("..")
        };
        let is_revision = revision.split('/').all(is_name);
        let is_id = is_name(organisation) && is_name(name) && is_revision;
        is_id.then(|| Self { repo: repo.to_owned(), revision: revision.to_owned() })
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision.clone())
    }

    fn at(&self, commit: &str) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, commit.to_owned())
    }
}

/// How models of the hub are fetched, and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    cache: PathBuf,
    endpoint: String,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    /// As the environment says: `HF_HOME` (or `HF_HUB_CACHE`) has the cache, `HF_ENDPOINT` the
    /// server, `HF_TOKEN` (or the file `token` of `HF_HOME`) the key, and `HF_HUB_OFFLINE`
    /// whether the cache must do.
    pub fn from_env() -> Self {
        let variable = |name| env::var(name).ok().filter(|text: &String| !text.is_empty());
        let home = Cache::from_env();
        let on =
            |text: String| ["1", "ON", "YES", "TRUE"].contains(&text.to_ascii_uppercase().as_str());
        Self {
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.path().clone(), PathBuf::from),
            endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            token: variable("HF_TOKEN").or_else(|| home.token()),
            offline: variable("HF_HUB_OFFLINE").is_some_and(on),
        }
    }

    /// A server and a cache of one's own.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), endpoint: endpoint.into(), token: None, offline: false }
    }

    /// With a key.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Without asking the server.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// The directory of a model: config, tokenizer and safetensors weights, fetched unless the
    /// cache has them.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] says what cannot be had, and what to do.
    pub fn fetch(&self, id: &HubId) -> Result<PathBuf> {
        if self.offline {
            return self.cached(id).ok_or_else(|| {
                self.bad(id, "the cache does not have it, and HF_HUB_OFFLINE forbids to fetch it")
            });
        }
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.trim_end_matches('/').to_owned())
            .with_token(self.token.clone())
            .with_progress(std::io::stderr().is_terminal())
            .with_retries(2)
            .build()
            .map_err(|error| self.bad(id, error.to_string()))?;
        let info = api.repo(id.repo()).info().map_err(|error| self.refused(id, &error))?;
        let commit = info.sha;
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(self.bad(id, "the server names no commit"));
        }
        let has = |name: &str| info.siblings.iter().any(|file| file.rfilename == name);
        let repo = api.repo(id.at(&commit));
        let get = |name: &str| self.get(&repo, id, name);
        let config = match has("config.json") {
            true => get("config.json")?,
            false => return Err(self.bad(id, "the repository has no config.json")),
        };
        let dir = config.parent().unwrap_or(Path::new("")).to_owned();
        for name in COMPANIONS.into_iter().filter(|name| has(name)) {
            get(name)?;
        }
        let index = "model.safetensors.index.json";
        match (has("model.safetensors"), has(index)) {
            (true, _) => drop(get("model.safetensors")?),
            (false, true) => {
                get(index)?;
                for shard in shards(&dir)? {
                    get(&shard.file_name().unwrap_or_default().to_string_lossy())?;
                }
            }
            (false, false) => {
                let gguf = info.siblings.iter().any(|file| file.rfilename.ends_with(".gguf"));
                let remedy = if gguf { "; download one of its GGUF files and name it" } else { "" };
                let what = format!("the repository has no safetensors weights{remedy}");
                return Err(self.bad(id, what));
            }
        }
        // So that the name leads to the commit without the server, too.
        let cache = Cache::new(self.cache.clone()).repo(id.repo());
        cache.create_ref(&commit).map_err(Error::io(&self.cache, "write"))?;
        Ok(dir)
    }

    fn get(&self, repo: &ApiRepo, id: &HubId, name: &str) -> Result<PathBuf> {
        repo.get(name).map_err(|error| self.bad(id, format!("{name}: {}", said(&error))))
    }

    /// The snapshot that the cache has of a model, with config and weights.
    fn cached(&self, id: &HubId) -> Option<PathBuf> {
        let repo = self.cache.join(id.repo().folder_name());
        let commit = fs::read_to_string(repo.join("refs").join(&id.revision));
        let commit = commit.map_or_else(|_| id.revision.clone(), |text| text.trim().to_owned());
        let is_commit = !commit.is_empty() && commit.chars().all(|c| c.is_ascii_hexdigit());
        let dir = is_commit.then(|| repo.join("snapshots").join(commit))?;
        let files = shards(&dir).ok()?;
        let whole = dir.join("config.json").is_file() && files.iter().all(|file| file.is_file());
        whole.then_some(dir)
    }

    fn bad(&self, id: &HubId, what: impl Into<String>) -> Error {
        let remedy = format!(
            "fetch it where there is a network (hf download {} --revision {}) and name the \
             directory, or bring the cache along and name it in HF_HOME",
            id.repo, id.revision
        );
        let what = what.into();
        let id = format!("{}@{}", id.repo, id.revision);
        Error::Hub { id, endpoint: self.endpoint.clone(), what, remedy }
    }

    /// What an answer to the first question means.
    fn refused(&self, id: &HubId, error: &ApiError) -> Error {
        let text = said(error);
        let error = self.bad(id, text.clone());
        let (Error::Hub { id: shown, endpoint, .. }, has) = (error, self.cached(id).is_some())
        else {
            return self.bad(id, text);
        };
        let remedy = match text.as_str() {
            _ if text.contains("404") => {
                "check the name and the revision; a directory must exist to be taken as one"
            }
            _ if text.contains("401") || text.contains("403") => {
                "there is no such model, or it is not public: set HF_TOKEN to a key that may read \
                 it"
            }
            _ if has => "the cache has a copy: HF_HUB_OFFLINE=1 takes it",
            _ => return self.bad(id, text),
        };
        Error::Hub { id: shown, endpoint, what: text, remedy: remedy.to_owned() }
    }
}

/// An error with its causes.
fn said(error: &ApiError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The directory or file of a model: a path as it is, an id of the hub fetched as the
/// environment says.
///
/// What exists is a path; so is what has not the form `organisation/name`.
///
/// # Errors
///
/// As [`Hub::fetch`].
pub fn resolve(model: impl AsRef<Path>) -> Result<PathBuf> {
    let path = model.as_ref();
    match hub_id(path) {
        Some(id) => Hub::from_env().fetch(&id),
        None => Ok(path.to_owned()),
    }
}

/// The id of the hub that a path is, unless there is something at that path.
pub fn hub_id(path: &Path) -> Option<HubId> {
    if path.exists() { None } else { HubId::parse(path.to_str()?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_a_form_that_few_paths_have() {
        let id = |repo: &str, revision: &str| {
            Some(HubId { repo: repo.into(), revision: revision.into() })
        };
        assert_eq!(HubId::parse("Qwen/Qwen3-0.6B"), id("Qwen/Qwen3-0.6B", "main"));
        assert_eq!(HubId::parse("a/b@v1.0"), id("a/b", "v1.0"));
        assert_eq!(HubId::parse("a/b@refs/pr/3"), id("a/b", "refs/pr/3"));
        for path in [
            "model",
            "/a/b",
            "./a/b",
            "../b",
            "a/b/c",
            "a/",
            "/b",
            "a/../b",
            "a/..",
            "a/b@",
            "a/b@../../x",
            "a b/c",
            "a\\b/c",
            "~/a",
            "a/.b",
            "bundled:a/b",
            "a/b@/x",
        ] {
            assert_eq!(HubId::parse(path), None, "{path}");
        }
    }
}
