//! Probes of good teachers, and of teachers with one fault each.
#![allow(clippy::unwrap_used, missing_docs)]

mod faulty;
mod servers;
mod sound;

use std::{net::SocketAddr, path::Path, thread::JoinHandle};

use candle_core::{DType, Device};
use opd_models::CausalLm;
use opd_probe::{Outcome, Report};
use opd_serve::{Options, Running, ServedModel, Server};

fn student(dir: &Path) -> CausalLm {
    CausalLm::load(dir, DType::F32, &Device::Cpu).unwrap()
}

fn outcomes(report: &Report) -> Vec<(&'static str, Outcome)> {
    report.checks.iter().map(|check| (check.name, check.outcome)).collect()
}

fn failed(report: &Report) -> Vec<&'static str> {
    let failed = report.checks.iter().filter(|check| check.outcome == Outcome::Fail);
    failed.map(|check| check.name).collect()
}

#[track_caller]
fn said<'a>(report: &'a Report, name: &str) -> (Outcome, &'a str) {
    let check = report.checks.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("no {name} in {report:?}"));
    (check.outcome, &check.said)
}

/// A running server of the model in a directory.
struct Site {
    running: Option<Running>,
    worker: Option<JoinHandle<opd_serve::Result<()>>>,
    address: SocketAddr,
}

impl Site {
    fn new(dir: &Path) -> Self {
        let model = ServedModel::load(dir, &Device::Cpu).unwrap();
        let server = Server::new(model, Options::default());
        let running = Running::start(&server, "127.0.0.1:0".parse().unwrap()).unwrap();
        let worker = server.worker();
        let worker = Some(std::thread::spawn(move || worker.run()));
        let address = running.address();
        Self { running: Some(running), worker, address }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.running.take());
        self.worker.take().map(JoinHandle::join);
    }
}
