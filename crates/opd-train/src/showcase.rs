use opd_batch::{Ragged, Rows, ScoreRequest, ScoredSequence, SpanToken, Teacher, Wanted};
use opd_models::CausalLm;
use opd_rollout::{Request, RolloutEngine};
use serde::{Deserialize, Serialize};

use crate::{
    Evaluator, Result, TokenizedPrompts,
    report::{PositionKl, Sample, TokenKl, kl_by_position},
    rewards::answer,
};

/// Streams of the responses shown in the report.
const STREAMS: u64 = 3 << 62;

/// Responses that the KL by position is averaged over.
const RESPONSES: usize = 256;

/// Responses to held-out prompts with what the teacher makes of each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Showcase {
    pub(crate) samples: Vec<Sample>,
    pub(crate) kl_by_position: Vec<PositionKl>,
}

impl Showcase {
    /// Responses of `student` to the first prompts, the first `shown` of them in full.
    pub(crate) fn new(
        evaluator: &Evaluator<'_>,
        student: &CausalLm,
        teacher: Option<&dyn Teacher>,
        prompts: &TokenizedPrompts,
        shown: usize,
    ) -> Result<Self> {
        let sampling = evaluator.sampling(student);
        let asked = prompts.get_all(0..prompts.len().min(RESPONSES.max(shown)))?;
        let requests: Vec<Request> = asked
            .iter()
            .zip(STREAMS..)
            .map(|(asked, stream)| Request { prompt: asked.tokens.clone(), stream })
            .collect();
        let generations = evaluator.engine(student).generate(&requests, &sampling)?;
        let sequences = asked.iter().zip(&generations).map(|(asked, generation)| {
            let prompt = asked.teacher_tokens.as_ref().unwrap_or(&asked.tokens);
            ScoredSequence { prompt, response: &generation.tokens }
        });
        let sequences: Vec<_> = sequences.collect();
        let sources: Vec<_> = asked.iter().map(|asked| asked.example.source.clone()).collect();
        let rows = Rows::from_lengths(generations.iter().map(|g| g.tokens.len()));
        let (scores, spans) = match teacher {
            None => (Ragged::filled(rows, None), None),
            Some(teacher) => {
                let temperature = sampling.temperature() as f32;
                let (wanted, sources) = (Wanted::Sampled, sources.as_slice());
                let request = ScoreRequest { sequences, temperature, wanted, sources };
                match teacher.score(&request) {
                    // A server that scores at one temperature only; the report does without.
                    Err(opd_batch::Error::Unsupported { .. }) => (Ragged::filled(rows, None), None),
                    scores => {
                        let scores = scores?;
                        (scores.logprobs, scores.spans)
                    }
                }
            }
        };
        let mut samples = Vec::new();
        let mut kl_rows = Vec::new();
        let answered = asked.iter().zip(&generations).zip(scores.iter());
        for (row, ((asked, generation), scores)) in answered.enumerate() {
            let example = &asked.example;
            let tokens = generation.tokens.iter().zip(&generation.logprobs).zip(scores);
            let tokens: Vec<TokenKl> = tokens
                .map(|((&id, &student_logprob), &teacher_logprob)| TokenKl {
                    text: evaluator.tokenizer.token(id).unwrap_or_else(|| format!("[{id}]")),
                    student_logprob,
                    teacher_logprob,
                })
                .collect();
            let tokens = match spans.as_ref().and_then(|spans| spans.row(row)) {
                Some(places) => joined(tokens, places),
                None => tokens,
            };
            kl_rows.push(tokens.iter().map(|t| t.kl().unwrap_or(f32::NAN)).collect::<Vec<_>>());
            if samples.len() < shown {
                let response = evaluator.endings.read(evaluator.tokenizer, &generation.tokens)?;
                let correct = match example.label {
                    Some(_) => Some(evaluator.reward.reward(&answer(example, &response))? > 0.5),
                    None => None,
                };
                samples.push(Sample { prompt: example.prompt.clone(), tokens, correct });
            }
        }
        let kl_by_position = match teacher {
            None => Vec::new(),
            Some(_) => kl_by_position(kl_rows.iter().map(Vec::as_slice)),
        };
        Ok(Self { samples, kl_by_position })
    }
}

/// The tokens of each span as one: what the teacher gave one score.
fn joined(tokens: Vec<TokenKl>, places: &[SpanToken]) -> Vec<TokenKl> {
    let mut joined: Vec<TokenKl> = Vec::with_capacity(tokens.len());
    let mut inside = false;
    for (token, place) in tokens.into_iter().zip(places) {
        match joined.last_mut().filter(|_| inside) {
            Some(span) => {
                span.text.push_str(&token.text);
                span.student_logprob += token.student_logprob;
            }
            None => joined.push(token),
        }
        inside = *place == SpanToken::Inside;
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_shown_as_one() {
        let token = |text: &str, student_logprob, teacher_logprob| TokenKl {
            text: text.to_owned(),
            student_logprob,
            teacher_logprob,
        };
        let tokens = vec![
            token("0", -0.5, Some(-2.0)),
            token("1", -0.25, Some(-2.0)),
            token("7", -1.0, Some(-0.5)),
            token("<pad>", -4.0, None),
        ];
        use SpanToken::{End, Inside, Unaligned};
        let expected = [
            token("01", -0.75, Some(-2.0)),
            token("7", -1.0, Some(-0.5)),
            token("<pad>", -4.0, None),
        ];
        assert_eq!(joined(tokens, &[Inside, End, End, Unaligned]), expected);
    }
}
