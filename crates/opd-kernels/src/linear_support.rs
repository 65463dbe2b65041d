use candle_core::{CpuStorage, DType, Shape, Tensor};

use crate::{
    Error, Head, Projection, Result,
    cpu::{
        self, Element, dispatch,
        gemm::Gemm,
        map_chunks,
        softmax::RowStats,
        token_rows::{for_each_row, rows_per_task},
    },
    gpu::{self, Gpu},
    linear_op::{self, Chunk, ChunkedLogits, LinearRows},
    logprob::check_temperature,
};

const OP: &str = "linear_support_logprobs";

/// Entropy, maximum, log-sum: they follow the log-probs of a row.
const EXTRA: usize = 3;

/// What a model says of several ids at each position; nats.
#[derive(Clone, Debug)]
pub struct SupportLogprobs {
    /// `[T, K]`: `log softmax(logits / temperature)` at the row's ids.
    pub logprobs: Tensor,
    /// `[T]`: `-sum_v p_v log p_v`.
    pub entropy: Tensor,
}

/// Log-probs of `K` ids of each row's own, and entropies, under `hidden head^T`, without ever
/// writing the `[T, V]` logits: they exist for a chunk of rows at a time, and backward computes
/// them again.
///
/// `hidden` is `[T, H]`, `head` is `[V, H]`, one dtype (f32, f64, bf16 or f16); `ids` is `[T, K]` (u32) and
/// may repeat an id within a row. Differentiable with respect to `hidden` and `head`; the
/// gradient of one that is not part of a graph is not computed.
///
/// ```text
/// z = logits / temperature,  log p_tv = z_tv - log sum_u exp(z_tu)
/// dlogits_tv = (sum_k g_tk (1[v = id_tk] - p_tv) - g_entropy p_tv (log p_tv + entropy_t))
///              / temperature
/// ```
///
/// Definition: [`reference::linear_support_logprobs`](crate::reference::linear_support_logprobs).
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`], [`Error::TokenId`] naming the entry,
/// [`Error::Setting`] for the temperature.
pub fn linear_support_logprobs<'a>(
    hidden: &'a Tensor,
    head: impl Into<Head<'a>>,
    ids: &Tensor,
    temperature: f64,
) -> Result<SupportLogprobs> {
    check_temperature(OP, temperature)?;
    let student = Projection::new(hidden, head);
    let (rows, vocab) = student.check(OP)?;
    let k = match ids.dims() {
        [n, k] if *n == rows => *k,
        got => {
            let expected = format!("[{rows}, K], ids of each row");
            return Err(Error::Shape { op: OP, what: "ids", expected, got: got.to_vec() });
        }
    };
    if ids.dtype() != DType::U32 {
        let remedy = "token ids are u32";
        return Err(Error::DType { op: OP, what: "ids", got: ids.dtype(), remedy });
    }
    let ids = ids.flatten_all()?.to_vec1::<u32>()?;
    cpu::check_ids(OP, &ids, vocab)?;
    let out = linear_op::apply(student, Op { ids, k, temperature })?;
    let entropy = out.narrow(1, k, 1)?.squeeze(1)?;
    Ok(SupportLogprobs { logprobs: out.narrow(1, 0, k)?, entropy })
}

struct Op {
    ids: Vec<u32>,
    k: usize,
    temperature: f64,
}

impl Op {
    fn ids(&self, row: usize) -> &[u32] {
        &self.ids[row * self.k..][..self.k]
    }

    fn row<T: Element>(&self, logits: &[T], row: usize, out: &mut Vec<T>) {
        let stats = dispatch(
            #[inline(always)]
            || RowStats::of(logits, self.temperature),
        );
        let log_prob =
            |&id: &u32| T::of(stats.log_prob(logits[id as usize].as_f64(), self.temperature));
        out.extend(self.ids(row).iter().map(log_prob));
        out.extend([stats.entropy, stats.max, stats.log_sum].map(T::of));
    }

    /// Replaces the logits in `out` by their gradient.
    #[inline(always)]
    fn gradient<T: Element>(&self, out: &mut [T], row: usize, saved: &[T], upstream: &[T]) {
        let per = 1.0 / self.temperature;
        let (g_ids, g_entropy) = (&upstream[..self.k], upstream[self.k].as_f64());
        let total: f64 = g_ids.iter().map(|g| g.as_f64()).sum();
        if g_entropy == 0.0 && g_ids.iter().all(|g| *g == T::ZERO) {
            return out.fill(T::ZERO);
        }
        let [entropy, max, log_sum] = [0, 1, 2].map(|i| saved[self.k + i]);
        let at = |x: f64| {
            let log_p = (x - max.as_f64()) * per - log_sum.as_f64();
            let p = log_p.exp();
            let entropy = if p == 0.0 { 0.0 } else { p * (log_p + entropy.as_f64()) };
            -per * (total * p + g_entropy * entropy)
        };
        // An id may repeat: what its entry starts from is read before any entry is written.
        let own: Vec<f64> = self.ids(row).iter().map(|&id| at(out[id as usize].as_f64())).collect();
        let inverse = T::of(per);
        let scale = T::of((-log_sum.as_f64()).exp());
        let (constant, slope) =
            (T::of(-per * (total + g_entropy * entropy.as_f64())), T::of(-per * g_entropy));
        for x in out.iter_mut() {
            let d = (*x - max) * inverse;
            let p = d.exp() * scale;
            let gradient = p * (constant + slope * (d - log_sum));
            *x = if p == T::ZERO { T::ZERO } else { gradient };
        }
        for (i, &id) in self.ids(row).iter().enumerate() {
            let pull: f64 = self
                .ids(row)
                .iter()
                .zip(g_ids)
                .filter(|(other, _)| **other == id)
                .map(|(_, g)| g.as_f64())
                .sum();
            out[id as usize] = T::of(own[i] + per * pull);
        }
    }
}

impl Op {
    /// The ids of a chunk's rows, on its device.
    fn ids_of(&self, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let rows = &chunk.rows;
        let ids = &self.ids[rows.start * self.k..rows.end * self.k];
        Ok(Tensor::from_slice(ids, (rows.len(), self.k), chunk.logits.device())?)
    }
}

impl LinearRows for Op {
    const OP: &'static str = OP;
    const ROW_DIM: usize = 0;

    fn forward<T: Gemm>(&self, logits: &ChunkedLogits<'_, T>) -> (CpuStorage, Shape) {
        let columns = self.k + EXTRA;
        let rows = logits.rows;
        let mut out: Vec<T> = Vec::with_capacity(rows * columns);
        logits.for_each(|Chunk { first, vocab, logits, .. }| {
            let width = vocab.max(1);
            let per_task = rows_per_task(width);
            let tasks = (logits.len() / width).div_ceil(per_task);
            let logits = &*logits;
            let parts = map_chunks(tasks, logits.len(), |task| {
                let rows = logits.chunks_exact(width).enumerate();
                let mut part = Vec::with_capacity(per_task * columns);
                for (i, row) in rows.skip(task * per_task).take(per_task) {
                    self.row(row, first + i, &mut part);
                }
                part
            });
            out.extend(parts.into_iter().flatten());
        });
        (T::to_cpu_storage_owned(out), Shape::from((rows, columns)))
    }

    fn backward<T: Gemm>(&self, chunk: Chunk<'_, T>, saved: &[T], upstream: &[T]) {
        let Chunk { first, vocab, logits, .. } = chunk;
        let columns = self.k + EXTRA;
        for_each_row(
            logits,
            vocab,
            #[inline(always)]
            |i, out| {
                let at = (first + i) * columns..(first + i + 1) * columns;
                self.gradient(out, first + i, &saved[at.clone()], &upstream[at]);
            },
        );
    }

    fn gpu_forward(&self, gpu: &Gpu, chunk: &gpu::linear::Chunk<'_>) -> Result<Tensor> {
        let ids = self.ids_of(chunk)?;
        gpu::support_rows::forward(gpu, chunk.logits, &ids, self.temperature)
    }

    fn gpu_backward(
        &self,
        gpu: &Gpu,
        chunk: &gpu::linear::Chunk<'_>,
        saved: &Tensor,
        upstream: &Tensor,
        out: &Tensor,
    ) -> Result<()> {
        let rows = (chunk.logits, &self.ids_of(chunk)?);
        gpu::support_rows::backward(gpu, rows, saved, upstream, out, self.temperature)
    }
}
