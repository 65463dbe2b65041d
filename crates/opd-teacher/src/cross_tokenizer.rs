use opd_batch::{Ragged, ScoreRequest, ScoredSequence, Teacher, TeacherScores, Wanted};

use crate::{
    Error, Result, Vocabulary,
    alignment::spread,
    translation::{Translated, Translation},
};

/// A teacher that cuts text into other tokens than the student.
///
/// What the student wrote is cut anew by the teacher's tokenizer and scored, and the tokens of
/// both are aligned by the bytes that they stand for. A span is the least number of tokens of
/// the student that are as much text as whole tokens of the teacher:
///
/// ```text
/// student  | un | believ | able |         teacher  | unbe | liev | able |
/// spans    [ un   believ ] [ able ]                [ unbe   liev ] [ able ]
/// ```
///
/// Each token of a span gets the sum (nats) of the teacher's log-probs over it, with
/// [`TeacherScores::spans`] saying which tokens are one. An id that ends the response is a span
/// with the teacher's. Tokens from the first place on at which there is no counterpart are
/// unaligned and not scored: half a character, a special token, text that the teacher's
/// tokenizer alters.
///
/// The prompt is handed over as text, without special tokens; the teacher's tokenizer adds its
/// own.
///
/// The teacher's log-prob is that of one way to cut the text, the usual one, and so a lower
/// bound of the text's. Source: the span alignment of ULD and GOLD, Boizard et al. 2024,
/// <https://arxiv.org/abs/2402.12030>, and Patiño et al. 2025,
/// <https://huggingface.co/spaces/HuggingFaceH4/on-policy-distillation>.
#[derive(Debug)]
pub struct CrossTokenizerTeacher<T> {
    teacher: T,
    translation: Translation,
}

impl<T: Teacher> CrossTokenizerTeacher<T> {
    /// A teacher whose ids are those of `theirs`, for samples whose ids are those of `students`.
    pub fn new(teacher: T, theirs: Vocabulary, students: Vocabulary) -> Self {
        Self { teacher, translation: Translation { theirs, students } }
    }

    fn scored(&self, request: &ScoreRequest<'_>) -> Result<TeacherScores> {
        let translated: Vec<Translated> = request
            .sequences
            .iter()
            .map(|s| self.translation.translate(s))
            .collect::<Result<_>>()?;
        let asked: Vec<usize> =
            (0..translated.len()).filter(|&row| translated[row].is_scorable()).collect();
        let sequences = asked.iter().map(|&row| {
            let Translated { prompt, response, .. } = &translated[row];
            ScoredSequence { prompt, response }
        });
        let sources: Vec<_> =
            asked.iter().filter_map(|&row| request.sources.get(row).cloned()).collect();
        let own = ScoreRequest {
            sequences: sequences.collect(),
            temperature: request.temperature,
            wanted: Wanted::Sampled,
            sources: &sources,
        };
        let scores = match asked.is_empty() {
            true => None,
            false => Some(self.teacher.score(&own)?),
        };
        let mut answers = scores.iter().flat_map(|scores| scores.logprobs.iter());
        let (mut logprobs, mut spans) = (Vec::new(), Vec::new());
        for (translated, sequence) in translated.iter().zip(&request.sequences) {
            let answer = match translated.is_scorable() {
                true => answers.next().map(|scores| (translated.spans.as_slice(), scores)),
                false => None,
            };
            let (aligned, scores) = answer.unwrap_or_default();
            let (row, places) = spread(aligned, scores, sequence.response.len());
            logprobs.push(row);
            spans.push(places);
        }
        let spans = Some(Ragged::from_rows(spans));
        let scores = TeacherScores { logprobs: Ragged::from_rows(logprobs), top: None, spans };
        scores.check()?;
        Ok(scores)
    }
}

impl<T: Teacher> Teacher for CrossTokenizerTeacher<T> {
    fn name(&self) -> &str {
        self.teacher.name()
    }

    fn identity(&self) -> opd_batch::Result<String> {
        Ok(format!("{} by text", self.teacher.identity()?))
    }

    fn score(&self, request: &ScoreRequest<'_>) -> opd_batch::Result<TeacherScores> {
        if request.wanted != Wanted::Sampled {
            return Err(opd_batch::Error::Unsupported {
                teacher: self.name().to_owned(),
                wanted: request.wanted.to_string(),
                remedy: "its ids are not the student's: take a loss of the sampled tokens, or a teacher with the student's tokenizer".into(),
            });
        }
        self.scored(request).map_err(|error| match error {
            Error::Batch(error) => error,
            error => opd_batch::Error::Teacher {
                teacher: self.name().to_owned(),
                source: Box::new(error),
            },
        })
    }
}
