use candle_core::{CpuStorage, Shape, Tensor};

use crate::{
    DivergenceOutput, Projection, Result,
    cpu::{
        Element,
        columns::{Columns, ColumnsView},
        gemm::Gemm,
        softmax::{BLOCK, RowStats, sum_over},
        token_rows::{for_each_row, set_rows},
    },
    divergence::check_projections,
    gpu::{self, Gpu, divergence_rows::Kind},
    linear_op::{self, Chunk, ChunkedLogits, Frozen, LinearRows},
    logprob::{check_temperature, token_ids},
};

const OP: &str = "linear_total_variation";

/// Distance, student entropy, log-probs of the id under both; then what the backward reads:
/// maximum and log-sum of both, `sum_v p_v u_v`.
const STATISTICS: usize = 9;

/// Total variation distance of the student's distribution from the teacher's at each row, under
/// `hidden head^T` of both, without ever writing `[T, V]` logits.
///
/// ```text
/// D_t = sum_v |p_tv - q_tv| / 2,   in 0..=1
/// dlogits_tv = p_tv (u_tv - sum_w p_tw u_tw) / temperature,   u = sign(p - q) / 2
/// ```
///
/// Inputs, outputs and errors are those of [`linear_divergence`](crate::linear_divergence);
/// `divergence` of the output is the distance. Differentiable with respect to the student's
/// hidden states and head; where `p = q` the subgradient 0 is taken.
///
/// Definition: [`reference::linear_total_variation`](crate::reference::linear_total_variation).
///
/// Source: Wen et al. 2023, f-divergence minimization for sequence-level knowledge distillation,
/// <https://arxiv.org/abs/2307.15190>.
///
/// # Errors
///
/// As [`linear_divergence`](crate::linear_divergence).
pub fn linear_total_variation(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    temperature: f64,
) -> Result<DivergenceOutput> {
    check_temperature(OP, temperature)?;
    let (rows, vocab) = check_projections(OP, student, teacher)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let op = Op { teacher: Frozen::of(teacher)?, ids, temperature };
    DivergenceOutput::from_columns(&linear_op::apply(student, op)?)
}

struct Op {
    teacher: Frozen,
    ids: Vec<u32>,
    temperature: f64,
}

/// Turns logits of one model into probabilities.
#[derive(Clone, Copy)]
struct Softmax<T> {
    inverse: T,
    max: T,
    scale: T,
}

impl<T: Element> Softmax<T> {
    #[inline(always)]
    fn new(max: T, log_sum: T, temperature: f64) -> Self {
        let scale = T::of((-log_sum.as_f64()).exp());
        Self { inverse: T::of(1.0 / temperature), max, scale }
    }

    #[inline(always)]
    fn of(&self, x: T) -> T {
        ((x - self.max) * self.inverse).exp() * self.scale
    }
}

/// `sign(p - q) / 2`, 0 where they are equal.
#[inline(always)]
fn pull<T: Element>(p: T, q: T) -> T {
    let half = T::of(0.5);
    let up = if p > q { half } else { T::ZERO };
    if p < q { -half } else { up }
}

impl Op {
    #[inline(always)]
    fn statistics<T: Element>(&self, id: usize, student: &[T], teacher: &[T]) -> [T; STATISTICS] {
        let p = RowStats::of(student, self.temperature);
        let q = RowStats::of(teacher, self.temperature);
        let saved = [p.max, p.log_sum, q.max, q.log_sum].map(T::of);
        let ours = Softmax::new(saved[0], saved[1], self.temperature);
        let theirs = Softmax::new(saved[2], saved[3], self.temperature);
        let [mut distance, mut mean] = [0.0; 2];
        for (student, teacher) in student.chunks(BLOCK).zip(teacher.chunks(BLOCK)) {
            let terms = |[x, y]: [T; 2]| {
                let (p, q) = (ours.of(x), theirs.of(y));
                let pull = pull(p, q);
                [(p - q) * pull, p * pull]
            };
            let block = sum_over([student, teacher], terms);
            distance += block[0];
            mean += block[1];
        }
        // NaN in either model's logits gives no order, and so no distance: it must not read 0.
        let poison = p.log_sum + q.log_sum;
        let distance = if poison.is_nan() { f64::NAN } else { distance };
        let log_prob =
            |stats: &RowStats, row: &[T]| T::of(stats.log_prob(row[id].as_f64(), self.temperature));
        let of_id = [log_prob(&p, student), log_prob(&q, teacher)];
        let [max_p, sum_p, max_q, sum_q] = saved;
        let [distance, entropy, mean] = [distance, p.entropy, mean].map(T::of);
        [distance, entropy, of_id[0], of_id[1], max_p, sum_p, max_q, sum_q, mean]
    }

    /// Replaces the student's logits in `out` by their gradient.
    #[inline(always)]
    fn gradient<T: Element>(
        &self,
        out: &mut [T],
        teacher: &[T],
        row: usize,
        saved: [T; STATISTICS],
        upstream: [T; STATISTICS],
    ) {
        let [g_value, g_entropy, g_log_prob, ..] = upstream.map(Element::as_f64);
        if g_value == 0.0 && g_entropy == 0.0 && g_log_prob == 0.0 {
            return out.fill(T::ZERO);
        }
        let [_, entropy, log_prob, _, max_p, sum_p, max_q, sum_q, mean] = saved;
        let ours = Softmax::new(max_p, sum_p, self.temperature);
        let theirs = Softmax::new(max_q, sum_q, self.temperature);
        let per = 1.0 / self.temperature;
        let value = T::of(per * g_value);
        let constant = T::of(-per * (g_entropy * entropy.as_f64() + g_log_prob));
        let slope = T::of(-per * g_entropy);
        let id = self.ids[row] as usize;
        let own = out[id];
        for (x, y) in out.iter_mut().zip(teacher) {
            let (p, q) = (ours.of(*x), theirs.of(*y));
            let log_p = (*x - max_p) * ours.inverse - sum_p;
            let gradient = p * (value * (pull(p, q) - mean) + constant + slope * log_p);
            *x = if p == T::ZERO { T::ZERO } else { gradient };
        }
        if g_log_prob != 0.0 {
            // 1 - p from the log-prob: no cancellation where the token is nearly certain.
            let p = ours.of(own);
            let constant = T::of(-per * g_entropy * entropy.as_f64());
            let pulled = value * (pull(p, theirs.of(teacher[id])) - mean);
            let log_p = (own - max_p) * ours.inverse - sum_p;
            let rest = if p == T::ZERO { T::ZERO } else { p * (pulled + constant + slope * log_p) };
            out[id] = rest + T::of(-per * g_log_prob * log_prob.as_f64().exp_m1());
        }
    }
}

impl Op {
    /// The ids of a chunk's rows, on its device.
    fn ids_of(&self, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let ids = &self.ids[chunk.rows.clone()];
        Ok(Tensor::from_slice(ids, ids.len(), chunk.logits.device())?)
    }
}

impl LinearRows for Op {
    const OP: &'static str = OP;

    fn teacher(&self) -> Option<Projection<'_>> {
        Some(self.teacher.projection())
    }

    fn forward<T: Gemm>(&self, logits: &ChunkedLogits<'_, T>) -> (CpuStorage, Shape) {
        let mut out = Columns::<T, STATISTICS>::new(logits.rows);
        logits.for_each(|Chunk { first, vocab, logits, theirs }| {
            set_rows(
                &mut out,
                first,
                (logits.len(), vocab),
                #[inline(always)]
                |i| {
                    let at = i * vocab..(i + 1) * vocab;
                    let id = self.ids[first + i] as usize;
                    self.statistics(id, &logits[at.clone()], &theirs[at])
                },
            );
        });
        out.into_storage()
    }

    fn backward<T: Gemm>(&self, chunk: Chunk<'_, T>, saved: &[T], upstream: &[T]) {
        let Chunk { first, vocab, logits, theirs } = chunk;
        let saved = ColumnsView::<T, STATISTICS>::new(saved);
        let upstream = ColumnsView::<T, STATISTICS>::new(upstream);
        for_each_row(
            logits,
            vocab,
            #[inline(always)]
            |i, out| {
                let (row, teacher) = (first + i, &theirs[i * vocab..][..vocab]);
                self.gradient(out, teacher, row, saved.row(row), upstream.row(row));
            },
        );
    }

    fn gpu_forward(&self, gpu: &Gpu, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let ids = self.ids_of(chunk)?;
        chunk.pair(&ids, Kind::TOTAL_VARIATION, self.temperature)?.forward(gpu)
    }

    fn gpu_backward(
        &self,
        gpu: &Gpu,
        chunk: &gpu::linear::Chunk<'_>,
        saved: &Tensor,
        upstream: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let ids = self.ids_of(chunk)?;
        let rows = chunk.pair(&ids, Kind::TOTAL_VARIATION, self.temperature)?;
        rows.backward(gpu, saved, upstream, out)
    }
}
