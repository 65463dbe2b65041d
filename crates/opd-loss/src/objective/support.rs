use candle_core::{D, Tensor};

use crate::{Error, Result};

/// Which way a KL over a support runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// `KL(teacher || student)`.
    Forward,
    /// `KL(student || teacher)`.
    #[default]
    Reverse,
}

/// What becomes of the probability outside the support.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// One more outcome that holds all of it, on both sides.
    #[default]
    Bucket,
    /// It is divided out of both: what lies outside is unknown to the loss.
    Renormalised,
    /// It is left out of the sum: no divergence, may be negative.
    Truncated,
}

/// The log of what a bucket may hold is bounded from below by holding the support to this.
const FULL: f64 = -1e-7;

/// KL of each row over a support of `K` ids, from both sides' log-probs (nats) of these ids.
///
/// `student` is `[T, K]` with graph, `teacher` `[T, K]`; the result is `[T]` in f64. Ids must
/// differ within a row. With `P`, `Q` the sums over the support:
///
/// ```text
/// Bucket        sum_k kl(p_k, q_k) + kl(1 - P, 1 - Q),   log P and log Q at most -1e-7
/// Renormalised  sum_k kl(p_k / P, q_k / Q)
/// Truncated     sum_k kl(p_k, q_k)
/// kl(p, q) = q (log q - log p)   Forward,   p (log p - log q)   Reverse
/// ```
///
/// With the bucket it is the KL of a coarser view of both distributions: at least 0, at most
/// the full KL, and the nearer to it the larger the support. What it holds is 1 less the sum of
/// the support's probabilities: from log-probs in f32, a mass between 1e-7 and 1e-5 has few
/// digits (at 1e-6, the KL about four).
///
/// Source: the tail bucket as in distillation from top-k log-probs of Thinking Machines and
/// NeMo-RL; coarsening by the data-processing inequality.
///
/// # Errors
///
/// [`Error::Shape`] where the two differ; [`Error::Refused`] for a renormalised support of one
/// id.
pub fn support_kl(
    student: &Tensor,
    teacher: &Tensor,
    tail: Tail,
    direction: Direction,
) -> Result<Tensor> {
    let (rows, k) = student.dims2()?;
    if teacher.dims() != [rows, k] {
        return Err(Error::Shape {
            what: "the teacher's log-probs of the support",
            expected: format!("[{rows}, {k}], as the student's"),
            got: teacher.dims().to_vec(),
        });
    }
    check(k, tail)?;
    let student = student.to_dtype(candle_core::DType::F64)?;
    let teacher = teacher.to_dtype(candle_core::DType::F64)?.detach();
    let (log_p, log_q) = match tail {
        Tail::Bucket => (with_bucket(&student)?, with_bucket(&teacher)?),
        Tail::Renormalised => (renormalised(&student)?, renormalised(&teacher)?),
        Tail::Truncated => (student, teacher),
    };
    let (from, to) = match direction {
        Direction::Forward => (log_q, log_p),
        Direction::Reverse => (log_p, log_q),
    };
    Ok((from.exp()? * (from - to)?)?.sum(D::Minus1)?)
}

/// Passes if a support of `k` ids says anything.
pub(super) fn check(k: usize, tail: Tail) -> Result<()> {
    if k == 0 {
        return Err(Error::Setting { what: "top_k", expected: "at least 1", got: 0.0 });
    }
    if k == 1 && tail == Tail::Renormalised {
        return Err(Error::Refused {
            what: "a renormalised support of one id",
            reason: "its probability is 1 on both sides, so that the loss and its gradient are \
                     0 whatever the models say",
            remedy: "use the tail bucket, or a larger k",
        });
    }
    Ok(())
}

/// `log sum_k exp(x_k)`, `[T, 1]`.
fn log_sum(x: &Tensor) -> Result<Tensor> {
    let max = x.max_keepdim(D::Minus1)?.detach();
    let sum = x.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    Ok((sum.log()? + max)?)
}

fn renormalised(x: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_sub(&log_sum(x)?)?)
}

/// The log-probs and that of the rest, `[T, K + 1]`.
fn with_bucket(x: &Tensor) -> Result<Tensor> {
    let inside = log_sum(x)?;
    let bound = (inside.zeros_like()? + FULL)?;
    let inside = inside.lt(&bound)?.where_cond(&inside, &bound)?;
    Ok(Tensor::cat(&[x, &log_rest(&inside)?], D::Minus1)?)
}

/// `log(1 - exp(x))` of `x < 0`, which keeps its digits where `exp(x)` is next to 1.
fn log_rest(x: &Tensor) -> Result<Tensor> {
    // 1 - e^x = -tanh(x/2) (1 + e^x); candle has no expm1.
    let scale = (x.exp()? + 1.0)?;
    Ok(((x / 2.0)?.tanh()?.neg()? * scale)?.log()?)
}
