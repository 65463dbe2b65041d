//! The teacher behind the real SGLang and vLLM: `tests/real_servers/run` installs and runs them.
#![allow(clippy::unwrap_used, missing_docs)]

mod clients;
mod models;
mod probing;
mod router;
mod scores;
mod server;
mod token_form;
mod training;
mod weights;

use opd_pocket::{DataSizes, materialize_with};
use opd_testkit::GoldenModel;

use crate::server::{Kind, SGLANG, Server, VLLM};

/// Tokens that the bundled teacher's context holds, and its vocabulary.
const CONTEXT: usize = 64;
const VOCAB: usize = 13;

/// All that both servers are held to, with the bundled teacher; `longest` is their own limit.
fn check(kind: Kind, longest: usize) {
    let work = tempfile::tempdir().unwrap();
    let sizes = DataSizes { train: 400, validation: 1, test: 1 };
    let job = materialize_with(work.path(), sizes).unwrap();
    let mut server = Server::start(kind, &job.teacher, CONTEXT, &[]);
    scores::a_wrong_key_is_refused(&server, VOCAB);
    scores::agrees_with_in_process(&server, &job.teacher);
    scores::limits_are_kept(&server, VOCAB, longest);
    probing::passes_its_checks(&server, &job);
    if kind.name == SGLANG.name {
        clients::read_the_same_from_opd_serve(&server, &job.teacher);
    }
    scores::an_outage_loses_nothing(&mut server, &job.teacher);
    training::trains_as_in_process(&server, work.path());
    weights::new_weights_are_a_new_identity(&mut server, &job.teacher, work.path());
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn sglang() {
    check(SGLANG, CONTEXT - 7);
    models::agree(0..1);
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn sglang_architectures() {
    models::agree(1..GoldenModel::NAMES.len());
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn router() {
    router::loses_nothing();
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn vllm() {
    check(VLLM, CONTEXT - 1);
}

#[test]
#[ignore = "needs the real server: tests/real_servers/run"]
fn vllm_tokens() {
    token_form::agrees_with_in_process(CONTEXT);
}
