use std::sync::Arc;

use candle_core::Tensor;
use opd_batch::{Ragged, ScoredSequence, SpanToken};
use opd_kernels::Head;

use crate::{
    DistributionTeacher, InProcessTeacher, Result, States, Vocabulary,
    translation::{Translated, Translation},
};

/// The distributions of a teacher that cuts text into other tokens than the student.
///
/// The row of a span's first token is the teacher's state before the span's first token of its
/// own: both sides are about to go on from one text. The rows of all other tokens mean nothing.
#[derive(Debug)]
pub struct CrossTokenizerStates {
    teacher: Arc<InProcessTeacher>,
    translation: Translation,
}

impl CrossTokenizerStates {
    /// A teacher whose ids are those of `theirs`, for samples whose ids are those of `students`.
    pub fn new(teacher: Arc<InProcessTeacher>, theirs: Vocabulary, students: Vocabulary) -> Self {
        Self { teacher, translation: Translation { theirs, students } }
    }
}

impl DistributionTeacher for CrossTokenizerStates {
    fn states(&self, sequences: &[ScoredSequence<'_>]) -> Result<States> {
        let translated: Vec<Translated> =
            sequences.iter().map(|s| self.translation.translate(s)).collect::<Result<_>>()?;
        let asked = translated.iter().filter(|translated| translated.is_scorable());
        let asked: Vec<ScoredSequence<'_>> = asked
            .map(|Translated { prompt, response, .. }| ScoredSequence { prompt, response })
            .collect();
        let mut rows: Vec<u32> = Vec::new();
        let mut first = 0;
        for (translated, sequence) in translated.iter().zip(sequences) {
            let end = rows.len() + sequence.response.len();
            if translated.is_scorable() {
                for &(students, teachers) in &translated.spans {
                    rows.resize(rows.len() + students, first);
                    first += teachers as u32;
                }
            }
            rows.resize(end, 0);
        }
        let model = self.teacher.model();
        if asked.is_empty() {
            let (width, device) = (model.config().hidden_size, model.device());
            let hidden = Tensor::zeros((rows.len(), width), model.dtype(), device)
                .map_err(opd_models::Error::from)?;
            let Head { weight, products, .. } = model.head();
            return Ok(States { hidden, head: weight.detach(), products });
        }
        let States { hidden, head, products } = self.teacher.states(&asked)?;
        let picked = Tensor::from_slice(&rows, rows.len(), hidden.device())
            .and_then(|rows| hidden.index_select(&rows, 0));
        Ok(States { hidden: picked.map_err(opd_models::Error::from)?, head, products })
    }

    fn spans(&self, sequences: &[ScoredSequence<'_>]) -> Result<Option<Ragged<SpanToken>>> {
        Ok(Some(self.translation.spans(sequences)?))
    }
}
