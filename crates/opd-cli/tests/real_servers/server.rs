use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use opd_batch::Teacher;
use opd_http::{ApiKey, Client, Request, Settings, Verdict};
use opd_teacher::{Limits, RemoteSettings, SglangTeacher, VllmTeacher};

pub(crate) const KEY: &str = "a-key-that-nobody-may-see";

/// The environment variable that the `opd` under test takes the key from.
pub(crate) const KEY_VARIABLE: &str = "OPD_TEST_KEY";

/// A slow machine compiles, loads and warms up for minutes.
const PATIENCE: Duration = Duration::from_secs(1500);

type Connect = fn(&str, RemoteSettings) -> opd_teacher::Result<(Box<dyn Teacher>, Limits)>;

/// What sets the two servers apart.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) connect: Connect,
}

pub(crate) const SGLANG: Kind = Kind {
    name: "sglang",
    connect: |url, settings| {
        let teacher = SglangTeacher::connect(&[url], settings)?;
        let limits = teacher.limits();
        Ok((Box::new(teacher), limits))
    },
};

pub(crate) const VLLM: Kind = Kind {
    name: "vllm",
    connect: |url, settings| {
        let teacher = VllmTeacher::connect(&[url], settings)?;
        let limits = teacher.limits();
        Ok((Box::new(teacher), limits))
    },
};

/// How our client asks: with the key, and patiently.
pub(crate) fn settings(vocab_size: usize) -> RemoteSettings {
    let mut http = Settings { key: ApiKey::new(KEY), ..Settings::default() };
    http.timeout = Duration::from_secs(300);
    http.retry.patience = PATIENCE;
    http.retry.attempts = 1000;
    RemoteSettings { http, vocab_size: Some(vocab_size), ..RemoteSettings::default() }
}

/// The interpreter of the server's venv.
pub(crate) fn python() -> String {
    env::var("OPD_SERVER_PYTHON").expect("OPD_SERVER_PYTHON: use the run script")
}

/// A file of `tests/real_servers`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/real_servers").join(name)
}

/// A server of its own process group; ended with the test.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    model: PathBuf,
    context: usize,
    flags: Vec<String>,
    port: u16,
    child: Child,
}

impl Server {
    pub(crate) fn start(kind: Kind, model: &Path, context: usize, flags: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = spawn(kind, model, context, &flags, port);
        let mut server = Self { kind, model: model.to_owned(), context, flags, port, child };
        server.wait();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Until it answers; a server that ends, or takes too long, fails the test.
    fn wait(&mut self) {
        let begin = Instant::now();
        while !self.healthy() {
            assert!(begin.elapsed() < PATIENCE, "{}: not ready", self.kind.name);
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{}: ended with {ended:?}; see its log", self.kind.name);
            thread::sleep(Duration::from_secs(1));
        }
        eprintln!("{}: ready after {:.0?}", self.kind.name, begin.elapsed());
    }

    pub(crate) fn healthy(&self) -> bool {
        let answer = self.ask("/health");
        answer.is_ok_and(|answer| answer.split_whitespace().nth(1) == Some("200"))
    }

    /// What the server has at a path, with the head of its answer.
    pub(crate) fn get(&self, path: &str) -> String {
        self.ask(path).unwrap()
    }

    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Sends an order of the server's own and returns its answer.
    pub(crate) fn order(&self, path: &str, body: &serde_json::Value) -> String {
        let settings = Settings { key: ApiKey::new(KEY), ..Settings::default() };
        let client = Client::new(&[self.url()], settings).unwrap();
        let (path, body) = (path.to_owned(), body.to_string());
        let ask = move || Request::post(path.clone(), body.clone());
        let take = |body: &[u8]| Verdict::Accept(String::from_utf8_lossy(body).into_owned());
        client.run(client.send(None, ask, take)).unwrap().value
    }

    pub(crate) fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again_with(&mut self, model: &Path) {
        self.model = model.to_owned();
        self.start_again();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.kind, &self.model, self.context, &self.flags, self.port);
        self.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

fn spawn(kind: Kind, model: &Path, context: usize, flags: &[String], port: u16) -> Child {
    use std::os::unix::process::CommandExt;
    let log = fs::File::create(env::temp_dir().join(format!("opd-{}.log", kind.name))).unwrap();
    Command::new(script("start"))
        .args([kind.name, &python()])
        .arg(model)
        .args([&context.to_string(), &port.to_string(), "--api-key", KEY])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

/// `opd` with the key in its environment.
pub(crate) fn opd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_opd"));
    command.env(KEY_VARIABLE, KEY).stdin(Stdio::null());
    command
}

/// A running `opd serve`; ended with the test.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
}

impl Served {
    pub(crate) fn start(model: &Path) -> Self {
        let mut command = opd();
        command.args(["serve", "--port", "0", "--quiet", "--api-key-env", KEY_VARIABLE]);
        let mut child = command.arg("--model").arg(model).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, url: line.trim().to_owned() }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
