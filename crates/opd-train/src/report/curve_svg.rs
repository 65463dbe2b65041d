//! The lines and layers of a chart, in a box of 1000 by 1000 that stretches.

use std::fmt::{self, Write};

use crate::report::{
    chart::{Chart, Form, Level, Weight},
    scale::Scale,
};

impl Chart {
    /// Writes the `<svg>` of curves that lie as `drawn`.
    pub(super) fn write_svg(
        &self,
        to: &mut String,
        drawn: &[Vec<(f64, f64)>],
        x: &Scale,
        y: &Scale,
    ) -> fmt::Result {
        to.push_str(
            r#"<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">"#,
        );
        for tick in y.ticks() {
            let at = 1000.0 * (1.0 - y.at(tick));
            let class = if tick == 0.0 { "zero" } else { "grid" };
            write!(to, r#"<path class="{class}" d="M0 {at:.1}H1000"/>"#)?;
        }
        let place = |&(px, py): &(f64, f64)| (1000.0 * x.at(px), 1000.0 * (1.0 - y.at(py)));
        for (index, (series, points)) in self.series.iter().zip(drawn).enumerate() {
            let colour = series.colour;
            if self.form == Form::Stack {
                let floor = index.checked_sub(1).map(|below| bars(&drawn[below]));
                let top = bars(points);
                let floor = floor.unwrap_or_else(|| top.iter().map(|bar| (bar.0, 0.0)).collect());
                let outline: Vec<_> = top.into_iter().chain(floor.into_iter().rev()).collect();
                let outline = path(outline.iter().map(place));
                write!(to, r#"<path class="layer {colour}" d="{outline}Z"/>"#)?;
                continue;
            }
            let class = if series.weight == Weight::Faint { "line faint" } else { "line" };
            let d = path(points.iter().map(place));
            write!(to, r#"<path class="{class} {colour}" d="{d}"/>"#)?;
            if series.weight == Weight::Dotted || points.len() == 1 {
                let dots = points.iter().filter(|point| point.1.is_finite()).map(place);
                let dots: String = dots.map(|(px, py)| format!("M{px:.1} {py:.1}h0")).collect();
                write!(to, r#"<path class="dots {colour}" d="{dots}"/>"#)?;
            }
        }
        for Level { colour, value, .. } in &self.levels {
            let at = 1000.0 * (1.0 - y.at(*value));
            write!(to, r#"<path class="level {colour}" d="M0 {at:.1}H1000"/>"#)?;
        }
        to.push_str("</svg>");
        Ok(())
    }
}

/// A path through the points; NaN lifts the pen.
pub(super) fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    let mut pen = 'M';
    for (x, y) in points {
        if y.is_finite() {
            // Writing to a `String` cannot fail.
            let _ = write!(path, "{pen}{x:.1} {y:.1}");
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    path
}

/// The outline of bars as wide as the points are apart, one around each point.
fn bars(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let half = half_width(points);
    points.iter().flat_map(|&(x, y)| [(x - half, y), (x + half, y)]).collect()
}

/// Half the distance of points that are equally far apart.
pub(super) fn half_width(points: &[(f64, f64)]) -> f64 {
    match points {
        [first, .., last] => (last.0 - first.0) / (points.len() - 1) as f64 / 2.0,
        _ => 0.5,
    }
}
