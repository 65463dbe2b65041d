use std::fmt::Write;

use crate::report::{
    Sample, TokenKl,
    escape::{Text, Token},
    number::{count, short},
};

/// Depths of colour on either side of zero.
const DEPTHS: u32 = 8;

/// KL (nats) of the deepest colour.
const DEEPEST: f32 = 4.0;

/// Tokens of one response that are shown, at most.
const SHOWN: usize = 2000;

/// The samples, those of the same prompt side by side.
pub(super) fn section(before: &[Sample], after: &[Sample]) -> String {
    let mut html = String::new();
    if before.is_empty() && after.is_empty() {
        return html;
    }
    write_scale(&mut html);
    let mut unpaired: Vec<Option<&Sample>> = after.iter().map(Some).collect();
    let mut pairs: Vec<(Option<&Sample>, Option<&Sample>)> = Vec::new();
    for sample in before {
        let twin = unpaired
            .iter_mut()
            .find(|other| other.is_some_and(|other| other.prompt == sample.prompt));
        pairs.push((Some(sample), twin.and_then(Option::take)));
    }
    pairs.extend(unpaired.into_iter().flatten().map(|sample| (None, Some(sample))));
    for (before, after) in pairs {
        let prompt = before.or(after).map_or("", |sample| sample.prompt.as_str());
        html.push_str("<article class=\"sample\"><h3>prompt</h3>");
        // Writing to a `String` cannot fail.
        let _ = write!(html, "<pre class=\"prompt\">{}</pre><div class=\"pair\">", Text(prompt));
        for (name, class, sample) in [("before", "before", before), ("after", "after", after)] {
            if let Some(sample) = sample {
                let _ = write!(html, "<section class=\"{class}\"><h3>{name}");
                write_response(&mut html, sample);
            }
        }
        html.push_str("</div></article>\n");
    }
    html
}

fn write_scale(html: &mut String) {
    html.push_str("<p class=\"ramp\"><span>teacher likes it more</span><b>");
    for depth in (1..=DEPTHS).rev() {
        let _ = write!(html, "<i class=\"n{depth}\"></i>");
    }
    html.push_str("<i></i>");
    for depth in 1..=DEPTHS {
        let _ = write!(html, "<i class=\"p{depth}\"></i>");
    }
    let _ = write!(
        html,
        "</b><span>student likes it more</span></p><p class=\"note\">The colour of a token is its \
         KL, log student − log teacher, in nats, deepest from ±{DEEPEST} on. Point at a token, or \
         tap it, for its numbers; a dotted line marks one that the teacher gave no score.</p>"
    );
}

fn write_response(html: &mut String, sample: &Sample) {
    match sample.correct {
        Some(true) => html.push_str("<span class=\"right\">✓ right</span>"),
        Some(false) => html.push_str("<span class=\"wrong\">✗ wrong</span>"),
        None => {}
    }
    let scored: Vec<f32> = sample.tokens.iter().filter_map(TokenKl::kl).collect();
    let n = sample.tokens.len();
    let plural = if n == 1 { "" } else { "s" };
    let _ = write!(html, "<small>{} token{plural}", count(n as u64));
    if !scored.is_empty() {
        let mean = scored.iter().map(|&kl| f64::from(kl)).sum::<f64>() / scored.len() as f64;
        let _ = write!(html, ", mean KL {}", short(mean));
    }
    html.push_str("</small></h3><pre class=\"tokens\">");
    for token in sample.tokens.iter().take(SHOWN) {
        write_token(html, token);
    }
    if n > SHOWN {
        let _ = write!(html, "<em> … and {} more tokens</em>", count((n - SHOWN) as u64));
    }
    html.push_str("</pre></section>");
}

fn write_token(html: &mut String, token: &TokenKl) {
    let student = token.student_logprob;
    let _ = match (token.teacher_logprob, token.kl()) {
        (Some(teacher), Some(kl)) => {
            let class = class(kl);
            write!(
                html,
                "<span class=\"t{class}\" data-s=\"{student:.4}\" data-t=\"{teacher:.4}\">"
            )
        }
        _ => write!(html, "<span class=\"t none\" data-s=\"{student:.4}\">"),
    };
    let breaks = token.text.len() - token.text.trim_end_matches('\n').len();
    let _ = write!(html, "{}</span>{}", Token(&token.text), "\n".repeat(breaks));
}

/// Class of a token's colour: the square root brings out small values.
fn class(kl: f32) -> String {
    let depth = (kl.abs() / DEEPEST).sqrt().clamp(0.0, 1.0) * DEPTHS as f32;
    match depth.round() as u32 {
        0 => String::new(),
        depth if kl > 0.0 => format!(" p{depth}"),
        depth => format!(" n{depth}"),
    }
}

#[cfg(test)]
mod tests {
    use super::class;

    #[test]
    fn colour_tells_sign_and_size() {
        let cases = [
            (0.0, ""),
            (0.01, ""),
            (0.1, " p1"),
            (1.0, " p4"),
            (-1.0, " n4"),
            (4.0, " p8"),
            (-40.0, " n8"),
            (f32::INFINITY, " p8"),
            (f32::NAN, ""),
        ];
        for (kl, expected) in cases {
            assert_eq!(class(kl), expected, "{kl}");
        }
    }
}
