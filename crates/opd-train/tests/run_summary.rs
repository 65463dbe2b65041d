//! `summary.json`: the exact fields, and that it is all or nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use opd_train::run::{Error, Intervals, PassAt1, Seconds, Summary, write_atomically};

fn summary() -> Summary {
    Summary {
        pass_at_1: PassAt1 { before: Some(0.7612), after: Some(0.9455), teacher: None },
        interval: Intervals {
            before: Some([0.7528, 0.7695]),
            after: Some([0.9409, 0.9498]),
            teacher: None,
        },
        seconds: Seconds { training: 41.5, total: 60.25 },
        generated_tokens: 1_234_567,
        seed: 3,
        steps: 60,
        eval_prompts: 10_000,
    }
}

#[test]
fn the_fields_are_those_that_are_promised() {
    let dir = tempfile::tempdir().unwrap();
    summary().write(dir.path()).unwrap();
    let json = fs::read(dir.path().join("summary.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let expected = serde_json::json!({
        "pass_at_1": {"before": 0.7612, "after": 0.9455, "teacher": null},
        "interval": {"before": [0.7528, 0.7695], "after": [0.9409, 0.9498], "teacher": null},
        "seconds": {"training": 41.5, "total": 60.25},
        "generated_tokens": 1_234_567,
        "seed": 3,
        "steps": 60,
        "eval_prompts": 10_000,
    });
    assert_eq!(json, expected);
    assert_eq!(Summary::read(dir.path()).unwrap(), Some(summary()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_run_without_one_is_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Summary::read(dir.path()).unwrap(), None);
    fs::write(dir.path().join("summary.json"), "{").unwrap();
    let error = Summary::read(dir.path()).unwrap_err();
    assert!(error.to_string().contains("summary.json"), "{error}");
}

#[test]
fn percentages_and_nan_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut percent = summary();
    percent.pass_at_1.after = Some(94.6);
    let mut nan = summary();
    nan.seconds.training = f64::NAN;
    for (bad, field) in [(percent, "pass_at_1.after is 94.6"), (nan, "seconds.training is NaN")] {
        let error = bad.write(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Range { .. }));
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn on_a_full_disk_a_file_stays_as_it_was() {
    let Some(disk) = opd_testkit::Mount::tmpfs("64k") else { return };
    let path = disk.path().join("config.toml");
    write_atomically(&path, b"seed = 1\n").unwrap();
    let error = write_atomically(&path, &[b'#'; 100_000]).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"seed = 1\n");
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 1, "nothing is left aside");
    write_atomically(&path, b"seed = 2\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"seed = 2\n");
}
