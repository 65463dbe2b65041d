use std::{
    fmt,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use opd_batch::Teacher;
use opd_http::{Client, Request};
use opd_teacher::{InProcessTeacher, Limits, RemoteSettings, SglangTeacher, VllmTeacher, base_url};
use serde_json::Value;

use crate::Result;

/// Which protocol a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SGLang's, which `opd serve` speaks, too.
    Sglang,
    /// vLLM's.
    Vllm,
}

/// A teacher to be probed.
#[derive(Debug)]
pub struct Subject {
    /// Its address or directory.
    pub(crate) place: String,
    /// Where its model is, as far as this machine can tell.
    pub(crate) model_dir: Option<PathBuf>,
    pub(crate) teacher: Backend,
    /// To ask a server what the `Teacher` trait does not.
    pub(crate) client: Option<Client>,
}

pub(crate) enum Backend {
    InProcess(Box<InProcessTeacher>),
    Sglang(Box<SglangTeacher>),
    Vllm(Box<VllmTeacher>),
    Other(Box<dyn Teacher>, Limits),
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProcess(teacher) => teacher.fmt(f),
            Self::Sglang(teacher) => teacher.fmt(f),
            Self::Vllm(teacher) => teacher.fmt(f),
            Self::Other(teacher, limits) => {
                f.debug_tuple("Other").field(&teacher.name()).field(limits).finish()
            }
        }
    }
}

impl Subject {
    /// Any teacher, which takes what `limits` say.
    pub fn of(teacher: Box<dyn Teacher>, limits: Limits) -> Self {
        let place = teacher.name().to_owned();
        Self { place, model_dir: None, teacher: Backend::Other(teacher, limits), client: None }
    }

    /// A model directory, to be run in this process.
    ///
    /// # Errors
    ///
    /// If it cannot be loaded.
    pub fn directory(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let teacher = InProcessTeacher::load(dir, DType::F32, device)?;
        Ok(Self {
            place: dir.display().to_string(),
            model_dir: Some(dir.to_owned()),
            teacher: Backend::InProcess(Box::new(teacher)),
            client: None,
        })
    }

    /// A server; without `kind` it is asked what it is.
    ///
    /// # Errors
    ///
    /// If it does not answer, or does not say what it serves.
    pub fn server(url: &str, kind: Option<Kind>, settings: RemoteSettings) -> Result<Self> {
        let url = base_url(url);
        let client = Client::new(&[url], settings.http.clone())?;
        let info = get(&client, "/model_info").or_else(|| get(&client, "/get_model_info"));
        let models = get(&client, "/v1/models");
        let owner = models.as_ref().and_then(|models| models.pointer("/data/0/owned_by"));
        let is_vllm = info.is_none() && owner.and_then(Value::as_str) == Some("vllm");
        let kind = kind.unwrap_or(if is_vllm { Kind::Vllm } else { Kind::Sglang });
        let teacher = match kind {
            Kind::Sglang => Backend::Sglang(Box::new(SglangTeacher::connect(&[url], settings)?)),
            Kind::Vllm => Backend::Vllm(Box::new(VllmTeacher::connect(&[url], settings)?)),
        };
        let said = info.as_ref().and_then(|info| info.get("model_path"));
        let said =
            said.or_else(|| models.as_ref().and_then(|models| models.pointer("/data/0/root")));
        let model_dir = said.and_then(Value::as_str).map(PathBuf::from).filter(|dir| dir.is_dir());
        Ok(Self { place: url.to_owned(), model_dir, teacher, client: Some(client) })
    }

    pub(crate) fn teacher(&self) -> &dyn Teacher {
        match &self.teacher {
            Backend::InProcess(teacher) => &**teacher,
            Backend::Sglang(teacher) => &**teacher,
            Backend::Vllm(teacher) => &**teacher,
            Backend::Other(teacher, _) => &**teacher,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        match &self.teacher {
            Backend::InProcess(teacher) => {
                let config = teacher.model().config();
                Limits { longest: Some(config.context), vocab_size: Some(config.vocab_size) }
            }
            Backend::Sglang(teacher) => teacher.limits(),
            Backend::Vllm(teacher) => teacher.limits(),
            Backend::Other(_, limits) => *limits,
        }
    }

    /// What kind of teacher it is.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.teacher {
            Backend::InProcess(_) => "in-process",
            Backend::Sglang(_) => "sglang",
            Backend::Vllm(_) => "vllm",
            Backend::Other(..) => "custom",
        }
    }
}

/// The JSON that a server has at `path`, if it has any.
pub(crate) fn get(client: &Client, path: &str) -> Option<Value> {
    let request = Request::get(path);
    let body = client.run(client.send_once(0, &request)).ok()?;
    serde_json::from_slice(&body).ok()
}
