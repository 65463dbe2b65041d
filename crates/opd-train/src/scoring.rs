//! What is known of a batch before it is trained on.

use opd_batch::{
    Ragged, RolloutBatch, ScoreRequest, ScoredBatch, ScoredSequence, SpanToken, Wanted,
};
use opd_models::CausalLm;

use crate::{Result, Trainer, config::OldLogprobs};

/// Where each token stands in its span, if there are spans.
pub(crate) type Spans = Option<Ragged<SpanToken>>;

impl Trainer {
    /// Old, teacher and reference log-probs, and where tokens stand in their spans if a teacher's
    /// distributions are of other tokens.
    pub(crate) fn score<'b>(&self, batch: &'b RolloutBatch) -> Result<(ScoredBatch<'b>, Spans)> {
        let mut request = ScoreRequest::for_batch(batch, self.config.rollout.temperature as f32);
        if let (Some(k), None) =
            (self.parts.objective.needs().teacher_top, &self.parts.distribution)
        {
            request.wanted = Wanted::TopK(k);
        }
        let mut scored = match self.config.objective.old_logprobs {
            // No loss on responses that nobody here wrote reads how likely they were.
            _ if !self.config.rollout.student_writes()
                && !self.config.objective.loss.is_policy() =>
            {
                ScoredBatch::from_sampler(batch)
            }
            OldLogprobs::Sampler => ScoredBatch::from_sampler(batch),
            OldLogprobs::Recompute => {
                ScoredBatch::new(batch, self.logprobs(&self.student, batch)?)?
            }
        };
        if let Some(teacher) = &self.parts.teacher {
            scored = scored.with_teacher(teacher.score(&request)?)?;
        }
        if let Some(reference) = &self.reference {
            scored = scored.with_reference(self.logprobs(reference, batch)?)?;
        }
        if let Some(critic) = &self.critic {
            let rows: Vec<usize> = (0..batch.n_rows()).collect();
            let budget = self.config.optimizer.token_budget;
            let values = critic.values(&self.student, &sequences(batch, &rows), budget)?;
            scored = scored.with_values(Ragged::new("values", batch.rows().clone(), values)?)?;
        }
        let spans = self.spans(batch)?;
        if let Some(spans) = &spans {
            scored = scored.masked(&SpanToken::starts(spans))?;
        }
        Ok((scored, spans))
    }

    fn spans(&self, batch: &RolloutBatch) -> Result<Spans> {
        let Some(teacher) = &self.parts.distribution else { return Ok(None) };
        let rows: Vec<usize> = (0..batch.n_rows()).collect();
        Ok(teacher.spans(&sequences(batch, &rows))?)
    }

    fn logprobs(&self, model: &CausalLm, batch: &RolloutBatch) -> Result<Ragged<f32>> {
        let rows: Vec<usize> = (0..batch.n_rows()).collect();
        let (temperature, budget) =
            (self.config.rollout.temperature, self.config.optimizer.token_budget);
        let logprobs = model.sequence_logprobs(&sequences(batch, &rows), temperature, budget)?;
        Ok(Ragged::new("logprobs", batch.rows().clone(), logprobs)?)
    }
}

/// The rows as the student sees them.
pub(crate) fn sequences<'a>(batch: &'a RolloutBatch, rows: &[usize]) -> Vec<ScoredSequence<'a>> {
    of_rows(batch.prompts(), batch, rows)
}

/// The rows as the teacher sees them: the responses are the same, their tokens in one order.
pub(crate) fn teacher_sequences<'a>(
    batch: &'a RolloutBatch,
    rows: &[usize],
) -> Vec<ScoredSequence<'a>> {
    of_rows(batch.teacher_prompts(), batch, rows)
}

fn of_rows<'a>(
    prompts: &'a Ragged<u32>,
    batch: &'a RolloutBatch,
    rows: &[usize],
) -> Vec<ScoredSequence<'a>> {
    let row = |&row: &usize| {
        let (prompt, response) = (prompts.row(row)?, batch.responses().row(row)?);
        Some(ScoredSequence { prompt, response })
    };
    rows.iter().filter_map(row).collect()
}
