use crate::{Error, Ragged, Result};

/// Where a token stands in a span: tokens of the student that are as much text as whole tokens of
/// the teacher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanToken {
    /// The span goes on with the next token.
    Inside,
    /// The span's last token; a span of one token has nothing else.
    End,
    /// Of no span: the teacher has no counterpart, and no score.
    Unaligned,
}

impl SpanToken {
    /// Which tokens are the first of a span.
    pub fn starts(spans: &Ragged<Self>) -> Ragged<bool> {
        Ragged::from_rows(spans.iter().map(|row| {
            let mut inside = false;
            let start = |token: &Self| {
                let start = !inside && *token != Self::Unaligned;
                inside = *token == Self::Inside;
                start
            };
            row.iter().map(start).collect::<Vec<bool>>()
        }))
    }
}

pub(crate) fn check_spans(spans: &Ragged<SpanToken>, logprobs: &Ragged<Option<f32>>) -> Result<()> {
    spans.check_rows(logprobs.rows(), "spans")?;
    for (row, (spans, scores)) in spans.iter().zip(logprobs.iter()).enumerate() {
        for (token, span) in spans.iter().enumerate() {
            let what = match span {
                SpanToken::Unaligned if scores[token].is_some() => {
                    "a token without counterpart has a score"
                }
                SpanToken::Inside
                    if !matches!(
                        spans.get(token + 1),
                        Some(SpanToken::Inside | SpanToken::End)
                    ) =>
                {
                    "a span has no end"
                }
                SpanToken::Inside if scores[token] != scores[token + 1] => {
                    "two tokens of one span have different scores"
                }
                _ => continue,
            };
            return Err(Error::Span { what, row, token });
        }
    }
    Ok(())
}
