//! `cargo bench --bench serve`: reading requests; asking a server whose answers are ready, which is
//! reading answers; and `opd serve` end to end in both forms: the bundled teacher, and eight samples
//! of one 400-token prompt with and without sharing it.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    thread::JoinHandle,
};

use candle_core::{DType, Device};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opd_batch::{ScoreRequest, ScoredSequence, Teacher, Wanted};
use opd_models::CausalLm;
use opd_serve::{Options, Running, ServedModel, Server, wire};
use opd_teacher::{RemoteSettings, SglangTeacher, VllmTeacher};
use opd_testkit::http::{HttpServer, Reply};
use serde_json::json;

/// A served model and one connection to it.
struct Site {
    running: Option<Running>,
    worker: Option<JoinHandle<opd_serve::Result<()>>>,
    connection: BufReader<TcpStream>,
}

impl Site {
    fn new(dir: &Path, options: Options) -> Self {
        let server = Server::new(ServedModel::load(dir, &Device::Cpu).unwrap(), options);
        let running = Running::start(&server, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let worker = server.worker();
        let worker = std::thread::spawn(move || worker.run());
        let stream = TcpStream::connect(running.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { running: Some(running), worker: Some(worker), connection: BufReader::new(stream) }
    }

    /// The answer.
    fn score(&mut self, path: &str, body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: b\r\nContent-Length: {length}\r\n\r\n");
        let stream = self.connection.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            self.connection.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            assert!(!lower.starts_with("http/1.1 ") || lower.contains(" 200 "), "{line}");
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        self.connection.read_exact(&mut answer).unwrap();
        answer
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.running.take());
        self.worker.take().map(JoinHandle::join);
    }
}

fn request(sequences: &[Vec<u32>], start: usize) -> Vec<u8> {
    let body = json!({
        "input_ids": sequences,
        "sampling_params": { "temperature": 1, "max_new_tokens": 0 },
        "return_logprob": true,
        "logprob_start_len": start,
    });
    body.to_string().into_bytes()
}

/// The same in the form of vLLM.
fn completion(sequences: &[Vec<u32>]) -> Vec<u8> {
    let body = json!({
        "model": "teacher", "prompt": sequences, "max_tokens": 1, "temperature": 1,
        "prompt_logprobs": 0, "return_token_ids": true,
    });
    body.to_string().into_bytes()
}

/// Teachers of both kinds at a server that gives every scoring request this answer.
fn reading(answers: [Vec<u8>; 2]) -> (HttpServer, [Box<dyn Teacher>; 2]) {
    // As `opd serve`, which is sent all samples of a prompt at once.
    let info = json!({
        "model_path": "random", "weight_version": "1", "input_logprob_temperature": true,
    });
    let info = info.to_string();
    let models = json!({ "data": [{ "id": "teacher", "max_model_len": 1024 }] }).to_string();
    let [sglang, vllm] = answers;
    let server = HttpServer::start(move |request| match request.path.as_str() {
        "/generate" => Reply::json(sglang.clone()),
        "/v1/completions" => Reply::json(vllm.clone()),
        "/model_info" => Reply::json(info.clone()),
        "/v1/models" => Reply::json(models.clone()),
        _ => Reply::status(404, "{}"),
    });
    let settings = RemoteSettings { sequences_per_request: 8, ..RemoteSettings::default() };
    let teachers: [Box<dyn Teacher>; 2] = [
        Box::new(SglangTeacher::connect(&[server.url()], settings.clone()).unwrap()),
        Box::new(VllmTeacher::connect(&[server.url()], settings).unwrap()),
    ];
    (server, teachers)
}

fn tokens(sequences: &[Vec<u32>]) -> u64 {
    sequences.iter().map(|sequence| sequence.len() as u64).sum()
}

/// Random weights: width 256, 6 layers, 4,096 tokens, a context of 1,024.
fn random_model(dir: &Path) {
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "vocab_size": 4096, "hidden_size": 256,
        "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 1024,
        "tie_word_embeddings": true,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let model = CausalLm::random(dir, 0, DType::F32, &Device::Cpu).unwrap();
    model.save(dir).unwrap();
}

fn serve(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let prompt = (0..400u32).map(|i| i * 7 % 4096);
    let group: Vec<Vec<u32>> = (0..8u32)
        .map(|s| prompt.clone().chain((0..100).map(|i| (i * 31 + s * 101) % 4096)).collect())
        .collect();
    let mut criterion = c.benchmark_group("serve");
    criterion.sample_size(10).throughput(Throughput::Elements(tokens(&group)));
    let body = request(&group, 399);
    criterion.bench_function("parse/8x500", |b| {
        b.iter(|| wire::GenerateRequest::parse(&body).unwrap());
    });

    let vllm = completion(&group);
    criterion.bench_function("parse/completions/8x500", |b| {
        b.iter(|| wire::CompletionRequest::parse(&vllm).unwrap());
    });

    random_model(dir.path());
    for (name, share_prefixes) in [("group/shared", true), ("group/alone", false)] {
        let mut site = Site::new(dir.path(), Options { share_prefixes, ..Options::default() });
        criterion.bench_function(name, |b| b.iter(|| site.score("/generate", &body)));
        let name = format!("completions/{name}");
        criterion.bench_function(name, |b| b.iter(|| site.score("/v1/completions", &vllm)));
    }

    let answers = {
        let mut site = Site::new(dir.path(), Options::default());
        [site.score("/generate", &body), site.score("/v1/completions", &vllm)]
    };
    let (_server, teachers) = reading(answers);
    let sequences: Vec<ScoredSequence<'_>> = group
        .iter()
        .map(|ids| ScoredSequence { prompt: &ids[..400], response: &ids[400..] })
        .collect();
    let asked = ScoreRequest { sequences, temperature: 1.0, wanted: Wanted::Sampled, sources: &[] };
    for (name, teacher) in ["sglang", "vllm"].into_iter().zip(&teachers) {
        assert_eq!(teacher.score(&asked).unwrap().n_missing(), 0);
        criterion.bench_function(format!("read/{name}/8x500"), |b| {
            b.iter(|| teacher.score(&asked).unwrap());
        });
    }

    let job = opd_pocket::materialize(&dir.path().join("pocket")).unwrap();
    let digits = |mut x: u32| {
        (0..17).map(move |_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            2 + (x >> 16) % 10
        })
    };
    let samples: Vec<Vec<u32>> = (0..256).map(|i| digits(i).collect()).collect();
    criterion.throughput(Throughput::Elements(tokens(&samples)));
    let body = request(&samples, 0);
    let mut site = Site::new(&job.teacher, Options::default());
    criterion.bench_function("pocket/256x17", |b| b.iter(|| site.score("/generate", &body)));
    criterion.finish();
}

criterion_group!(benches, serve);
criterion_main!(benches);
