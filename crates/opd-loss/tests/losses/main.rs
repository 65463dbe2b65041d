//! Losses and objectives against golden vectors, central differences, and other cuts of the
//! same batch.
#![allow(clippy::unwrap_used)]

mod corrections;
mod divergences;
mod golden;
mod golden_top_k;
mod gradient;
mod invariance;
mod masking;
mod mini_llm;
mod objective;
mod objective_gradient;
mod policy_losses;
mod ranks;
mod refusal;
mod trl;

use candle_core::{DType, Device, Tensor, Var};
use opd_batch::{Ragged, Rollout, RolloutBatch, ScoredBatch};
use opd_loss::{Aggregation, LossBatch, Totals};

/// Everything about a batch that losses read.
#[derive(Clone)]
struct Batch {
    old: Vec<Vec<f32>>,
    reference: Option<Vec<Vec<f32>>>,
    advantages: Vec<Vec<f32>>,
    mask: Vec<Vec<bool>>,
    ids: Vec<Vec<u32>>,
}

impl Batch {
    fn new(old: Vec<Vec<f32>>, advantages: Vec<Vec<f32>>, mask: Vec<Vec<bool>>) -> Self {
        let ids = old.iter().map(|row| vec![1; row.len()]).collect();
        Self { old, reference: None, advantages, mask, ids }
    }

    fn build(&self, aggregation: &Aggregation) -> opd_loss::Result<LossBatch> {
        self.scored(|scored, advantages| LossBatch::new(scored, advantages, aggregation))
    }

    /// The given rows, as a rank holds them of a batch with these totals.
    fn rank(
        &self,
        rows: &[usize],
        aggregation: &Aggregation,
        totals: &Totals,
    ) -> opd_loss::Result<LossBatch> {
        fn of<T: Clone>(rows: &[usize], stream: &[Vec<T>]) -> Vec<Vec<T>> {
            rows.iter().map(|&row| stream[row].clone()).collect()
        }
        let part = Self {
            old: of(rows, &self.old),
            reference: self.reference.as_ref().map(|stream| of(rows, stream)),
            advantages: of(rows, &self.advantages),
            mask: of(rows, &self.mask),
            ids: of(rows, &self.ids),
        };
        part.scored(|scored, advantages| {
            LossBatch::with_totals(scored, advantages, aggregation, totals)
        })
    }

    fn scored(
        &self,
        build: impl FnOnce(&ScoredBatch<'_>, Ragged<f32>) -> opd_loss::Result<LossBatch>,
    ) -> opd_loss::Result<LossBatch> {
        let rollout = |i: usize| Rollout {
            prompt: vec![1],
            response: self.ids[i].clone(),
            sampler_logprobs: self.old[i].clone(),
            loss_mask: Some(self.mask[i].clone()),
            ..Rollout::default()
        };
        let rollouts = RolloutBatch::from_rollouts((0..self.old.len()).map(rollout).collect())?;
        let old = Ragged::from_rows(self.old.clone());
        let mut scored = ScoredBatch::new(&rollouts, old)?;
        if let Some(reference) = &self.reference {
            scored = scored.with_reference(Ragged::from_rows(reference.clone()))?;
        }
        build(&scored, Ragged::from_rows(self.advantages.clone()))
    }
}

/// Repeatable numbers in `-scale..scale`.
fn numbers(n: usize, seed: u64, scale: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n).map(|_| scale * (2.0 * next() - 1.0)).collect()
}

/// Rows of these lengths, of repeatable numbers in `-scale..scale`.
fn rows(lengths: &[usize], seed: u64, scale: f64) -> Vec<Vec<f32>> {
    let of = |(i, n): (usize, &usize)| {
        numbers(*n, seed + 1000 * i as u64, scale).into_iter().map(|x| x as f32).collect()
    };
    lengths.iter().enumerate().map(of).collect()
}

fn var(values: &[f64], shape: impl Into<candle_core::Shape>, dtype: DType) -> Var {
    let values = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    Var::from_tensor(&values.to_dtype(dtype).unwrap()).unwrap()
}

fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn scalar(tensor: &Tensor) -> f64 {
    host(tensor)[0]
}

fn gradient(of: &Tensor, var: &Var) -> Vec<f64> {
    host(of.backward().unwrap().get(var).unwrap())
}

/// Asserts that the gradient of `f` at `x` is what central differences say, in every entry.
fn assert_differences(
    what: &str,
    x: &[f64],
    shape: impl Into<candle_core::Shape>,
    f: impl Fn(&Var) -> Tensor,
) {
    const STEP: f64 = 1e-6;
    let shape = shape.into();
    let of = |x: &[f64]| var(x, shape.clone(), DType::F64);
    let variable = of(x);
    let analytic = gradient(&f(&variable), &variable);
    let at = |i: usize, step: f64| {
        let mut x = x.to_vec();
        x[i] += step;
        scalar(&f(&of(&x)))
    };
    for (i, analytic) in analytic.into_iter().enumerate() {
        let numeric = (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
        assert!((analytic - numeric).abs() < 1e-7, "{what}, entry {i}: {analytic} vs {numeric}");
    }
}

fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: impl Fn(f64) -> f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let off = (got - want).abs();
        assert!(off <= tolerance(*want), "{what}, entry {i}: {got}, expected {want}");
    }
}
