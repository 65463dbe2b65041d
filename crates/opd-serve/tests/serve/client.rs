use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread::JoinHandle,
    time::Duration,
};

use candle_core::{DType, Device};
use opd_models::CausalLm;
use opd_serve::{Options, Running, ServedModel, Server};
use opd_teacher::InProcessTeacher;
use opd_testkit::{GoldenModel, ModelDir};
use serde_json::{Value, json};

/// A server on a free port, its worker, and the same model in process.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) teacher: InProcessTeacher,
    running: Option<Running>,
    worker: Option<JoinHandle<opd_serve::Result<()>>>,
    pub(crate) address: SocketAddr,
    _dir: ModelDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Site {
    pub(crate) fn of(name: &str, options: Options) -> Self {
        Self::with(ModelDir::copy(&GoldenModel::load(name).dir), options)
    }

    pub(crate) fn with(dir: ModelDir, options: Options) -> Self {
        Self::on_threads(dir, options, 2)
    }

    /// A site whose worker computes with so many threads.
    pub(crate) fn on_threads(dir: ModelDir, options: Options, threads: usize) -> Self {
        let model = ServedModel::load(dir.path(), &Device::Cpu).unwrap().with_name("teacher");
        let teacher = CausalLm::load(dir.path(), DType::F32, &Device::Cpu).unwrap();
        let server = Server::new(model, options);
        let running = Running::start(&server, "127.0.0.1:0".parse().unwrap()).unwrap();
        let worker = server.worker();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let worker = Some(std::thread::spawn(move || pool.install(|| worker.run())));
        let address = running.address();
        let teacher = InProcessTeacher::new(teacher);
        Self { server, teacher, running: Some(running), worker, address, _dir: dir }
    }

    pub(crate) fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn generate(&self, body: &Value) -> Value {
        self.post("/generate", body).ok()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, "", body.to_string().as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    /// One request on a connection of its own; `headers` are whole lines.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses the head may close before it has read the body.
        let _ = stream.write_all(body);
        read(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Shuts down; what was taken is answered before this returns.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
        if let Some(worker) = self.worker.take() {
            worker.join().unwrap().unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

/// Reads an answer until the connection closes.
pub(crate) fn read(stream: &mut TcpStream) -> Answer {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { panic!("no head in {text:?}") };
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Status and message, wherever the protocol has it.
    #[track_caller]
    pub(crate) fn fault(&self) -> (u16, String) {
        let body = self.json();
        let message = body["error"]["message"].as_str().or(body["message"].as_str());
        (self.status, message.unwrap_or_else(|| panic!("{self:?}")).to_owned())
    }
}

/// slime's scoring request.
pub(crate) fn request(ids: impl Into<Value>) -> Value {
    json!({
        "input_ids": ids.into(),
        "sampling_params": { "temperature": 1, "max_new_tokens": 0, "skip_special_tokens": false },
        "return_logprob": true,
        "logprob_start_len": 0,
    })
}

/// `request` with further fields.
pub(crate) fn with(mut request: Value, fields: &Value) -> Value {
    for (field, value) in fields.as_object().unwrap() {
        request[field] = value.clone();
    }
    request
}

/// The log-probs of `[null, [lp, id, null], ..]`-like entries behind the first one.
#[track_caller]
pub(crate) fn logprobs(answer: &Value) -> Vec<f32> {
    let entries = answer["meta_info"]["input_token_logprobs"].as_array().unwrap();
    entries.iter().skip(1).map(|entry| number(&entry[0])).collect()
}

#[track_caller]
pub(crate) fn number(value: &Value) -> f32 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}")) as f32
}
