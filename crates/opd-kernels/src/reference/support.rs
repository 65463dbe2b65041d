use candle_core::{D, Tensor};

use super::{log_softmax, logits};
use crate::{DivergenceOutput, Head, Projection, Result, SupportLogprobs};

/// Definition of [`linear_support_logprobs`](crate::linear_support_logprobs).
///
/// # Errors
///
/// If candle fails.
pub fn linear_support_logprobs<'a>(
    hidden: &Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    temperature: f64,
) -> Result<SupportLogprobs> {
    let (log_p, _) = log_softmax(&logits(hidden, head)?, temperature)?;
    Ok(SupportLogprobs {
        logprobs: log_p.gather(ids, 1)?,
        entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
    })
}

/// Definition of [`linear_total_variation`](crate::linear_total_variation).
///
/// # Errors
///
/// If candle fails.
pub fn linear_total_variation(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    temperature: f64,
) -> Result<DivergenceOutput> {
    let (log_p, _) = log_softmax(&logits(student.hidden, student.head)?, temperature)?;
    let (log_q, _) = log_softmax(&logits(teacher.hidden, teacher.head)?.detach(), temperature)?;
    let of_ids = |log_probs: &Tensor| log_probs.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1);
    let distance = ((log_p.exp()? - log_q.exp()?)?.abs()?.sum(D::Minus1)? / 2.0)?;
    Ok(DivergenceOutput {
        divergence: distance,
        student_entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
        student_logprobs: of_ids(&log_p)?,
        teacher_logprobs: of_ids(&log_q)?,
    })
}
