use opd_batch::{Ragged, ScoredSequence, SpanToken};

use crate::{
    Result, Vocabulary,
    alignment::{align, spread},
};

/// From the student's tokens to the teacher's.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) theirs: Vocabulary,
    pub(crate) students: Vocabulary,
}

/// A response in the teacher's tokens, as far as it is aligned.
#[derive(Debug)]
pub(crate) struct Translated {
    pub(crate) prompt: Vec<u32>,
    pub(crate) response: Vec<u32>,
    /// The student's and the teacher's tokens of each span.
    pub(crate) spans: Vec<(usize, usize)>,
}

impl Translated {
    /// Whether there is something to ask.
    pub(crate) fn is_scorable(&self) -> bool {
        !self.prompt.is_empty() && !self.response.is_empty()
    }

    /// Where each of `n` tokens of the student stands in its span.
    pub(crate) fn places(&self, n: usize) -> Vec<SpanToken> {
        let spans = if self.is_scorable() { self.spans.as_slice() } else { &[] };
        spread(spans, &[], n).1
    }
}

impl Translation {
    pub(crate) fn translate(&self, sequence: &ScoredSequence<'_>) -> Result<Translated> {
        let ScoredSequence { prompt, response } = *sequence;
        let text = self.students.tokenizer.decode(prompt)?;
        let student = self.students.tokenizer.spell(prompt, response);
        let (prompt, mut ids) = self.theirs.tokenizer.encode_pair(&text, &student.text)?;
        let teacher = self.theirs.tokenizer.spell(&prompt, &ids);
        let spelled = student.cuts.last().map_or(0, |(tokens, _)| *tokens);
        let ended = match response[spelled..] {
            [last] if self.students.end.contains(&last) => self.theirs.end.first(),
            _ => None,
        };
        let spans = align(&student, &teacher, ended.is_some());
        ids.extend(ended);
        ids.truncate(spans.iter().map(|(_, theirs)| theirs).sum());
        Ok(Translated { prompt, response: ids, spans })
    }

    /// Where each token stands in its span.
    pub(crate) fn spans(&self, sequences: &[ScoredSequence<'_>]) -> Result<Ragged<SpanToken>> {
        let places = |sequence: &ScoredSequence<'_>| {
            Ok(self.translate(sequence)?.places(sequence.response.len()))
        };
        Ok(Ragged::from_rows(sequences.iter().map(places).collect::<Result<Vec<_>>>()?))
    }
}
