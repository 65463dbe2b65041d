use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
};

use opd_testkit::{GoldenModel, assert_close};
use serde_json::{Value, json};

use crate::command::Workplace;

/// A running `opd serve`.
pub(crate) struct Served {
    child: Child,
    address: String,
}

impl Served {
    pub(crate) fn start(work: &Workplace, flags: &[&str]) -> Self {
        Self::of(work, &GoldenModel::load("qwen3_tied").dir, flags)
    }

    pub(crate) fn of(work: &Workplace, model: &Path, flags: &[&str]) -> Self {
        let mut command = work.command();
        command.args(["serve", "--port", "0", "--threads", "2", "--model"]).arg(model).args(flags);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").unwrap().to_owned();
        Self { child, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn generate(&self, headers: &str) -> (String, Value) {
        let tokens = &GoldenModel::load("qwen3_tied").sequences[0];
        let body = json!({
            "input_ids": tokens, "sampling_params": { "max_new_tokens": 0 },
            "return_logprob": true, "logprob_start_len": 0,
        })
        .to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST /generate HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    /// Sends SIGTERM; exit code and stderr.
    pub(crate) fn terminate(mut self) -> (Option<i32>, String) {
        assert!(
            std::process::Command::new("kill")
                .arg(self.child.id().to_string())
                .status()
                .unwrap()
                .success()
        );
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

impl Drop for Served {
    /// A test that fails leaves no server behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn scores_are_served_until_the_server_is_told_to_stop() {
    let work = Workplace::new();
    let golden = GoldenModel::load("qwen3_tied");
    let served = Served::start(&work, &[]);
    let (status, answer) = served.generate("");
    assert_eq!(status, "HTTP/1.1 200 OK");
    let entries = answer["meta_info"]["input_token_logprobs"].as_array().unwrap();
    let got: Vec<f64> = entries[1..].iter().map(|entry| entry[0].as_f64().unwrap()).collect();
    assert_close(&got, &golden.cases[0].log_probs, 1e-4);
    let (code, stderr) = served.terminate();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("stopping: 0 requests wait"), "{stderr}");
}

#[test]
fn a_key_comes_from_a_file() {
    let work = Workplace::new();
    let file = work.write("key", "sesame\n");
    let served = Served::start(&work, &["--api-key-file", file.to_str().unwrap(), "--quiet"]);
    assert_eq!(served.generate("").0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(served.generate("Authorization: Bearer sesame\r\n").0, "HTTP/1.1 200 OK");
    let (code, stderr) = served.terminate();
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn an_open_door_and_bad_keys_are_refused() {
    let work = Workplace::new();
    let model = GoldenModel::load("qwen3_tied").dir.display().to_string();
    let empty = work.write("empty", "\n").display().to_string();
    let serve =
        |flags: &[&str]| work.opd([&["serve", "--port", "0", "--model", &model], flags].concat());
    serve(&["--host", "0.0.0.0"])
        .fails(2, &["0.0.0.0:0 can be reached from other machines", "--api-key-env"]);
    serve(&["--api-key-file", &empty]).fails(2, &["empty: the key is empty"]);
    serve(&["--api-key-env", "OPD_NO_SUCH_KEY"]).fails(2, &["OPD_NO_SUCH_KEY: it is not set"]);
    serve(&["--host", "no.such.host.invalid"])
        .fails(2, &["--host no.such.host.invalid: no such address"]);
    serve(&["--api-key-env", "A", "--api-key-file", &empty]).fails(2, &["cannot be used with"]);
}
