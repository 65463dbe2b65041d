use std::fmt::Write;

use crate::report::{
    Evaluation, Who,
    number::{count, percent},
};

/// The before / after / teacher table, with the intervals drawn beside the numbers.
pub(super) fn table(evaluations: &[Evaluation]) -> String {
    let mut html = String::new();
    if evaluations.is_empty() {
        return html;
    }
    html.push_str(
        "<table class=\"evaluations\"><thead><tr><th>model</th><th>pass@1</th>\
         <th>95% interval</th><th class=\"bar\"><span>0%</span><span>50%</span><span>100%</span>\
         </th><th>answers</th></tr></thead><tbody>",
    );
    for evaluation in evaluations {
        let &Evaluation { who, pass_at_1, interval: [low, high], .. } = evaluation;
        let answers = evaluation.prompts.saturating_mul(evaluation.samples_per_prompt);
        let (name, class) = named(who);
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            html,
            "<tr class=\"{class}\"><th>{name}</th><td class=\"big\">{}</td><td>{} to {}</td>\
             <td class=\"bar\"><div><i style=\"width:{:.2}%\"></i>\
             <b style=\"left:{:.2}%;width:{:.2}%\"></b></div></td><td>{}</td></tr>",
            percent(pass_at_1, 2),
            percent(low, 2),
            percent(high, 2),
            100.0 * pass_at_1,
            100.0 * low,
            100.0 * (high - low),
            count(answers),
        );
    }
    html.push_str("</tbody></table>");
    html.push_str(&gap(evaluations));
    html.push_str(&several(evaluations));
    html
}

/// pass@k, where prompts were answered several times.
fn several(evaluations: &[Evaluation]) -> String {
    let mut html = String::new();
    for evaluation in evaluations.iter().filter(|row| !row.pass_at_k.is_empty()) {
        let rates = evaluation.pass_at_k.iter();
        let rates = rates.map(|one| {
            let [rate, low, high] =
                [one.rate, one.interval[0], one.interval[1]].map(|rate| percent(rate, 2));
            format!("pass@{} {rate} ({low} to {high})", one.k)
        });
        let rates = rates.collect::<Vec<_>>().join(", ");
        let _ = write!(html, "<p>{}: {rates}</p>", named(evaluation.who).0);
    }
    html
}

/// How much of the way from the student to the teacher was gone.
fn gap(evaluations: &[Evaluation]) -> String {
    let of = |who| evaluations.iter().find(|row| row.who == who).map(|row| row.pass_at_1);
    match (of(Who::Before), of(Who::After), of(Who::Teacher)) {
        (Some(before), Some(after), Some(teacher)) if teacher > before => {
            let closed = percent((after - before) / (teacher - before), 0);
            let gained = 100.0 * (after - before);
            format!(
                "<p class=\"gap\"><b>{gained:+.1}</b> points: {closed} of the gap to the teacher \
                 closed.</p>"
            )
        }
        _ => String::new(),
    }
}

fn named(who: Who) -> (&'static str, &'static str) {
    match who {
        Who::Before => ("student before", "before"),
        Who::After => ("student after", "after"),
        Who::Teacher => ("teacher", "teacher"),
    }
}
