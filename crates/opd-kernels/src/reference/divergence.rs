use candle_core::{D, Tensor};

use super::{log_softmax, logits};
use crate::{Divergence, DivergenceOutput, Projection, Result};

/// Definition of [`divergence`](crate::divergence).
///
/// # Errors
///
/// If candle fails.
pub fn divergence(
    student: &Tensor,
    teacher: &Tensor,
    ids: &Tensor,
    kind: Divergence,
    temperature: f64,
) -> Result<DivergenceOutput> {
    kind.check()?;
    let (log_p, _) = log_softmax(student, temperature)?;
    let (log_q, _) = log_softmax(&teacher.detach(), temperature)?;
    let of_ids = |log_probs: &Tensor| log_probs.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1);
    let divergence = match kind {
        Divergence::ForwardKl => kl(&log_q, &log_p)?,
        Divergence::ReverseKl => kl(&log_p, &log_q)?,
        Divergence::Jsd { beta: 0.0 } => kl(&log_q, &log_p)?,
        Divergence::Jsd { beta: 1.0 } => kl(&log_p, &log_q)?,
        Divergence::Jsd { beta } => {
            let log_m = mixture(beta, &log_q, &log_p)?;
            ((kl(&log_q, &log_m)? * beta)? + (kl(&log_p, &log_m)? * (1.0 - beta))?)?
        }
        Divergence::SkewForwardKl { alpha } => kl(&log_q, &mixture(alpha, &log_q, &log_p)?)?,
        Divergence::SkewReverseKl { alpha } => kl(&log_p, &mixture(alpha, &log_p, &log_q)?)?,
    };
    Ok(DivergenceOutput {
        divergence,
        student_entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
        student_logprobs: of_ids(&log_p)?,
        teacher_logprobs: of_ids(&log_q)?,
    })
}

/// Definition of [`linear_divergence`](crate::linear_divergence).
///
/// # Errors
///
/// If candle fails.
pub fn linear_divergence(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    kind: Divergence,
    temperature: f64,
) -> Result<DivergenceOutput> {
    let (ours, theirs) =
        (logits(student.hidden, student.head)?, logits(teacher.hidden, teacher.head)?);
    divergence(&ours, &theirs, ids, kind, temperature)
}

/// `KL(a || b)` of each row.
fn kl(log_a: &Tensor, log_b: &Tensor) -> candle_core::Result<Tensor> {
    (log_a.exp()? * (log_a - log_b)?)?.sum(D::Minus1)
}

/// `log(weight a + (1 - weight) b)`.
fn mixture(weight: f64, log_a: &Tensor, log_b: &Tensor) -> candle_core::Result<Tensor> {
    ((log_a.exp()? * weight)? + (log_b.exp()? * (1.0 - weight))?)?.log()
}
