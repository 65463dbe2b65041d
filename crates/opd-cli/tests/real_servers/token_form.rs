use opd_pocket::{DataSizes, materialize_with};

use crate::{
    scores,
    server::{Server, VLLM},
};

/// `/inference/v1/generate`, which vLLM has only with a flag, is used where it is there.
pub(crate) fn agrees_with_in_process(context: usize) {
    let work = tempfile::tempdir().unwrap();
    let sizes = DataSizes { train: 1, validation: 1, test: 1 };
    let job = materialize_with(work.path(), sizes).unwrap();
    let server = Server::start(VLLM, &job.teacher, context, &["--enable-scale-out"]);
    scores::agrees_with_in_process(&server, &job.teacher);
    let answered = |path: &str| {
        let metrics = server.get("/metrics");
        let line = |line: &&str| line.starts_with("http_requests_total{") && line.contains("2xx");
        metrics.lines().filter(line).any(|line| line.contains(path))
    };
    assert!(answered("/inference/v1/generate") && !answered("/v1/completions"));
}
