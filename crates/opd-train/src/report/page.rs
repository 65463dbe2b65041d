use std::fmt::{self, Write};

use crate::{
    report::{
        ReportData, Who,
        chart::{Chart, Form, Series, Values, Weight},
        curves,
        escape::Text,
        evaluations,
        number::{count, duration},
        position, samples,
    },
    run::StepMetrics,
};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("readout.js");

/// Places of the response that are drawn, at most.
const POSITIONS: usize = 256;

/// The page, as text.
pub fn html(data: &ReportData, metrics: &[StepMetrics]) -> String {
    let mut html = String::new();
    // Writing to a `String` cannot fail.
    let _ = write_page(&mut html, data, metrics);
    html
}

fn write_page(to: &mut String, data: &ReportData, metrics: &[StepMetrics]) -> fmt::Result {
    let title = Text(&data.title);
    writeln!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}: report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header><p>on-policy distillation</p>\
         <h1>{title}</h1>{}</header>\n<main>",
        facts(data)
    )?;
    write_section(to, "Result", &evaluations::table(&data.evaluations))?;
    let teacher = data.evaluations.iter().find(|row| row.who == Who::Teacher);
    let charts = curves::charts(metrics, teacher.map(|row| row.pass_at_1));
    write_section(to, "Curves", &grid(&charts))?;
    write_section(to, "KL by position", &grid(&[by_position(data)]))?;
    let samples = samples::section(&data.samples_before, &data.samples_after);
    write_section(to, "Samples", &samples)?;
    write_section(to, "Environment", &environment(&data.environment))?;
    write_section(to, "Configuration", &config(&data.config))?;
    writeln!(
        to,
        "</main>\n<div id=\"readout\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>"
    )
}

fn write_section(to: &mut String, title: &str, content: &str) -> fmt::Result {
    if content.is_empty() {
        return Ok(());
    }
    writeln!(to, "<section><h2>{title}</h2>\n{content}</section>")
}

fn facts(data: &ReportData) -> String {
    let summary = &data.summary;
    let facts = [
        ("steps", count(summary.steps)),
        ("training", duration(summary.seconds.training)),
        ("in all", duration(summary.seconds.total)),
        ("generated tokens", count(summary.generated_tokens)),
        ("held-out prompts", count(summary.eval_prompts)),
        ("seed", summary.seed.to_string()),
    ];
    let facts = facts.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    format!("<dl class=\"facts\">{}</dl>", facts.concat())
}

fn grid(charts: &[Chart]) -> String {
    let charts: String = charts.iter().map(Chart::html).collect();
    if charts.is_empty() {
        return charts;
    }
    format!("<div class=\"charts\">\n{charts}</div>\n")
}

fn by_position(data: &ReportData) -> Chart {
    let sides = [
        ("before", "before", &data.kl_by_position_before),
        ("after", "after", &data.kl_by_position_after),
    ];
    let series = sides.into_iter().filter(|(.., positions)| !positions.is_empty());
    let series = series.map(|(name, colour, positions)| Series {
        name: name.to_owned(),
        note: String::new(),
        colour,
        weight: if positions.len() <= 40 { Weight::Dotted } else { Weight::Strong },
        points: position::points(positions, POSITIONS),
    });
    Chart {
        title: "Reverse KL".to_owned(),
        unit: "mean over the responses that reach the position, nats".to_owned(),
        along: "response token",
        form: Form::LinesFromZero,
        values: Values::Plain,
        series: series.collect(),
        levels: Vec::new(),
        span: None,
        wide: true,
    }
}

fn environment(environment: &[(String, String)]) -> String {
    if environment.is_empty() {
        return String::new();
    }
    let rows = environment.iter();
    let rows = rows
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", Text(name), Text(value)));
    format!("<dl class=\"environment\">{}</dl>\n", rows.collect::<String>())
}

fn config(config: &str) -> String {
    if config.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>config.toml</summary><pre class=\"config\">{}</pre></details>\n",
        Text(config)
    )
}
