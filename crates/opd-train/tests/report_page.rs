//! The report: what it says, and that nothing in it can break it.
#![allow(clippy::unwrap_used, missing_docs)]

use opd_train::{
    report::{self, Evaluation, PassAtK, PositionKl, ReportData, Sample, TokenKl, Who},
    run::{Metrics, PassAt1, Seconds, StepMetrics, Summary, key},
};

/// A report in which every text that comes from outside is `text`.
fn data(text: &str) -> ReportData {
    let evaluation = |who, pass_at_1, interval| Evaluation {
        who,
        pass_at_1,
        interval,
        pass_at_k: vec![PassAtK { k: 2, rate: 0.9753, interval: [0.971, 0.979] }],
        prompts: 10_000,
        samples_per_prompt: 2,
    };
    let token = |student_logprob, teacher_logprob| TokenKl {
        text: text.to_owned(),
        student_logprob,
        teacher_logprob,
    };
    let sample = |correct| Sample {
        prompt: text.to_owned(),
        tokens: vec![token(-0.5, Some(-3.25)), token(-0.75, None), token(-1.5, Some(-0.125))],
        correct,
    };
    ReportData {
        title: text.to_owned(),
        summary: Summary {
            pass_at_1: PassAt1 { before: Some(0.76), after: Some(0.95), teacher: Some(0.96) },
            seconds: Seconds { training: 41.5, total: 75.25 },
            generated_tokens: 1_234_567,
            seed: 11,
            steps: 60,
            eval_prompts: 10_000,
            ..Summary::default()
        },
        evaluations: vec![
            evaluation(Who::Before, 0.76, [0.7512, 0.7688]),
            evaluation(Who::After, 0.95, [0.9451, 0.9549]),
            evaluation(Who::Teacher, 0.96, [0.956, 0.964]),
        ],
        kl_by_position_before: vec![PositionKl { kl: 0.5, responses: 3 }; 4],
        kl_by_position_after: vec![PositionKl { kl: 0.125, responses: 3 }; 4],
        samples_before: vec![sample(Some(false))],
        samples_after: vec![sample(Some(true)), sample(None)],
        config: text.to_owned(),
        environment: vec![(text.to_owned(), text.to_owned())],
    }
}

fn metrics(extra_key: &str, steps: u64) -> Vec<StepMetrics> {
    let line = |step| {
        let x = step as f64;
        StepMetrics::new(step)
            .with(key::REVERSE_KL, 1.0 / x)
            .with(key::LEARNING_RATE, 1e-3)
            .with(key::ENTROPY, f64::NAN)
            .with(key::GRAD_NORM, if step == 2 { f64::NAN } else { x.sin().abs() })
            .with(key::PASS_AT_1, 0.9)
            .with(extra_key, x)
            .with_seconds(extra_key, 0.5)
            .with_seconds("rollout", 1.5)
            .with_seconds("step", 2.25)
    };
    (1..=steps).map(line).collect()
}

/// The tags of a page with the names of their attributes, found by the rules of HTML: a tag
/// starts with `<` and a letter or `/`, attributes may be quoted, `script` and `style` are
/// raw up to their end tag.
fn tags(html: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        if !rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            continue;
        }
        let mut quoted = false;
        let end = rest
            .find(|c| {
                quoted ^= c == '"';
                c == '>' && !quoted
            })
            .unwrap();
        let outside_quotes: Vec<&str> = rest[..end].split('"').step_by(2).collect();
        let tag = outside_quotes.concat();
        rest = &rest[end + 1..];
        for raw in ["script", "style"] {
            if tag == raw {
                rest = &rest[rest.find(&format!("</{raw}")).unwrap()..];
            }
        }
        tags.push(tag);
    }
    tags
}

#[test]
fn hostile_text_changes_no_tag() {
    let plain = tags(&report::html(&data("plain"), &metrics("extra/plain", 5)));
    assert!(plain.iter().filter(|tag| *tag == "script").count() == 1);
    let hostile = [
        "</script><script>alert(1)</script>",
        "<b>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</pre></style><!--",
        "&lt;/span&gt;",
        "\u{0}\u{202e}\r\u{1b}",
        "{\"a\":[1]}",
    ];
    for text in hostile {
        let html = report::html(&data(text), &metrics(&format!("extra/{text}"), 5));
        assert_eq!(tags(&html), plain, "{text:?}");
        let allowed = |c: char| c == '\n' || c == '\t' || !c.is_control();
        assert!(html.chars().all(allowed), "{text:?}");
    }
}

#[test]
fn every_tag_that_opens_is_closed() {
    let html = report::html(&data("plain"), &metrics("extra/plain", 100));
    let mut open: Vec<String> = Vec::new();
    for tag in tags(&html) {
        let name = tag.split([' ', '\n']).next().unwrap().trim_end_matches('/').to_owned();
        if ["!doctype", "meta", "path"].contains(&name.as_str()) {
            continue;
        }
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().unwrap(), closed);
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_asks_for_nothing_from_anywhere() {
    let html = report::html(&data("plain"), &metrics("extra", 5));
    for request in ["http:", "https:", "//", "src=", "href=", "url(", "@import", "fetch("] {
        assert!(!html.contains(request), "{request}");
    }
}

#[test]
fn the_numbers_are_in_the_page() {
    let html = report::html(&data("plain"), &metrics("extra", 60));
    let expected = [
        "76.00%",
        "75.12% to 76.88%",
        "95.00%",
        "96.00%",
        "20,000",
        "<b>+19.0</b> points: 95% of the gap",
        "41.5 s",
        "75.2 s",
        "1,234,567",
        "<dd>11</dd>",
        "data-s=\"-0.5000\" data-t=\"-3.2500\"",
        "class=\"t none\" data-s=\"-0.7500\"",
        "class=\"t p7\"",
        "class=\"t n5\"",
        "mean KL 0.6875",
        "rollout 90.0 s (75%)",
        "extra 30.0 s (25%)",
        "pass@2 97.53% (97.10% to 97.90%)",
    ];
    for number in expected {
        assert!(html.contains(number), "{number}");
    }
    assert!(!html.contains("NaN") && !html.contains("null"));
    assert!(!html.contains("<b>Entropy</b>"), "a metric without a number has no chart");
}

#[test]
fn samples_of_one_prompt_stand_side_by_side() {
    let html = report::html(&data("plain"), &[]);
    let articles: Vec<&str> = html.split("<article").skip(1).collect();
    let sides = |article: &str| {
        let has = |side: &str| article.contains(&format!("<section class=\"{side}\">"));
        (has("before"), has("after"))
    };
    assert_eq!(articles.into_iter().map(sides).collect::<Vec<_>>(), [(true, true), (false, true)]);
}

#[test]
fn thousands_of_steps_are_thinned_but_peaks_stay() {
    let mut lines = metrics("extra", 20_000);
    lines[12_345].values.insert(key::GRAD_NORM.to_owned(), 4321.5);
    let html = report::html(&data("plain"), &lines);
    assert!(html.len() < 600_000, "{} bytes", html.len());
    assert!(html.contains("&quot;4322&quot;") || html.contains("&quot;4321&quot;"));
}

#[test]
fn what_is_missing_is_left_out() {
    let html = report::html(&ReportData::default(), &[]);
    assert!(html.contains("</html>"));
    assert!(!html.contains("<h2>"), "no section has a content");
}

#[test]
fn the_page_is_written_from_the_metrics_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let mut file = Metrics::create(dir.path().join("metrics.jsonl")).unwrap();
    let lines = metrics("extra", 7);
    lines.iter().for_each(|line| file.write(line).unwrap());
    let path = report::write(dir.path(), &data("plain")).unwrap();
    assert_eq!(path, dir.path().join("report.html"));
    let html = std::fs::read_to_string(path).unwrap();
    assert_eq!(html, report::html(&data("plain"), &lines));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}
