use std::collections::BTreeMap;

use crate::{
    report::{
        chart::{Chart, Form, Level, Series, Values, Weight},
        number::{duration, percent},
        thin::{averaged, smoothed},
    },
    run::{StepMetrics, key},
};

/// Points of a stacked chart, at most.
const LAYERS: usize = 160;

/// A curve longer than this is noisy enough for a mean over its neighbours.
const SMOOTH_FROM: usize = 50;

/// Colours that follow each other, as the style sheet names them.
pub(super) const COLOURS: [&str; 6] = ["c1", "c2", "c3", "c4", "c5", "c6"];

/// Keys drawn together, strongest first, with their names in the legend.
struct Curve {
    title: &'static str,
    unit: &'static str,
    form: Form,
    keys: &'static [(&'static str, &'static str)],
}

const CURVES: [Curve; 8] = [
    Curve {
        title: "Reverse KL",
        unit: "nats per token",
        form: Form::LinesFromZero,
        keys: &[(key::REVERSE_KL, "student to teacher")],
    },
    Curve {
        title: "Entropy",
        unit: "nats per token",
        form: Form::LinesFromZero,
        keys: &[(key::ENTROPY, "student")],
    },
    Curve { title: "Reward", unit: "mean", form: Form::Lines, keys: &[(key::REWARD, "mean")] },
    Curve {
        title: "Response length",
        unit: "tokens",
        form: Form::LinesFromZero,
        keys: &[(key::RESPONSE_LENGTH_MEAN, "mean"), (key::RESPONSE_LENGTH_MAX, "longest")],
    },
    Curve {
        title: "Importance ratio",
        unit: "student / old",
        form: Form::Lines,
        keys: &[(key::RATIO_MEAN, "mean"), (key::RATIO_MIN, "least"), (key::RATIO_MAX, "greatest")],
    },
    Curve { title: "Loss", unit: "last update", form: Form::Lines, keys: &[(key::LOSS, "loss")] },
    Curve {
        title: "Gradient norm",
        unit: "before clipping",
        form: Form::LinesFromZero,
        keys: &[(key::GRAD_NORM, "norm")],
    },
    Curve {
        title: "Learning rate",
        unit: "last update",
        form: Form::LinesFromZero,
        keys: &[(key::LEARNING_RATE, "rate")],
    },
];

/// The charts over steps: what every run should be judged by first, then the rest.
pub(super) fn charts(metrics: &[StepMetrics], teacher: Option<f64>) -> Vec<Chart> {
    let mut columns = columns(metrics);
    let mut charts: Vec<_> = pass_at_1(&mut columns, teacher).into_iter().collect();
    for curve in CURVES {
        let keys = curve.keys.iter().filter_map(|(key, name)| Some((*name, columns.remove(*key)?)));
        let keys: Vec<_> = keys.collect();
        if !keys.is_empty() {
            charts.push(chart(curve.title, curve.unit, curve.form, keys));
        }
    }
    let (seconds, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        columns.into_iter().partition(|(key, _)| key.starts_with(key::SECONDS));
    charts.extend(time(seconds));
    charts.extend(rest(others));
    let span = metrics.first().zip(metrics.last());
    let span = span.map(|(first, last)| (first.step as f64, last.step as f64));
    for chart in &mut charts {
        chart.span = span;
    }
    charts
}

type Points = Vec<(f64, f64)>;

fn columns(metrics: &[StepMetrics]) -> BTreeMap<&str, Points> {
    let mut columns: BTreeMap<&str, Points> = BTreeMap::new();
    for line in metrics {
        for (key, &value) in &line.values {
            columns.entry(key).or_default().push((line.step as f64, value));
        }
    }
    columns
}

fn pass_at_1(columns: &mut BTreeMap<&str, Points>, teacher: Option<f64>) -> Option<Chart> {
    let points = columns.remove(key::PASS_AT_1)?;
    let series = Series {
        name: "student".to_owned(),
        note: String::new(),
        colour: "c1",
        weight: Weight::Dotted,
        points,
    };
    let level = |value| Level { name: "teacher".to_owned(), colour: "teacher", value };
    Some(Chart {
        title: "pass@1".to_owned(),
        unit: "held-out prompts".to_owned(),
        along: "step",
        form: Form::Lines,
        values: Values::Percent,
        series: vec![series],
        levels: teacher.map(level).into_iter().collect(),
        span: None,
        wide: false,
    })
}

fn chart(title: &str, unit: &str, form: Form, keys: Vec<(&str, Points)>) -> Chart {
    let alone = keys.len() == 1;
    let mut series = Vec::new();
    for ((name, points), colour) in keys.into_iter().zip(COLOURS) {
        let name = name.to_owned();
        if alone && points.len() > SMOOTH_FROM && is_rough(&points) {
            let half = points.len() / 40 + 1;
            let smooth = smoothed(&points, half);
            let mean = format!("mean of {} steps", 2 * half + 1);
            series.push(Series {
                name,
                note: String::new(),
                colour,
                weight: Weight::Faint,
                points,
            });
            series.push(Series {
                name: mean,
                note: String::new(),
                colour,
                weight: Weight::Strong,
                points: smooth,
            });
        } else {
            let weight = if points.len() < 12 { Weight::Dotted } else { Weight::Strong };
            series.push(Series { name, note: String::new(), colour, weight, points });
        }
    }
    Chart {
        title: title.to_owned(),
        unit: unit.to_owned(),
        along: "step",
        form,
        values: Values::Plain,
        series,
        levels: Vec::new(),
        span: None,
        wide: false,
    }
}

/// Whether a curve turns back often, as a measured one does and a schedule does not.
fn is_rough(points: &[(f64, f64)]) -> bool {
    let turns = points.windows(3).filter(|w| (w[1].1 - w[0].1) * (w[2].1 - w[1].1) < 0.0);
    8 * turns.count() > points.len()
}

/// Seconds of each phase on top of each other, with their shares of the whole.
fn time(mut columns: BTreeMap<&str, Points>) -> Option<Chart> {
    columns.retain(|key, _| *key != key::SECONDS_STEP && !key.ends_with(key::PER_SECOND));
    let mut steps: Vec<f64> = columns.values().flatten().map(|point| point.0).collect();
    steps.sort_unstable_by(f64::total_cmp);
    steps.dedup();
    let mut phases: Vec<(String, f64, Points)> = Vec::new();
    for (key, points) in columns {
        let mut given = points.into_iter().peekable();
        let filled: Points = steps
            .iter()
            .map(|&step| {
                let seconds = given.next_if(|point| point.0 == step).map(|point| point.1);
                (step, seconds.filter(|seconds| seconds.is_finite()).unwrap_or(0.0))
            })
            .collect();
        let total = filled.iter().map(|point| point.1).sum();
        phases.push((key[key::SECONDS.len()..].to_owned(), total, filled));
    }
    phases.sort_by(|a, b| b.1.total_cmp(&a.1));
    let total: f64 = phases.iter().map(|phase| phase.1).sum();
    if total <= 0.0 {
        return None;
    }
    let series = phases.into_iter().zip(COLOURS.into_iter().cycle());
    let series = series.map(|((name, seconds, points), colour)| Series {
        name,
        note: format!("{} ({})", duration(seconds), percent(seconds / total, 0)),
        colour,
        weight: Weight::Strong,
        points: averaged(&points, LAYERS),
    });
    Some(Chart {
        title: "Time by phase".to_owned(),
        unit: "seconds per step".to_owned(),
        along: "step",
        form: Form::Stack,
        values: Values::Plain,
        series: series.collect(),
        levels: Vec::new(),
        span: None,
        wide: true,
    })
}

/// A chart for each key that no other chart has taken; those before a `/` share one.
fn rest(columns: BTreeMap<&str, Points>) -> Vec<Chart> {
    let mut groups: BTreeMap<&str, Vec<(&str, Points)>> = BTreeMap::new();
    for (key, points) in columns {
        let (group, name) = key.split_once('/').unwrap_or((key, key));
        groups.entry(group).or_default().push((name, points));
    }
    let charts = groups.into_iter().flat_map(|(group, mut keys)| {
        let mut charts = Vec::new();
        while !keys.is_empty() {
            let more = keys.split_off(keys.len().min(COLOURS.len()));
            charts.push(chart(group, "", Form::Lines, keys));
            keys = more;
        }
        charts
    });
    charts.collect()
}
