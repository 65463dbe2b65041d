//! The teacher behind the real SGLang and vLLM: `tests/real_servers/run` installs and runs them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    env, fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use candle_core::{DType, Device};
use opd_batch::{ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};
use opd_http::{ApiKey, Client, Request, Settings, Verdict};
use opd_pocket::{DataSizes, Layout, materialize_with};
use opd_teacher::{InProcessTeacher, Limits, RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::numbers;

const KEY: &str = "a-key-that-nobody-may-see";

/// Tokens that the bundled teacher's context holds.
const CONTEXT: usize = 64;

type Connect = fn(&str, RemoteSettings) -> opd_teacher::Result<(Box<dyn Teacher>, Limits)>;

/// What sets the two servers apart.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    connect: Connect,
}

const SGLANG: Kind = Kind {
    name: "sglang",
    connect: |url, settings| {
        let teacher = SglangTeacher::connect(&[url], settings)?;
        let limits = teacher.limits();
        Ok((Box::new(teacher), limits))
    },
};

const VLLM: Kind = Kind {
    name: "vllm",
    connect: |url, settings| {
        let teacher = VllmTeacher::connect(&[url], settings)?;
        let limits = teacher.limits();
        Ok((Box::new(teacher), limits))
    },
};

/// A server of its own process group; ended with the test.
struct Server {
    kind: Kind,
    model: PathBuf,
    port: u16,
    child: Child,
}

impl Server {
    fn start(kind: Kind, model: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Self::spawn(kind, model, port);
        let mut server = Self { kind, model: model.to_owned(), port, child };
        server.wait();
        server
    }

    fn spawn(kind: Kind, model: &Path, port: u16) -> Child {
        use std::os::unix::process::CommandExt;
        let python = env::var("OPD_SERVER_PYTHON").expect("OPD_SERVER_PYTHON: use the run script");
        let start = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/real_servers/start");
        let log = fs::File::create(env::temp_dir().join(format!("opd-{}.log", kind.name))).unwrap();
        Command::new(start)
            .args([kind.name, &python])
            .arg(model)
            .args([&CONTEXT.to_string(), &port.to_string(), "--api-key", KEY])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Until it answers; a server that ends, or takes 8 minutes, fails the test.
    fn wait(&mut self) {
        let begin = Instant::now();
        while !self.healthy() {
            assert!(begin.elapsed() < Duration::from_secs(480), "{}: not ready", self.kind.name);
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "{}: ended with {ended:?}; see its log", self.kind.name);
            thread::sleep(Duration::from_secs(1));
        }
        eprintln!("{}: ready after {:.0?}", self.kind.name, begin.elapsed());
    }

    fn healthy(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            write!(stream, "GET /health HTTP/1.0\r\nAuthorization: Bearer {KEY}\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.split_whitespace().nth(1) == Some("200"))
    }

    /// Sends an order of the server's own and returns its answer.
    fn order(&self, path: &str, body: &str) -> String {
        let settings = Settings { key: ApiKey::new(KEY), ..Settings::default() };
        let client = Client::new(&[self.url()], settings).unwrap();
        let (path, body) = (path.to_owned(), body.to_owned());
        let ask = move || Request::post(path.clone(), body.clone());
        let take = |body: &[u8]| Verdict::Accept(String::from_utf8_lossy(body).into_owned());
        client.run(client.send(None, ask, take)).unwrap().value
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        assert!(Command::new("kill").args(["-KILL", "--", &group]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = Self::spawn(self.kind, &self.model, self.port);
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

type Pair = (Vec<u32>, Vec<u32>);

/// `n` prompts with four responses each, of the bundled vocabulary, up to 50 tokens long.
fn groups(n: u64) -> Vec<Pair> {
    let ids = |n: usize, seed: u64| -> Vec<u32> {
        numbers(n, seed, 6.5).into_iter().map(|x| (x + 6.5) as u32).collect()
    };
    let pair = |i: u64| {
        let group = i / 4;
        (ids(1 + (group % 25) as usize, group), ids(1 + (i * 7 % 24) as usize, 1000 + i))
    };
    (0..4 * n).map(pair).collect()
}

fn request<'a>(pairs: &'a [Pair], wanted: Wanted<'a>) -> ScoreRequest<'a> {
    let sequences = pairs.iter().map(|(prompt, response)| ScoredSequence { prompt, response });
    ScoreRequest { sequences: sequences.collect(), temperature: 1.0, wanted, sources: &[] }
}

/// Within 1e-4 nats, and 1e-5 of a log-prob below -10: ids at random are as unlikely as -40.
fn assert_close(got: &[Option<f32>], want: &[Option<f32>], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let mut worst = 0.0f32;
    for (got, want) in got.iter().zip(want) {
        let (got, want) = (got.unwrap(), want.unwrap());
        let off = (got - want).abs();
        assert!(off <= 1e-5 * want.abs().max(10.0), "{what}: {got}, expected {want}");
        worst = worst.max(off);
    }
    eprintln!("{what}: {} scores, largest difference {worst:e}", got.len());
}

fn values(scores: &TeacherScores) -> &[Option<f32>] {
    scores.logprobs.values()
}

fn settings() -> RemoteSettings {
    let mut http = Settings { key: ApiKey::new(KEY), ..Settings::default() };
    http.timeout = Duration::from_secs(60);
    http.retry.patience = Duration::from_secs(600);
    http.retry.attempts = 100;
    RemoteSettings { http, vocab_size: Some(13), ..RemoteSettings::default() }
}

/// The message of an error with those of its sources.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    let next = std::iter::successors(Some(error), |error| error.source());
    next.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn check(kind: Kind) {
    let work = tempfile::tempdir().unwrap();
    let sizes = DataSizes { train: 400, validation: 1, test: 1 };
    let job = materialize_with(work.path(), sizes).unwrap();
    let local = InProcessTeacher::load(&job.teacher, DType::F32, &Device::Cpu).unwrap();
    let mut server = Server::start(kind, &job.teacher);

    let mut wrong = settings();
    wrong.http.key = ApiKey::new("another-key");
    let refused = (kind.connect)(&server.url(), wrong).and_then(|(teacher, _)| {
        teacher.score(&request(&groups(1), Wanted::Sampled)).map_err(opd_teacher::Error::from)
    });
    let refused = said(&refused.map(drop).unwrap_err());
    assert!(refused.contains("401") && !refused.contains("another-key"), "{refused}");

    let (teacher, limits) = (kind.connect)(&server.url(), settings()).unwrap();
    let pairs = groups(30);
    let want = local.score(&request(&pairs, Wanted::Sampled)).unwrap();
    let scores = teacher.score(&request(&pairs, Wanted::Sampled)).unwrap();
    assert_close(values(&scores), values(&want), "sampled tokens");

    let top = |teacher: &dyn Teacher| {
        teacher.score(&request(&pairs[..8], Wanted::TopK(4))).unwrap().top.unwrap()
    };
    let (got, want_top) = (top(&*teacher), top(&local));
    assert_eq!(got.ids, want_top.ids);
    let some = |values: &[f32]| -> Vec<Option<f32>> { values.iter().copied().map(Some).collect() };
    assert_close(&some(&got.logprobs), &some(&want_top.logprobs), "likeliest ids");

    let longest = limits.longest.unwrap();
    let just_fits = vec![(vec![1; longest - 1], vec![2])];
    let scores = teacher.score(&request(&just_fits, Wanted::Sampled)).unwrap();
    assert_eq!(scores.n_missing(), 0);
    let too_long = vec![(vec![1; longest], vec![2])];
    let refused = said(&teacher.score(&request(&too_long, Wanted::Sampled)).unwrap_err());
    assert!(refused.contains(&longest.to_string()), "{refused}");
    let outside = vec![(vec![3], vec![13])];
    let refused = said(&teacher.score(&request(&outside, Wanted::Sampled)).unwrap_err());
    assert!(refused.contains("13"), "{refused}");
    assert!(server.healthy(), "{} has died of a bad request", kind.name);

    let many = groups(400);
    let whole = local.score(&request(&many, Wanted::Sampled)).unwrap();
    thread::scope(|scope| {
        let scoring = scope.spawn(|| teacher.score(&request(&many, Wanted::Sampled)).unwrap());
        thread::sleep(Duration::from_millis(1500));
        let under_way = !scoring.is_finished();
        server.kill();
        server.start_again();
        let scores = scoring.join().unwrap();
        assert!(under_way, "the batch was done before the server was killed");
        assert_eq!(scores.n_missing(), 0);
        assert_close(values(&scores), values(&whole), "killed and started again in mid-batch");
    });

    trains_as_in_process(kind, &server, &job, work.path());
    if kind.name == "sglang" {
        let before = teacher.identity().unwrap();
        let model = job.teacher.display();
        let body = format!("{{\"model_path\": \"{model}\", \"weight_version\": \"second\"}}");
        server.order("/update_weights_from_disk", &body);
        let after = teacher.identity().unwrap();
        assert!(before != after && after.contains("second"), "{before}, then {after}");
    }
}

/// Ten steps with the teacher behind the server have the metrics of ten with it in process.
fn trains_as_in_process(kind: Kind, server: &Server, job: &Layout, work: &Path) {
    let train = |name: &str, flags: &[&str]| -> Vec<serde_json::Value> {
        let output = work.join(name);
        let ran = Command::new(env!("CARGO_BIN_EXE_opd"))
            .env("OPD_TEST_KEY", KEY)
            .args(["train", "--use-opd", "--quiet", "--steps", "10", "--lr", "5e-4"])
            .args(["--rollout-batch-size", "16", "--n-samples-per-prompt", "4"])
            .args(["--rollout-max-response-len", "10", "--eval-interval", "0"])
            .args([Path::new("--hf-checkpoint"), &job.student])
            .args([Path::new("--prompt-data"), &job.train])
            .args([Path::new("--output"), &output])
            .args(flags)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let metrics = fs::read_to_string(output.join("metrics.jsonl")).unwrap();
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let teacher = job.teacher.display().to_string();
    let here = train("here", &["--opd-type", "in-process", "--opd-teacher-load", &teacher]);
    let url = server.url();
    let there = ["--opd-type", kind.name, "--rm-url", &url, "--rm-api-key-env", "OPD_TEST_KEY"];
    let there = train("there", &there);
    assert_eq!(here.len(), there.len());
    let mut worst = 0.0f64;
    for (here, there) in here.iter().zip(&there) {
        for key in ["loss", "grad_norm", "reverse_kl", "entropy", "reward", "kl_old"] {
            let Some(want) = here.get(key).and_then(serde_json::Value::as_f64) else { continue };
            let off = (there[key].as_f64().unwrap() - want).abs() / want.abs().max(1.0);
            assert!(off <= 1e-4, "{key}: {} there, {want} here", there[key]);
            worst = worst.max(off);
        }
    }
    eprintln!("{}: ten steps of training, largest difference {worst:e}", kind.name);
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn sglang() {
    check(SGLANG);
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn vllm() {
    check(VLLM);
}
