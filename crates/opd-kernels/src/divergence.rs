use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor, backend::BackendStorage};

use crate::{
    Error, Projection, Result,
    cpu::{
        self, by_dtype,
        columns::{Columns, ColumnsView, argument},
        divergence_rows::{DivergenceRows, STATISTICS},
    },
    gpu::{self, Gpu, Recorded1, divergence_rows::Rows},
    logprob::{check_device, check_temperature, device_ids, matrix, token_ids, widened},
};

const OP: &str = "divergence";

/// A divergence of the student's distribution `p` from the teacher's `q`, per token, in nats.
///
/// Source: Agarwal et al. 2023 (GKD), <https://arxiv.org/abs/2306.13649>; the skewed ones Ko et
/// al. 2024 (DistiLLM), <https://arxiv.org/abs/2402.03898>.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Divergence {
    /// `KL(q || p)`: covers every mode of the teacher.
    ForwardKl,
    /// `KL(p || q)`: seeks a mode of the teacher.
    #[default]
    ReverseKl,
    /// `beta KL(q || m) + (1 - beta) KL(p || m)` with `m = beta q + (1 - beta) p`; by
    /// convention `beta = 0` is [`Self::ForwardKl`] and `beta = 1` is [`Self::ReverseKl`].
    Jsd {
        /// Weight of the teacher in the mixture, in `0..=1`.
        beta: f64,
    },
    /// `KL(q || alpha q + (1 - alpha) p)`.
    SkewForwardKl {
        /// Weight of the teacher in the mixture, in `0..1`; 0.1 in the source.
        alpha: f64,
    },
    /// `KL(p || alpha p + (1 - alpha) q)`.
    SkewReverseKl {
        /// Weight of the student in the mixture, in `0..1`; 0.1 in the source.
        alpha: f64,
    },
}

impl Divergence {
    /// Passes if the parameter is in its range.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`].
    pub fn check(self) -> Result<()> {
        let (what, expected, got, fits) = match self {
            Self::ForwardKl | Self::ReverseKl => return Ok(()),
            Self::Jsd { beta } => ("beta", "in 0..=1", beta, (0.0..=1.0).contains(&beta)),
            Self::SkewForwardKl { alpha } | Self::SkewReverseKl { alpha } => {
                ("alpha", "in 0..1", alpha, (0.0..1.0).contains(&alpha))
            }
        };
        if fits { Ok(()) } else { Err(Error::Setting { op: OP, what, expected, got }) }
    }
}

/// Divergences and what else one pass over both models' logits gives; `[T]` each, nats.
#[derive(Clone, Debug)]
pub struct DivergenceOutput {
    /// The divergence of each token's distribution.
    pub divergence: Tensor,
    /// Entropy of the student's distribution.
    pub student_entropy: Tensor,
    /// The student's log-probs of the ids.
    pub student_logprobs: Tensor,
    /// The teacher's log-probs of the ids; without a graph.
    pub teacher_logprobs: Tensor,
}

impl DivergenceOutput {
    pub(crate) fn from_columns(columns: &Tensor) -> Result<Self> {
        let column = |i| columns.narrow(0, i, 1)?.squeeze(0);
        Ok(Self {
            divergence: column(0)?,
            student_entropy: column(1)?,
            student_logprobs: column(2)?,
            teacher_logprobs: column(3)?.detach(),
        })
    }
}

/// The divergence of each row of `student` logits from the same row of `teacher` logits.
///
/// Both are `[T, V]` of one dtype (f32, bf16 or f16; f64 on the CPU), both divided by `temperature` before the
/// softmax; nothing is multiplied by the temperature's square. `ids` is `[T]` (u32): the
/// tokens whose log-probs come out beside the divergence. Differentiable with respect to the student's logits
/// alone: divergence, entropy and log-probs.
///
/// With `D` the divergence and `p` the student's probabilities:
///
/// ```text
/// dlogits_tv = p_tv (dD_t/dp_tv - sum_u p_tu dD_t/dp_tu) / temperature
/// ```
///
/// A probability of 0 on one side alone makes a KL infinite, as it is; NaN in gives NaN out.
/// A row whose upstream gradients are all 0 gets gradient 0.
///
/// Definition: [`reference::divergence`](crate::reference::divergence).
///
/// # Errors
///
/// [`Error::Shape`] where the two differ, [`Error::DType`], [`Error::Device`],
/// [`Error::TokenId`], [`Error::Setting`].
pub fn divergence(
    student: &Tensor,
    teacher: &Tensor,
    ids: &Tensor,
    kind: Divergence,
    temperature: f64,
) -> Result<DivergenceOutput> {
    check_temperature(OP, temperature)?;
    kind.check()?;
    let (rows, width) = check_logits(OP, student, teacher)?;
    if let Some(gpu) = gpu::of(student) {
        let ids = device_ids(&gpu, OP, ids, rows, width)?;
        return on_gpu(gpu, student, teacher, ids, (kind, temperature));
    }
    if let (Some(student), Some(teacher)) = (widened(student)?, widened(teacher)?) {
        return divergence(&student, &teacher, ids, kind, temperature);
    }
    by_dtype!(OP, student, _T => Ok(()))?;
    let ids = token_ids(OP, ids, rows, width)?;
    let op = Op { teacher: teacher.detach().contiguous()?, ids, kind, temperature };
    DivergenceOutput::from_columns(&student.contiguous()?.apply_op1(op)?)
}

fn on_gpu(
    gpu: Gpu,
    student: &Tensor,
    teacher: &Tensor,
    ids: Tensor,
    (kind, temperature): (Divergence, f64),
) -> Result<DivergenceOutput> {
    let (student, teacher) = (student.contiguous()?, teacher.detach().contiguous()?);
    let kind = kind.into();
    let rows = Rows { student: &student, teacher: &teacher, ids: &ids, kind, temperature };
    let value = rows.forward(&gpu)?;
    let (ids, teacher) = (ids.clone(), teacher.clone());
    let backward = move |student: &Tensor, saved: &Tensor, upstream: &Tensor| {
        let out = gpu::empty(student.shape(), student.dtype(), student.device())?;
        let rows = Rows { student, teacher: &teacher, ids: &ids, kind, temperature };
        rows.backward(&gpu, saved, &upstream.contiguous()?, &out)?;
        Ok(out)
    };
    let columns = student.apply_op1(Recorded1 { name: OP, value, backward })?;
    DivergenceOutput::from_columns(&columns)
}

/// Rows and vocabulary of two models' logits, if they agree.
pub(crate) fn check_logits(
    op: &'static str,
    student: &Tensor,
    teacher: &Tensor,
) -> Result<(usize, usize)> {
    check_device(op, student)?;
    check_device(op, teacher)?;
    let dims = matrix(op, "student", student)?;
    check_teacher(op, dims, matrix(op, "teacher", teacher)?)?;
    check_same_dtype(op, student, teacher)?;
    Ok(dims)
}

/// As [`check_logits`], of logits that are not written.
pub(crate) fn check_projections(
    op: &'static str,
    student: Projection<'_>,
    teacher: Projection<'_>,
) -> Result<(usize, usize)> {
    let dims = student.check(op)?;
    check_teacher(op, dims, teacher.check(op)?)?;
    check_same_dtype(op, student.hidden, teacher.hidden)?;
    Ok(dims)
}

/// Passes if the teacher has the student's rows and vocabulary.
fn check_teacher(op: &'static str, student: (usize, usize), teacher: (usize, usize)) -> Result<()> {
    if student == teacher {
        return Ok(());
    }
    Err(Error::Shape {
        op,
        what: "the teacher's logits",
        expected: format!(
            "{} rows over the student's vocabulary of {}; a divergence needs one vocabulary: \
             cut padding rows off the larger head, or distil through sampled tokens",
            student.0, student.1
        ),
        got: vec![teacher.0, teacher.1],
    })
}

pub(crate) fn check_same_dtype(op: &'static str, student: &Tensor, teacher: &Tensor) -> Result<()> {
    if student.dtype() == teacher.dtype() {
        return Ok(());
    }
    let remedy = "give student and teacher one dtype";
    Err(Error::DType { op, what: "teacher", got: teacher.dtype(), remedy })
}

struct Op {
    teacher: Tensor,
    ids: Vec<u32>,
    kind: Divergence,
    temperature: f64,
}

impl Op {
    fn rows(&self, width: usize) -> DivergenceRows<'_> {
        let Self { kind, temperature, .. } = *self;
        DivergenceRows { kind, ids: &self.ids, width, temperature }
    }

    fn forward(&self, student: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, width) = layout.shape().dims2()?;
        by_dtype!(OP, student, T => {
            let mut out = Columns::<T, STATISTICS>::new(rows);
            let teacher = cpu::view::<T>(OP, &self.teacher)?;
            self.rows(width).forward(&mut out, 0, argument(OP, student, layout)?, &teacher);
            Ok(out.into_storage())
        })
    }

    fn backward(&self, student: &Tensor, saved: &Tensor, upstream: &Tensor) -> Result<Tensor> {
        let (_, width) = student.dims2()?;
        let upstream = upstream.contiguous()?;
        by_dtype!(OP, student, T => {
            let logits = cpu::view::<T>(OP, student)?;
            let teacher = cpu::view::<T>(OP, &self.teacher)?;
            let (saved, upstream) = (cpu::view::<T>(OP, saved)?, cpu::view::<T>(OP, &upstream)?);
            let (saved, upstream) = (ColumnsView::new(&saved), ColumnsView::new(&upstream));
            let mut out = vec![0.0 as T; logits.len()];
            self.rows(width).backward(&mut out, 0, Some(&logits), &teacher, saved, upstream);
            cpu::tensor(out, student.shape())
        })
    }
}

impl CustomOp1 for Op {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        student: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        Ok(self.forward(student, layout)?)
    }

    fn bwd(
        &self,
        student: &Tensor,
        saved: &Tensor,
        upstream: &Tensor,
    ) -> candle_core::Result<Option<Tensor>> {
        Ok(Some(self.backward(student, saved, upstream)?))
    }
}
