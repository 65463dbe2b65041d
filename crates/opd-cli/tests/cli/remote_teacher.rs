use std::path::Path;

use serde_json::{Map, Value};

use crate::{command::Workplace, serving::Served, sglang_stub::Server};

/// A short job, without its teacher.
pub(crate) const JOB: &str = "train --hf-checkpoint bundled:student --prompt-data bundled:train.jsonl \
    --eval-prompt-data bundled:test.jsonl --eval-prompts 4 --rollout-batch-size 3 \
    --n-samples-per-prompt 4 --rollout-max-response-len 10 --steps 3 --lr 1e-3 \
    --eval-interval 0 --seed 5 --quiet --skip-teacher-check --use-opd";

/// The lines of `metrics.jsonl` without times.
pub(crate) fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
        line.retain(|key, _| !key.starts_with("seconds/"));
        line
    };
    text.lines().map(line).collect()
}

#[test]
fn a_teacher_behind_http_teaches_what_it_teaches_in_process() {
    let work = Workplace::new();
    same_as_in_process(&work, "");
}

/// What a server is asked is the teacher's prompt, and the response aligns the two.
#[test]
fn a_teacher_behind_http_is_told_more_than_the_student() {
    let work = Workplace::new();
    same_as_in_process(&work, "--opd-teacher-prompt-template {label}{prompt}");
    let told = metrics(&work.path("remote"));
    let server = Server::start(&work, usize::MAX);
    work.line(&format!("{JOB} {} --output plain", server.flags())).succeeds();
    assert_ne!(told[0]["reverse_kl"], metrics(&work.path("plain"))[0]["reverse_kl"]);
}

#[track_caller]
fn same_as_in_process(work: &Workplace, flags: &str) {
    let server = Server::start(work, usize::MAX);
    let own = "--opd-type in-process --opd-teacher-load bundled:teacher";
    work.line(&format!("{JOB} {own} {flags} --output own")).succeeds();
    work.line(&format!("{JOB} {} {flags} --output remote", server.flags())).succeeds();
    let (own, remote) = (metrics(&work.path("own")), metrics(&work.path("remote")));
    assert_same(&own, &remote, 3);
    assert!(own.iter().all(|line| line["teacher/missing"] == 0));
}

#[test]
fn scores_in_a_journal_are_not_asked_for_again() {
    let work = Workplace::new();
    let server = Server::start(&work, usize::MAX);
    let line = |out: &str| format!("{JOB} {} --opd-journal j.redb --output {out}", server.flags());
    work.line(&line("first")).succeeds();
    assert!(server.requests() > 0);
    work.line(&line("second")).succeeds();
    // The look at whether the server honours the temperature is no part of a batch.
    assert!(server.requests() <= 1);
    assert_eq!(metrics(&work.path("first")), metrics(&work.path("second")));
}

#[test]
fn a_journal_replays_a_teacher_that_is_gone() {
    let work = Workplace::new();
    let server = Server::start(&work, usize::MAX);
    let live = format!("{JOB} {} --opd-journal j.redb --output live", server.flags());
    work.line(&live).succeeds();
    drop(server);
    let replay = format!("{JOB} --opd-type replay --opd-journal j.redb");
    work.line(&format!("{replay} --output replayed")).succeeds();
    assert_eq!(metrics(&work.path("replayed")), metrics(&work.path("live")));

    let gone = format!("{JOB} --opd-type replay --opd-journal none.redb --output gone");
    work.line(&gone).fails(1, &["none.redb: there is no such file"]);
    assert!(!work.path("none.redb").exists());
    work.line(&format!("{JOB} --opd-type replay --output gone")).fails(2, &["--opd-journal FILE"]);
    let other = replay.replace("--seed 5", "--seed 6");
    work.line(&format!("{other} --output other")).fails(
        1,
        &["j.redb: ", " sequences have no score by `sglang model", "with the teacher itself"],
    );
    // With the scores of a second teacher in it, one must be named.
    let own = "--opd-type in-process --opd-teacher-load bundled:teacher --opd-journal j.redb";
    work.line(&format!("{JOB} {own} --output own")).succeeds();
    work.line(&format!("{replay} --output both")).fails(
        1,
        &["name a teacher; it holds scores by: in-process model sha256:", "sglang model"],
    );
    let identity = "sglang model `/t`, weight version `1`";
    let flags = format!("{replay} --output named");
    let args = flags.split_whitespace().chain(["--opd-teacher-identity", identity]);
    work.opd(args.collect::<Vec<_>>()).succeeds();
    assert_eq!(metrics(&work.path("named")), metrics(&work.path("live")));
}

/// The default job's first ten steps, with `opd serve` between.
#[test]
fn a_teacher_behind_opd_serve_teaches_what_it_teaches_in_process() {
    let work = Workplace::new();
    let layout = opd_pocket::materialize(&work.path("bundled")).unwrap();
    let served = Served::of(&work, &layout.teacher, &[]);
    let config = work.line("train --print-config").succeeds().stdout;
    work.write("job.toml", &config);
    let job = "train --config job.toml --steps 10 --lr-decay-iters 400 --eval-prompts 50 --quiet";
    work.line(&format!("{job} --output own")).succeeds();
    for form in ["sglang", "vllm"] {
        let url = served.url();
        let remote = format!("{job} --opd-type {form} --rm-url {url} --output {form}");
        work.line(&remote).succeeds();
        assert_same(&metrics(&work.path("own")), &metrics(&work.path(form)), 11);
    }
    served.terminate();
}

/// Every metric within 1e-4, on so many lines.
#[track_caller]
pub(crate) fn assert_same(own: &[Map<String, Value>], remote: &[Map<String, Value>], lines: usize) {
    assert_eq!((own.len(), remote.len()), (lines, lines));
    for (own, remote) in own.iter().zip(remote) {
        assert!(own.keys().eq(remote.keys()), "{own:?} {remote:?}");
        for (key, value) in own {
            let (a, b) = (value.as_f64().unwrap(), remote[key].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{key}: {a} {b}");
        }
    }
}

#[test]
fn a_run_ends_when_scores_are_missing_and_goes_on_when_they_are_back() {
    let work = Workplace::new();
    let settings = "[distillation.client]\nattempts = 2\npatience_seconds = 1\n";
    let whole = Server::start(&work, usize::MAX);
    work.line(&format!("{JOB} {} --output whole", whole.flags())).succeeds();
    let per_step = whole.requests() / 4;
    let dying = Server::start(&work, per_step + 2);
    let url = dying.url();
    let print = format!("{JOB} {} --save-interval 1 --print-config", dying.flags());
    let config = work.line(&print.replace("--quiet", "")).succeeds().stdout;
    let at = config.find("[distillation.client]").unwrap();
    let rest = config[at + 1..].find("\n[").map_or("", |end| &config[at + 1 + end..]);
    work.write("job.toml", &format!("{}{settings}{rest}", &config[..at]));
    work.line("train --config job.toml --output run --quiet --skip-teacher-check").fails(
        1,
        &[
            "error: step ",
            "score: stopped before the weights were changed",
            "response tokens (",
            "have no score by the teacher, and distillation.max_missing allows 1.0%",
        ],
    );
    drop(dying);
    // Another server takes over; the run is told by its file.
    let path = work.path("run/config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&url, &whole.url())).unwrap();
    work.line("train --resume run --quiet").succeeds();
    assert_eq!(metrics(&work.path("run")), metrics(&work.path("whole")));
}

#[test]
fn another_temperature_is_refused_or_taken_knowingly() {
    let work = Workplace::new();
    let server = Server::start(&work, usize::MAX);
    let job = format!("{JOB} {} --rollout-temperature 0.8 --output run", server.flags());
    work.line(&job).fails(
        2,
        &[
            "error: samples are drawn at temperature 0.8, and teacher `/t@127.0.0.1:",
            "scores at temperature 1 only: the KL between them would be biased; sample at 1",
            "--opd-accept-temperature-bias",
        ],
    );
    let knowingly = format!("{job} --opd-accept-temperature-bias --overwrite");
    work.line(&knowingly).succeeds();
}

#[test]
fn a_server_that_is_not_there_is_told_at_once() {
    let work = Workplace::new();
    let server = "--opd-type sglang --rm-url http://127.0.0.1:1";
    let said = &["error: http://127.0.0.1:1 gave no usable answer in 1 attempts", "refused"];
    work.line(&format!("{JOB} {server} --output run")).fails(1, said);
}
