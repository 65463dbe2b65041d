use candle_core::{D, Tensor};

use super::{log_softmax, logits};
use crate::{CrossVocabulary, DivergenceOutput, Projection, Result};

/// Definition of [`linear_cross_vocabulary`](crate::linear_cross_vocabulary).
///
/// # Errors
///
/// If candle fails.
pub fn linear_cross_vocabulary(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    how: &CrossVocabulary,
    temperature: f64,
) -> Result<DivergenceOutput> {
    let (log_p, _) = log_softmax(&logits(student.hidden, student.head)?, temperature)?;
    let (log_q, _) = log_softmax(&logits(teacher.hidden, teacher.head)?.detach(), temperature)?;
    let pairs = how.counterparts.iter().zip(0u32..);
    let (theirs, ours): (Vec<u32>, Vec<u32>) =
        pairs.clone().filter_map(|(theirs, ours)| Some(((*theirs)?, ours))).unzip();
    let alone: Vec<u32> = pairs.filter(|(theirs, _)| theirs.is_none()).map(|(_, v)| v).collect();
    let their_vocab = log_q.dim(1)? as u32;
    let other: Vec<u32> = (0..their_vocab).filter(|id| !theirs.contains(id)).collect();

    let (n, device) = (alone.len().max(other.len()), log_p.device());
    let mut divergence = log_p.zeros_like()?.sum(D::Minus1)?;
    let columns = |of: &Tensor, ids: &[u32]| {
        of.index_select(&Tensor::from_slice(ids, ids.len(), device)?, 1)?.contiguous()
    };
    if !ours.is_empty() {
        let (log_p, log_q) = (columns(&log_p, &ours)?, columns(&log_q, &theirs)?);
        let (p, q) = (log_p.exp()?, log_q.exp()?);
        let terms = match how.beta {
            0.0 => (&q * (&log_q - &log_p)?)?,
            1.0 => (&p * (&log_p - &log_q)?)?,
            beta => {
                let log_m = ((&q * beta)? + (&p * (1.0 - beta))?)?.log()?;
                let teacher = ((&q * (&log_q - &log_m)?)? * beta)?;
                (teacher + ((&p * (&log_p - &log_m)?)? * (1.0 - beta))?)?
            }
        };
        divergence = (divergence + (terms.sum(D::Minus1)? * how.matched)?)?;
    }
    if n > 0 {
        let sorted = |of: &Tensor, ids: &[u32]| {
            if ids.is_empty() {
                return of.narrow(1, 0, 1)?.zeros_like()?.repeat((1, n));
            }
            let values = columns(of, ids)?.exp()?;
            let order = values.detach().arg_sort_last_dim(false)?;
            values.gather(&order, 1)?.pad_with_zeros(1, 0, n - ids.len())
        };
        let gaps = (sorted(&log_p, &alone)? - sorted(&log_q, &other)?)?.abs()?;
        divergence = (divergence + (gaps.sum(D::Minus1)? * how.unmatched)?)?;
    }
    let of_ids = log_p.gather(&ids.unsqueeze(1)?, 1)?.squeeze(1)?;
    Ok(DivergenceOutput {
        divergence,
        student_entropy: (log_p.exp()? * &log_p)?.sum(D::Minus1)?.neg()?,
        teacher_logprobs: (of_ids.detach() * f64::NAN)?,
        student_logprobs: of_ids,
    })
}
