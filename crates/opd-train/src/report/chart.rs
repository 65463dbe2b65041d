use std::fmt::{self, Write};

use serde_json::{Value, json};

use crate::report::{
    curve_svg::half_width,
    escape::Text,
    number::{percent, short},
    scale::Scale,
    thin::thinned,
};

/// Points kept of a curve, at most, are twice as many.
const BUCKETS: usize = 220;

/// Curves over one axis, as a `<figure>` that needs no script.
///
/// Lines are drawn in a box that stretches with the page; words and numbers are laid over
/// it as text, so that they keep their size on a telephone.
#[derive(Clone, Debug)]
pub(super) struct Chart {
    pub(super) title: String,
    /// What the values are counted in, e.g. `nats per token`.
    pub(super) unit: String,
    /// What the horizontal axis counts, e.g. `step`.
    pub(super) along: &'static str,
    pub(super) form: Form,
    pub(super) values: Values,
    pub(super) series: Vec<Series>,
    /// Horizontal lines to compare with.
    pub(super) levels: Vec<Level>,
    /// What the horizontal axis covers at least.
    pub(super) span: Option<(f64, f64)>,
    /// Whether it takes the whole width of the page.
    pub(super) wide: bool,
}

/// How the curves share the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Each on its own, over an axis that fits the data.
    Lines,
    /// Each on its own, over an axis with 0 on it.
    LinesFromZero,
    /// Each on top of those before it; all have the same places.
    Stack,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values {
    Plain,
    /// Fractions, as per cent.
    Percent,
}

/// One curve; NaN is a gap.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    /// What the legend adds to the name.
    pub(super) note: String,
    /// Name of a colour of the style sheet.
    pub(super) colour: &'static str,
    pub(super) weight: Weight,
    pub(super) points: Vec<(f64, f64)>,
}

/// How much a curve stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Strong,
    Faint,
    /// Few points, each with a dot.
    Dotted,
}

/// A horizontal line to compare with.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) name: String,
    pub(super) colour: &'static str,
    pub(super) value: f64,
}

impl Chart {
    /// The figure; nothing at all without a finite value.
    pub(super) fn html(&self) -> String {
        let drawn = self.drawn();
        let Some((x, y)) = self.scales(&drawn) else { return String::new() };
        let mut html = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut html, &drawn, &x, &y);
        html
    }

    /// The curves as they lie in the chart: thinned, or on top of each other.
    fn drawn(&self) -> Vec<Vec<(f64, f64)>> {
        if self.form != Form::Stack {
            return self.series.iter().map(|series| thinned(&series.points, BUCKETS)).collect();
        }
        let mut below: Vec<f64> = Vec::new();
        let stacked = self.series.iter().map(|series| {
            below.resize(series.points.len(), 0.0);
            let tops = series.points.iter().zip(&mut below).map(|(&(x, y), below)| {
                *below += y;
                (x, *below)
            });
            tops.collect()
        });
        stacked.collect()
    }

    fn scales(&self, drawn: &[Vec<(f64, f64)>]) -> Option<(Scale, Scale)> {
        let points = || drawn.iter().flatten().filter(|(_, y)| y.is_finite());
        let span = self.span.into_iter().flat_map(|(low, high)| [low, high]);
        let (mut low_x, mut high_x) = extent(points().map(|point| point.0).chain(span))?;
        let levels = self.levels.iter().map(|level| level.value);
        let (mut low, mut high) = extent(points().map(|point| point.1).chain(levels))?;
        if self.form != Form::Lines {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        if self.form == Form::Stack || low_x == high_x {
            let half = half_width(drawn.first().map_or(&[], Vec::as_slice));
            (low_x, high_x) = (low_x - half, high_x + half);
        }
        Some((Scale::tight(low_x, high_x, 6).whole(), Scale::nice(low, high, 4)))
    }

    fn write(
        &self,
        to: &mut String,
        drawn: &[Vec<(f64, f64)>],
        x: &Scale,
        y: &Scale,
    ) -> fmt::Result {
        let wide = if self.wide { " wide" } else { "" };
        writeln!(to, r#"<figure class="chart{wide}"><figcaption>"#)?;
        write!(to, "<b>{}</b> <span>{}</span></figcaption>", Text(&self.title), Text(&self.unit))?;
        self.write_legend(to)?;
        let readout = self.readout(drawn, x, y).to_string();
        let label = Text(&self.spoken()).to_string();
        write!(to, r#"<div class="plot" role="img" aria-label="{label}"><div class="ys">"#)?;
        for tick in y.ticks() {
            let at = 100.0 * y.at(tick);
            write!(to, r#"<span style="bottom:{at:.2}%">{}</span>"#, self.tick(y, tick))?;
        }
        write!(to, r#"</div><div class="area" data-chart="{}">"#, Text(&readout))?;
        self.write_svg(to, drawn, x, y)?;
        to.push_str(r#"</div><div class="xs">"#);
        for tick in x.ticks() {
            let at = 100.0 * x.at(tick);
            write!(to, r#"<span style="left:{at:.2}%">{}</span>"#, Text(&x.label(tick)))?;
        }
        writeln!(to, "</div><div class=\"along\">{}</div></div></figure>", Text(self.along))
    }

    fn write_legend(&self, to: &mut String) -> fmt::Result {
        if self.series.len() + self.levels.len() < 2 {
            return Ok(());
        }
        to.push_str(r#"<ul class="legend">"#);
        for Series { name, note, colour, weight, .. } in &self.series {
            let faint = if *weight == Weight::Faint { " faint" } else { "" };
            write!(to, r#"<li><i class="{colour}{faint}"></i>{}"#, Text(name))?;
            write!(to, "{}{}</li>", if note.is_empty() { "" } else { " " }, Text(note))?;
        }
        for Level { name, colour, value } in &self.levels {
            let value = self.value(*value);
            write!(to, r#"<li><i class="{colour} level"></i>{} {value}</li>"#, Text(name))?;
        }
        to.push_str("</ul>");
        Ok(())
    }

    /// What the script shows under the pointer: for each point its place and its value.
    fn readout(&self, drawn: &[Vec<(f64, f64)>], x: &Scale, y: &Scale) -> Value {
        let stack = self.form == Form::Stack;
        let series = self.series.iter().zip(drawn).map(|(series, points)| {
            let points = points.iter().enumerate().filter(|(_, point)| point.1.is_finite());
            let points = points.map(|(index, &(px, py))| {
                let value = if stack { series.points[index].1 } else { py };
                json!([rounded(px), rounded(y.at(py)), self.value(value)])
            });
            json!([series.name, series.colour, points.collect::<Vec<_>>()])
        });
        json!({ "x": [x.low, x.high], "along": self.along, "series": series.collect::<Vec<_>>() })
    }

    /// The chart in a sentence, for those who cannot see it.
    fn spoken(&self) -> String {
        let curves = self.series.iter().filter_map(|series| {
            let mut values = series.points.iter().map(|point| point.1).filter(|y| y.is_finite());
            let first = values.next()?;
            let last = values.next_back().unwrap_or(first);
            Some(format!("{} from {} to {}", series.name, self.value(first), self.value(last)))
        });
        format!("{} by {}: {}", self.title, self.along, curves.collect::<Vec<_>>().join("; "))
    }

    fn value(&self, value: f64) -> String {
        match self.values {
            Values::Plain => short(value),
            Values::Percent => percent(value, 1),
        }
    }

    fn tick(&self, scale: &Scale, tick: f64) -> String {
        match self.values {
            Values::Plain => scale.label(tick).replace('-', "−"),
            Values::Percent => percent(tick, usize::from(scale.high - scale.low < 0.04)),
        }
    }
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let start = |first| (first, first);
    values.fold(None, |extent, value| {
        let (low, high) = extent.unwrap_or_else(|| start(value));
        Some((low.min(value), high.max(value)))
    })
}

/// Five significant digits are enough for a pointer.
fn rounded(value: f64) -> f64 {
    format!("{value:.4e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(form: Form, series: &[&[(f64, f64)]]) -> Chart {
        let series = series.iter().zip(["c1", "c2"]).map(|(points, colour)| Series {
            name: format!("<{colour}>"),
            note: String::new(),
            colour,
            weight: Weight::Strong,
            points: points.to_vec(),
        });
        Chart {
            title: "title".to_owned(),
            unit: "unit".to_owned(),
            along: "step",
            form,
            values: Values::Plain,
            series: series.collect(),
            levels: Vec::new(),
            span: None,
            wide: false,
        }
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let html = chart(Form::LinesFromZero, &[&[(0.0, 4.0), (5.0, 1.0), (10.0, 2.0)]]).html();
        assert!(html.contains(r#"d="M0.0 0.0L500.0 750.0L1000.0 500.0""#), "{html}");
        assert!(html.contains(r#"<span style="bottom:25.00%">1</span>"#), "{html}");
        assert!(html.contains(r#"<span style="left:20.00%">2</span>"#), "{html}");
        assert!(html.contains("&lt;c1&gt; from 4 to 2"), "{html}");
    }

    #[test]
    fn nan_is_a_gap_and_nothing_but_nan_no_chart() {
        let gap = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0), (4.0, 0.0)];
        let html = chart(Form::Lines, &[&gap]).html();
        assert!(html.contains(r#"d="M0.0 0.0M500.0 0.0L1000.0 1000.0""#), "{html}");
        assert!(!html.contains("NaN") && !html.contains("null"), "{html}");
        assert_eq!(chart(Form::Lines, &[&[(0.0, f64::NAN)], &[]]).html(), "");
    }

    #[test]
    fn layers_are_bars_on_top_of_each_other() {
        let html = chart(Form::Stack, &[&[(1.0, 1.0), (2.0, 2.0)], &[(1.0, 3.0), (2.0, 1.0)]]);
        let html = html.html();
        let first = "M0.0 750.0L500.0 750.0L500.0 500.0L1000.0 500.0\
                     L1000.0 1000.0L500.0 1000.0L500.0 1000.0L0.0 1000.0Z";
        let second = "M0.0 0.0L500.0 0.0L500.0 250.0L1000.0 250.0\
                      L1000.0 500.0L500.0 500.0L500.0 750.0L0.0 750.0Z";
        assert!(html.contains(first) && html.contains(second), "{html}");
        assert!(html.contains("&quot;3&quot;"), "the readout says its own height: {html}");
    }
}
