use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use serde_json::json;

use crate::http::{HttpRequest, HttpServer, Reply};

/// The commit that [`HubStub`] serves.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A server of one model, as the Hugging Face hub serves it.
#[derive(Debug)]
pub struct HubStub {
    server: HttpServer,
    asked: Arc<Mutex<Vec<String>>>,
}

impl HubStub {
    /// Serves the files of `dir` as `repo` at the branch `main` and at [`COMMIT`]. With a key,
    /// requests without it get 401.
    pub fn start(repo: &str, dir: &Path, key: Option<&str>) -> Self {
        let (repo, dir, key) = (repo.to_owned(), dir.to_owned(), key.map(str::to_owned));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        let server = HttpServer::start(move |request| {
            log.lock().unwrap().push(request.path.clone());
            let bearer = key.as_ref().map(|key| format!("Bearer {key}"));
            if bearer.is_some() && request.header("authorization") != bearer.as_deref() {
                return Reply::status(401, "{}");
            }
            answer(request, &repo, &dir).unwrap_or_else(|| Reply::status(404, "{}"))
        });
        Self { server, asked }
    }

    /// What `HF_ENDPOINT` has.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Paths of all requests until now.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(request: &HttpRequest, repo: &str, dir: &Path) -> Option<Reply> {
    let at = |rest: &str| {
        rest.strip_prefix("main").or_else(|| rest.strip_prefix(COMMIT)).map(str::to_owned)
    };
    if let Some(rest) = request.path.strip_prefix(&format!("/api/models/{repo}/revision/")) {
        at(rest).filter(String::is_empty)?;
        let mut names: Vec<String> = fs::read_dir(dir)
            .ok()?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        let siblings: Vec<_> = names.iter().map(|name| json!({ "rfilename": name })).collect();
        return Some(Reply::json(json!({ "sha": COMMIT, "siblings": siblings }).to_string()));
    }
    let rest = request.path.strip_prefix(&format!("/{repo}/resolve/"))?;
    let name = PathBuf::from(at(rest)?.strip_prefix('/')?);
    let content = fs::read(dir.join(&name)).ok()?;
    let range = request.header("range")?.strip_prefix("bytes=")?;
    let (start, end) = range.split_once('-')?;
    let (start, last) = (start.parse::<usize>().ok()?, content.len().checked_sub(1)?);
    let end = end.parse::<usize>().unwrap_or(last).min(last);
    let part = content.get(start..=end)?.to_vec();
    let etag: u64 = content.iter().fold(7, |hash: u64, &byte| {
        hash.wrapping_mul(0x100_0000_01b3).wrapping_add(u64::from(byte))
    });
    let headers = [
        ("etag", format!("\"{etag:016x}\"")),
        ("x-repo-commit", COMMIT.to_owned()),
        ("content-range", format!("bytes {start}-{end}/{}", content.len())),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
    Some(Reply::Answer { status: 206, headers, body: part })
}
