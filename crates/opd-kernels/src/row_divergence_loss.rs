use candle_core::Tensor;

use crate::{
    Divergence, DivergenceOutput, Result,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView},
        divergence_rows::{DivergenceRows, STATISTICS},
    },
    divergence::check_logits,
    gpu::{self, divergence_rows::Rows},
    known_gradients::loss_of_columns,
    logprob::{check_temperature, device_ids, token_ids, widened},
    shape,
};

const OP: &str = "row_divergence_loss";

/// A loss of the divergences of rows of logits, and its gradient where the student's logits were.
#[derive(Clone, Debug)]
pub struct DivergenceLoss {
    /// The loss, a scalar; without a graph.
    pub loss: Tensor,
    /// What the two models say of each token; without a graph.
    pub tokens: DivergenceOutput,
    /// `dL/dlogits` of the student, `[T, V]`.
    pub gradient: Tensor,
}

/// A loss of each row's own divergence, entropy and log-prob, with the gradient written over the student's
/// logits: nothing of their size is allocated.
///
/// `student` is `[T, V]`, given up: contiguous logits are replaced by their gradient, which every tensor that
/// shares their memory sees. Others, and bf16 and f16 on the CPU, are copied. `teacher` is `[T, V]` in
/// memory of its own, `ids` is `[T]` (u32). `loss` gets what [`divergence`](crate::divergence) says of the
/// rows (`[T]` each) and returns a scalar that depends on these alone. Numbers are those of
/// [`divergence`](crate::divergence) and its backward, to the bit.
///
/// [`linear_divergence_loss`](crate::linear_divergence_loss) is the form without logits.
///
/// # Errors
///
/// As [`divergence`](crate::divergence), [`Error::Shared`](crate::Error::Shared) if the two share their
/// memory, and what `loss` fails with; the logits are then as they were.
pub fn row_divergence_loss(
    student: Tensor,
    teacher: &Tensor,
    ids: &Tensor,
    kind: Divergence,
    temperature: f64,
    loss: impl FnOnce(&DivergenceOutput) -> candle_core::Result<Tensor>,
) -> Result<DivergenceLoss> {
    check_temperature(OP, temperature)?;
    kind.check()?;
    let (rows, width) = check_logits(OP, &student, teacher)?;
    shape::distinct(OP, ("student", &student), &[("teacher", teacher)])?;
    let (student, teacher) = (student.detach(), teacher.detach());
    if let Some(gpu) = gpu::of(&student) {
        let ids = device_ids(&gpu, OP, ids, rows, width)?;
        let (student, teacher) = (student.contiguous()?, teacher.contiguous()?);
        let kind = kind.into();
        let rows = Rows { student: &student, teacher: &teacher, ids: &ids, kind, temperature };
        let columns = rows.forward(&gpu)?;
        let (loss, upstream) = loss_of_columns(&columns, loss)?;
        rows.backward(&gpu, &columns, &upstream, &student)?;
        let tokens = DivergenceOutput::from_columns(&columns)?;
        return Ok(DivergenceLoss { loss, tokens, gradient: student });
    }
    let dtype = student.dtype();
    let student = widened(&student)?.unwrap_or(student).contiguous()?;
    let teacher = widened(&teacher)?.unwrap_or(teacher).contiguous()?;
    by_dtype!(OP, student, T => {
        let ids = token_ids(OP, ids, rows, width)?;
        let rows = DivergenceRows { kind, ids: &ids, width, temperature };
        let theirs = cpu::view::<T>(OP, &teacher)?;
        let mut columns = Columns::<T, STATISTICS>::new(ids.len());
        rows.forward(&mut columns, 0, &cpu::view::<T>(OP, &student)?, &theirs);
        let columns = columns.into_tensor()?;
        let (loss, upstream) = loss_of_columns(&columns, loss)?;
        {
            let (saved, upstream) = (cpu::view(OP, &columns)?, cpu::view(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            cpu::update(OP, &student, |values: &mut [T]| {
                rows.backward(values, 0, None, &theirs, saved, upstream);
                Ok(())
            })?;
        }
        let tokens = DivergenceOutput::from_columns(&columns)?;
        Ok(DivergenceLoss { loss, tokens, gradient: student.to_dtype(dtype)? })
    })
}
