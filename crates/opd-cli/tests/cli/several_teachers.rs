use crate::{
    command::Workplace,
    remote_teacher::{JOB, metrics},
    sglang_stub::Server,
};

const OWN: &str = "--opd-type in-process --opd-teacher-load bundled:teacher";

/// A teacher for prompts of another source than those that are trained on.
const OTHER: &str =
    "[[teacher]]\nname = \"other\"\npath = \"bundled:student\"\ntags = [\"chat\"]\n";

/// The configuration of the short job with these tables of teachers; of its held-out prompts one
/// is of the source `chat`.
fn job(work: &Workplace, teachers: &str) -> String {
    let held_out = r#"{"prompt": "83120975=", "label": "01235789", "source": "sort8"}
{"prompt": "11111111=", "label": "11111111", "source": "chat"}
"#;
    work.write("held_out.jsonl", held_out);
    let config = work.line(&format!("{JOB} {OWN} --print-config")).succeeds().stdout;
    let config = config.replace("teacher = \"bundled:teacher\"\n", "");
    format!("{}\n{teachers}", config.replace("bundled:test.jsonl", "held_out.jsonl"))
}

#[test]
fn several_teachers_have_their_own_metrics() {
    let work = Workplace::new();
    let server = Server::start(&work, usize::MAX);
    let url = server.url();
    let teachers = job(
        &work,
        &format!(
            "[[teacher]]\nname = \"near\"\npath = \"bundled:teacher\"\nweight = 3\n\
             [[teacher]]\nname = \"far\"\ntype = \"sglang\"\nurls = [\"{url}\"]\n{OTHER}"
        ),
    );
    work.write("job.toml", &teachers);
    work.line("train --config job.toml --output run --quiet --skip-teacher-check").succeeds();
    let metrics = metrics(&work.path("run"));
    for line in &metrics {
        assert_eq!(line["teacher/near+far/missing"], 0);
        let all = line["reverse_kl"].as_f64().unwrap();
        assert_eq!(line["teacher/near+far/reverse_kl"].as_f64().unwrap(), all);
        assert!(!line.contains_key("teacher/other/reverse_kl"));
    }
    // The mean of two equal teachers is each of them.
    work.line(&format!("{JOB} {OWN} --output own --quiet").replacen("--quiet ", "", 1)).succeeds();
    let own = self::metrics(&work.path("own"));
    for (line, own) in metrics.iter().zip(&own) {
        let (a, b) = (line["reverse_kl"].as_f64().unwrap(), own["reverse_kl"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
    let tagged = teachers.replace("name = \"near\"", "tags = [\"math\"]\nname = \"near\"");
    let tagged = tagged.replace("name = \"far\"", "tags = [\"math\"]\nname = \"far\"");
    work.write("job.toml", &tagged);
    work.line("train --config job.toml --output tagged --quiet --skip-teacher-check").fails(
        1,
        &["error: no teacher is for prompts of source `", "there are teachers for `chat`, `math`"],
    );
}

#[test]
fn a_tag_that_no_prompt_carries_is_an_error_before_the_first_step() {
    let work = Workplace::new();
    let all = "[[teacher]]\nname = \"all\"\npath = \"bundled:teacher\"\n";
    let run = |other: &str, out: &str| {
        work.write("job.toml", &job(&work, &format!("{all}{other}")));
        work.line(&format!("train --config job.toml --output {out} --quiet"))
    };
    run(&OTHER.replace("chat", "caht"), "misspelt").fails(
        2,
        &[
            "teacher `other` has the tag `caht`, and no prompt is of that source; there are \
             `chat`, `sort8`",
            "correct the tag or take it away",
        ],
    );
    assert!(!work.path("misspelt/metrics.jsonl").exists());
    run(&OTHER.replace("[\"chat\"]", "[\"chat\", \"sort8\"]"), "right").succeeds();
}
