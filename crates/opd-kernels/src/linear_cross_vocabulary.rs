use std::cmp::Ordering;

use candle_core::{CpuStorage, DType, Device, Shape, Tensor};

use crate::{
    DivergenceOutput, Error, Head, Projection, Result,
    cpu::{
        Element,
        columns::{Columns, ColumnsView},
        gemm::Gemm,
        softmax::RowStats,
        token_rows::{for_each_row, set_rows},
    },
    divergence::check_same_dtype,
    linear_op::{self, Chunk, ChunkedLogits, Frozen, LinearRows},
    logprob::{check_temperature, token_ids},
};

const OP: &str = "linear_cross_vocabulary";

/// Distance, student entropy, log-prob of the id, NaN for the teacher's; then maximum and
/// log-sum of both, and `sum_v p_v u_v`.
const STATISTICS: usize = 9;

/// How distributions over two vocabularies are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossVocabulary {
    /// `[V]`: the teacher's id of the same text as each id of the student, if it has one. No id
    /// of the teacher may be named twice.
    pub counterparts: Vec<Option<u32>>,
    /// Weight of the teacher in the mixture of the Jensen-Shannon divergence of ids with a
    /// counterpart; 0 is its forward KL, 1 its reverse KL.
    pub beta: f64,
    /// Weight of that divergence.
    pub matched: f64,
    /// Weight of the distance of all other ids.
    pub unmatched: f64,
}

impl CrossVocabulary {
    /// No id has a counterpart: the universal logit distillation loss (ULD).
    pub fn unmatched(vocab: usize) -> Self {
        Self { counterparts: vec![None; vocab], beta: 0.5, matched: 1.0, unmatched: 1.0 }
    }

    fn check(&self, vocab: usize, their_vocab: usize) -> Result<()> {
        let n = self.counterparts.len();
        if n != vocab {
            let expected = format!("[{vocab}], one entry per id of the student");
            return Err(Error::Shape { op: OP, what: "counterparts", expected, got: vec![n] });
        }
        let mut named = vec![false; their_vocab];
        for id in self.counterparts.iter().flatten() {
            let twice = named.get_mut(*id as usize).map(|seen| std::mem::replace(seen, true));
            if twice != Some(false) {
                let what = "a counterpart";
                let expected = "an id of the teacher that no other id has";
                return Err(Error::Setting { op: OP, what, expected, got: f64::from(*id) });
            }
        }
        let weights = [("matched", self.matched), ("unmatched", self.unmatched)];
        for (what, got) in weights {
            if !(got >= 0.0 && got.is_finite()) {
                return Err(Error::Setting {
                    op: OP,
                    what,
                    expected: "finite and at least 0",
                    got,
                });
            }
        }
        match (0.0..=1.0).contains(&self.beta) {
            true => Ok(()),
            false => {
                let (what, got) = ("beta", self.beta);
                Err(Error::Setting { op: OP, what, expected: "in 0..=1", got })
            }
        }
    }
}

/// Difference of the student's distribution from that of a teacher with another vocabulary, at
/// each row, without ever writing `[T, V]` logits.
///
/// ```text
/// D_t = matched   * sum_{v with a counterpart w} (beta q_w ln(q_w / m_v) + (1 - beta) p_v ln(p_v / m_v))
///     + unmatched * sum_i |p_(i) - q_(i)|
/// m_v = beta q_w + (1 - beta) p_v;   beta = 0: q_w ln(q_w / p_v),   beta = 1: p_v ln(p_v / q_w)
/// ```
///
/// `p_(i)` and `q_(i)` are the probabilities of the ids without counterpart, sorted from the
/// greatest, the shorter list continued with zeros. The first sum is over parts of two
/// distributions and may be negative. With all ids matched and `unmatched = 0` it is
/// [`Divergence::Jsd`](crate::Divergence::Jsd).
///
/// Hidden states and head as in [`linear_divergence`](crate::linear_divergence), but for the
/// teacher's vocabulary; `ids` is of the student's. `divergence` of the output is `D`;
/// `teacher_logprobs` is NaN, since the ids are not the teacher's. Differentiable with respect to
/// the student's hidden states and head; where two sorted probabilities are equal the subgradient
/// 0 is taken.
///
/// On a GPU all of it is copied to the CPU and computed there, and the results are copied back.
///
/// Definition:
/// [`reference::linear_cross_vocabulary`](crate::reference::linear_cross_vocabulary).
///
/// Source: Boizard et al. 2024 (ULD), <https://arxiv.org/abs/2402.12030>; counterparts compared
/// directly as in GOLD, Patiño et al. 2025,
/// <https://huggingface.co/spaces/HuggingFaceH4/on-policy-distillation>.
///
/// # Errors
///
/// [`Error::Shape`], [`Error::DType`], [`Error::Device`], [`Error::TokenId`], [`Error::Setting`].
pub fn linear_cross_vocabulary(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    how: &CrossVocabulary,
    temperature: f64,
) -> Result<DivergenceOutput> {
    check_temperature(OP, temperature)?;
    if !student.hidden.device().is_cpu() {
        return on_cpu(student, teacher, ids, how, temperature);
    }
    let (rows, vocab) = student.check(OP)?;
    let (their_rows, their_vocab) = teacher.check(OP)?;
    if rows != their_rows {
        let expected = format!("[{rows}, _] hidden states, as the student's");
        let got = vec![their_rows, their_vocab];
        return Err(Error::Shape { op: OP, what: "teacher", expected, got });
    }
    check_same_dtype(OP, student.hidden, teacher.hidden)?;
    how.check(vocab, their_vocab)?;
    let ids = token_ids(OP, ids, rows, vocab)?;
    let mut theirs_alone = vec![true; their_vocab];
    for id in how.counterparts.iter().flatten() {
        theirs_alone[*id as usize] = false;
    }
    let op = Op {
        teacher: Frozen::of(teacher)?,
        ids,
        how: how.clone(),
        theirs_alone: (0..their_vocab).filter(|&id| theirs_alone[id]).collect(),
        temperature,
    };
    DivergenceOutput::from_columns(&linear_op::apply(student, op)?)
}

/// Sorted probabilities have no kernel on a GPU: everything goes to the CPU in f32, gradients come back.
fn on_cpu(
    student: Projection<'_>,
    teacher: Projection<'_>,
    ids: &Tensor,
    how: &CrossVocabulary,
    temperature: f64,
) -> Result<DivergenceOutput> {
    let device = student.hidden.device();
    let moved = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32);
    let head_of = |of: Projection<'_>| moved(&of.head.weight.to_tensor()?);
    let [hidden, head] = [moved(student.hidden)?, head_of(student)?];
    let [their_hidden, their_head] = [moved(teacher.hidden)?, head_of(teacher)?];
    let bias_of = |of: Projection<'_>| of.head.bias.map(moved).transpose();
    let [bias, their_bias] = [bias_of(student)?, bias_of(teacher)?];
    let head = Head { weight: (&head).into(), bias: bias.as_ref(), ..student.head };
    let student = Projection { hidden: &hidden, head };
    let head = Head { weight: (&their_head).into(), bias: their_bias.as_ref(), ..teacher.head };
    let teacher = Projection { hidden: &their_hidden, head };
    let ids = ids.to_device(&Device::Cpu)?;
    let out = linear_cross_vocabulary(student, teacher, &ids, how, temperature)?;
    Ok(DivergenceOutput {
        divergence: out.divergence.to_device(device)?,
        student_entropy: out.student_entropy.to_device(device)?,
        student_logprobs: out.student_logprobs.to_device(device)?,
        teacher_logprobs: out.teacher_logprobs.to_device(device)?,
    })
}

struct Op {
    teacher: Frozen,
    ids: Vec<u32>,
    how: CrossVocabulary,
    /// The teacher's ids that are nobody's counterpart.
    theirs_alone: Vec<usize>,
    temperature: f64,
}

/// Log-probs of a row, from its statistics.
#[derive(Clone, Copy)]
struct Softmax {
    max: f64,
    log_sum: f64,
    temperature: f64,
}

impl Softmax {
    fn log_prob<T: Element>(&self, x: T) -> f64 {
        (x.as_f64() - self.max) / self.temperature - self.log_sum
    }
}

/// Greatest first; NaN last.
fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Op {
    /// `D` of a row, and its derivatives `u_v` by each of the student's probabilities.
    fn compare<T: Element>(
        &self,
        (student, ours): (&[T], Softmax),
        (teacher, theirs): (&[T], Softmax),
    ) -> (f64, Vec<f64>) {
        let CrossVocabulary { counterparts, beta, matched, unmatched } = &self.how;
        let mut pull = vec![0.0; student.len()];
        let mut alone: Vec<(f64, usize)> = Vec::new();
        let mut sum = 0.0;
        for (v, counterpart) in counterparts.iter().enumerate() {
            let log_p = ours.log_prob(student[v]);
            match counterpart {
                None => alone.push((log_p.exp(), v)),
                Some(id) => {
                    let log_q = theirs.log_prob(teacher[*id as usize]);
                    let (term, by_p) = jensen_shannon(*beta, log_p, log_q);
                    sum += matched * term;
                    pull[v] = matched * by_p;
                }
            }
        }
        let mut other: Vec<f64> =
            self.theirs_alone.iter().map(|&id| theirs.log_prob(teacher[id]).exp()).collect();
        alone.sort_unstable_by(|(a, i), (b, j)| descending(*a, *b).then(i.cmp(j)));
        other.sort_unstable_by(|a, b| descending(*a, *b));
        let mut distance = other.iter().skip(alone.len()).sum::<f64>();
        for (i, (p, v)) in alone.iter().enumerate() {
            let gap = p - other.get(i).copied().unwrap_or(0.0);
            distance += gap.abs();
            let sign = if gap == 0.0 { 0.0 } else { gap.signum() };
            pull[*v] = unmatched * sign;
        }
        (sum + unmatched * distance, pull)
    }

    fn statistics<T: Element>(&self, id: usize, student: &[T], teacher: &[T]) -> [T; STATISTICS] {
        let p = RowStats::of(student, self.temperature);
        let q = RowStats::of(teacher, self.temperature);
        let saved = [p.max, p.log_sum, q.max, q.log_sum].map(T::of);
        let [ours, theirs] = self.softmaxes(saved);
        let (divergence, pull) = self.compare((student, ours), (teacher, theirs));
        let mean: f64 =
            pull.iter().zip(student).map(|(u, x)| times(ours.log_prob(*x).exp(), *u)).sum();
        let log_prob = p.log_prob(student[id].as_f64(), self.temperature);
        let poison = p.log_sum + q.log_sum;
        let divergence = if poison.is_nan() { f64::NAN } else { divergence };
        let [max_p, sum_p, max_q, sum_q] = saved;
        let [divergence, entropy, log_prob, unknown, mean] =
            [divergence, p.entropy, log_prob, f64::NAN, mean].map(T::of);
        [divergence, entropy, log_prob, unknown, max_p, sum_p, max_q, sum_q, mean]
    }

    fn softmaxes<T: Element>(&self, saved: [T; 4]) -> [Softmax; 2] {
        let [max_p, sum_p, max_q, sum_q] = saved.map(Element::as_f64);
        let temperature = self.temperature;
        [(max_p, sum_p), (max_q, sum_q)].map(|(max, log_sum)| Softmax { max, log_sum, temperature })
    }

    /// Replaces the student's logits in `out` by their gradient.
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
        let (entropy, mean) = (entropy.as_f64(), mean.as_f64());
        let [ours, theirs] = self.softmaxes([max_p, sum_p, max_q, sum_q]);
        let (_, pull) = self.compare((out, ours), (teacher, theirs));
        let per = 1.0 / self.temperature;
        let id = self.ids[row] as usize;
        for (v, (x, u)) in out.iter_mut().zip(pull).enumerate() {
            let log_p = ours.log_prob(*x);
            let p = log_p.exp();
            // 1 - p from the log-prob: no cancellation where the token is nearly certain.
            let of_id = if v == id { -log_prob.as_f64().exp_m1() } else { -p };
            let rest = times(p, g_value * (u - mean) - g_entropy * (log_p + entropy));
            *x = T::of(per * (rest + g_log_prob * of_id));
        }
    }
}

/// `p x`, 0 where `p` is 0, whatever `x` is.
fn times(p: f64, x: f64) -> f64 {
    if p == 0.0 { 0.0 } else { p * x }
}

/// A term of the generalised Jensen-Shannon divergence, and its derivative by `p`.
fn jensen_shannon(beta: f64, log_p: f64, log_q: f64) -> (f64, f64) {
    let (p, q) = (log_p.exp(), log_q.exp());
    if beta == 0.0 {
        return (times(q, log_q - log_p), -(log_q - log_p).exp());
    }
    if beta == 1.0 {
        return (times(p, log_p - log_q), log_p - log_q + 1.0);
    }
    let log_m = (beta * q + (1.0 - beta) * p).ln();
    let term = beta * times(q, log_q - log_m) + (1.0 - beta) * times(p, log_p - log_m);
    (term, (1.0 - beta) * (log_p - log_m))
}

impl LinearRows for Op {
    const OP: &'static str = OP;
    const ON_GPU: bool = false;

    fn teacher(&self) -> Option<Projection<'_>> {
        Some(self.teacher.projection())
    }

    fn forward<T: Gemm>(&self, logits: &ChunkedLogits<'_, T>) -> (CpuStorage, Shape) {
        let mut out = Columns::<T, STATISTICS>::new(logits.rows);
        logits.for_each(|Chunk { first, vocab, logits, theirs }| {
            let their_vocab = theirs.len() / (logits.len() / vocab.max(1)).max(1);
            set_rows(
                &mut out,
                first,
                (logits.len(), vocab),
                #[inline(always)]
                |i| {
                    let id = self.ids[first + i] as usize;
                    let ours = &logits[i * vocab..][..vocab];
                    self.statistics(id, ours, &theirs[i * their_vocab..][..their_vocab])
                },
            );
        });
        out.into_storage()
    }

    fn backward<T: Gemm>(&self, chunk: Chunk<'_, T>, saved: &[T], upstream: &[T]) {
        let Chunk { first, vocab, logits, theirs } = chunk;
        let their_vocab = theirs.len() / (logits.len() / vocab.max(1)).max(1);
        let saved = ColumnsView::<T, STATISTICS>::new(saved);
        let upstream = ColumnsView::<T, STATISTICS>::new(upstream);
        for_each_row(
            logits,
            vocab,
            #[inline(always)]
            |i, out| {
                let (row, teacher) = (first + i, &theirs[i * their_vocab..][..their_vocab]);
                self.gradient(out, teacher, row, saved.row(row), upstream.row(row));
            },
        );
    }
}
