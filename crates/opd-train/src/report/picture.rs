use std::fmt::{self, Write};

use crate::report::{
    curve_svg::path, curves::COLOURS, escape::Text, number::percent, scale::Scale,
};

/// Curves of fractions over one axis as an SVG file of its own, for pages that show pictures and
/// run no scripts.
///
/// Each curve ends at its name, which stand in the order of the last values.
///
/// ```
/// use opd_train::report::Picture;
///
/// let picture = Picture {
///     title: "pass@1".into(),
///     along: "generated tokens".into(),
///     curves: vec![("student".into(), vec![(0.0, 0.7), (1000.0, 0.9)])],
///     levels: vec![("teacher".into(), 0.95)],
/// };
/// assert!(picture.svg().starts_with("<svg "));
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// What the values are.
    pub title: String,
    /// What the horizontal axis counts.
    pub along: String,
    /// Names and points `(place, fraction)`, in order of places.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
    /// Names and values of horizontal lines to compare with.
    pub levels: Vec<(String, f64)>,
}

/// Width, for names that need no more, and height.
const SIZE: (f64, f64) = (900.0, 460.0);

/// Width of a letter, with something to spare.
const LETTER: f64 = 7.5;

/// Left, top, right and bottom of the axes.
const BOX: [f64; 4] = [56.0, 44.0, 610.0, 412.0];

/// Least distance of two names.
const LINE: f64 = 17.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1c1e23}.soft{fill:#666b76}\
.title{font-weight:600;font-size:15px}.grid{stroke:#e4e4de}.line{fill:none;stroke-width:2}\
.lead{fill:none;stroke-width:1;opacity:.5}.level{stroke:#80858f;stroke-dasharray:2 4}\
.c1{stroke:#0b7a75}.c2{stroke:#d0682a}.c3{stroke:#7548c8}.c4{stroke:#2b6ad0}.c5{stroke:#bd3a74}\
.c6{stroke:#7d7a14}.dash{stroke-dasharray:7 4}.before{stroke:#80858f}";

/// A name at the right of the axes.
struct Label<'a> {
    name: &'a str,
    value: f64,
    /// Class of its curve; `None` for a level.
    class: Option<String>,
    /// Where its curve ends.
    from: f64,
    /// Where it stands.
    at: f64,
}

impl Picture {
    /// The file's text; axes without curves if no value is finite.
    pub fn svg(&self) -> String {
        let mut svg = String::new();
        // Writing to a `String` cannot fail.
        let _ = self.write(&mut svg);
        svg
    }

    fn scales(&self) -> (Scale, Scale) {
        let points = || self.curves.iter().flat_map(|curve| &curve.1).filter(|p| p.1.is_finite());
        let extent = |values: &mut dyn Iterator<Item = f64>| {
            let found = values.fold(None, |extent: Option<(f64, f64)>, value| {
                let (low, high) = extent.unwrap_or((value, value));
                Some((low.min(value), high.max(value)))
            });
            found.unwrap_or((0.0, 1.0))
        };
        let (left, right) = extent(&mut points().map(|point| point.0));
        let levels = self.levels.iter().map(|level| level.1);
        let (low, high) = extent(&mut points().map(|point| point.1).chain(levels));
        (Scale::tight(left, right, 5), Scale::nice(low, high, 5))
    }

    /// With room for the longest name and its value.
    fn width(&self) -> f64 {
        let names = self.curves.iter().map(|curve| &curve.0);
        let names = names.chain(self.levels.iter().map(|level| &level.0));
        let letters = names.map(|name| name.chars().count() + " 100.0%".len()).max();
        let needed = BOX[2] + 26.0 + LETTER * letters.unwrap_or(0) as f64;
        needed.max(SIZE.0).ceil()
    }

    fn write(&self, to: &mut String) -> fmt::Result {
        let ([left, top, right, bottom], (width, height)) = (BOX, (self.width(), SIZE.1));
        let (x, y) = self.scales();
        let across = |value: f64| left + (right - left) * x.at(value);
        let up = |value: f64| bottom - (bottom - top) * y.at(value);
        writeln!(
            to,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{}"><style>{STYLE}</style><rect width="{width}" height="{height}" rx="10" fill="#fff"/>"##,
            Text(&self.spoken())
        )?;
        writeln!(to, r#"<text class="title" x="{left}" y="24">{}</text>"#, Text(&self.title))?;
        for tick in y.ticks() {
            let (at, text) = (up(tick), percent(tick, usize::from(y.high - y.low < 0.04)));
            writeln!(
                to,
                r#"<path class="grid" d="M{left} {at:.1}H{right}"/><text class="soft" x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#,
                left - 8.0,
                at + 4.0
            )?;
        }
        for tick in x.ticks() {
            let (at, below) = (across(tick), bottom + 18.0);
            let text = x.label(tick);
            writeln!(
                to,
                r#"<text class="soft" x="{at:.1}" y="{below}" text-anchor="middle">{text}</text>"#
            )?;
        }
        let along = Text(&self.along);
        let below = bottom + 38.0;
        writeln!(
            to,
            r#"<text class="soft" x="{right}" y="{below}" text-anchor="end">{along}</text>"#
        )?;
        let mut labels = Vec::new();
        for (name, value) in &self.levels {
            let at = up(*value);
            writeln!(to, r#"<path class="level" d="M{left} {at:.1}H{right}"/>"#)?;
            labels.push(Label { name, value: *value, class: None, from: at, at });
        }
        for (index, (name, points)) in self.curves.iter().enumerate() {
            let dash = if (index / COLOURS.len()).is_multiple_of(2) { "" } else { " dash" };
            let class = format!("{}{dash}", COLOURS[index % COLOURS.len()]);
            let d = path(points.iter().map(|&(px, py)| (across(px), up(py))));
            writeln!(to, r#"<path class="line {class}" d="{d}"/>"#)?;
            if let Some(&(_, value)) = points.iter().rev().find(|point| point.1.is_finite()) {
                let at = up(value);
                labels.push(Label { name, value, class: Some(class), from: at, at });
            }
        }
        spread(&mut labels);
        for Label { name, value, class, from, at } in &labels {
            let class = class.as_deref().unwrap_or("before");
            let (start, end) = (right + 2.0, right + 22.0);
            writeln!(
                to,
                r#"<path class="lead {class}" d="M{start} {from:.1}L{end} {at:.1}"/><text x="{:.1}" y="{:.1}">{} <tspan class="soft">{}</tspan></text>"#,
                end + 4.0,
                at + 4.0,
                Text(name),
                percent(*value, 1)
            )?;
        }
        writeln!(to, "</svg>")
    }

    /// The picture in a sentence, for those who cannot see it.
    fn spoken(&self) -> String {
        let curves = self.curves.iter().filter_map(|(name, points)| {
            let (first, last) = (points.first()?, points.last()?);
            Some(format!("{name} from {} to {}", percent(first.1, 1), percent(last.1, 1)))
        });
        format!("{} by {}: {}", self.title, self.along, curves.collect::<Vec<_>>().join("; "))
    }
}

/// Puts the labels in order and moves them apart, as little as it takes to read them.
fn spread(labels: &mut [Label<'_>]) {
    labels.sort_by(|a, b| a.at.total_cmp(&b.at));
    let mut least = BOX[1];
    for label in labels.iter_mut() {
        label.at = label.at.max(least);
        least = label.at + LINE;
    }
    let mut most = SIZE.1 - LINE / 2.0;
    for label in labels.iter_mut().rev() {
        label.at = label.at.min(most);
        most = label.at - LINE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(curves: &[&[(f64, f64)]]) -> Picture {
        let named = |(i, points): (usize, &&[(f64, f64)])| (format!("<{i}>"), points.to_vec());
        Picture {
            title: "pass@1".into(),
            along: "tokens".into(),
            curves: curves.iter().enumerate().map(named).collect(),
            levels: vec![("teacher".into(), 1.0)],
        }
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let svg = picture(&[&[(0.0, 0.5), (100.0, 1.0)], &[(0.0, 0.5), (50.0, 0.75)]]).svg();
        assert!(svg.contains(r#"<path class="line c1" d="M56.0 412.0L610.0 44.0"/>"#), "{svg}");
        assert!(svg.contains(r#"<path class="line c2" d="M56.0 412.0L333.0 228.0"/>"#), "{svg}");
        assert!(svg.contains(r#"<path class="level" d="M56 44.0H610"/>"#), "{svg}");
        assert!(svg.contains("&lt;0&gt; <tspan class=\"soft\">100.0%</tspan>"), "{svg}");
        assert!(svg.contains(">50%</text>") && svg.contains(">20</text>"), "{svg}");
    }

    #[test]
    fn names_of_curves_that_end_together_do_not_cover_each_other() {
        let ends = [0.9, 0.9, 0.9, 0.5, 0.89, 0.5, 0.5, 0.51].map(|end| [(0.0, 0.4), (9.0, end)]);
        let curves: Vec<&[(f64, f64)]> = ends.iter().map(|points| points.as_slice()).collect();
        let svg = picture(&curves).svg();
        assert!(svg.contains(r#"class="line c1 dash""#), "a seventh curve has a look of its own");
        let places = svg.match_indices("<tspan").map(|(at, _)| {
            let text = &svg[..at];
            let y = text.rfind(" y=\"").map_or(0, |at| at + 4);
            text[y..].split('"').next().unwrap().parse::<f64>().unwrap()
        });
        let places: Vec<f64> = places.collect();
        assert_eq!(places.len(), 9);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] > LINE - 0.11), "{places:?}");
        assert!(places.iter().all(|y| (0.0..SIZE.1).contains(y)), "{places:?}");
    }

    #[test]
    fn a_long_name_widens_the_picture() {
        let mut long = picture(&[&[(0.0, 0.5)]]);
        assert!(long.svg().contains(r#"viewBox="0 0 900 460""#));
        long.curves[0].0 = "x".repeat(53);
        assert!(long.svg().contains(r#"viewBox="0 0 1086 460""#));
    }

    #[test]
    fn nothing_to_draw_is_a_picture_all_the_same() {
        let svg = Picture::default().svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    }
}
