//! Heads that are read a part of the vocabulary at a time, with many rows: the bits of whole rows.

use candle_core::{DType, Device, Tensor, Var};
use half::{bf16, f16};
use opd_kernels::{
    Head, Products, RowLoss, Softmax, TokenOptions, linear, linear_row_loss, linear_token_scores,
    token_scores,
};

use super::{
    gradients, host, ids, matrix, numbers,
    scores::{id_matrix, parts, total},
    weighted,
};

const CAP: Softmax = Softmax { temperature: 0.8, soft_cap: Some(3.0) };
const PLAIN: Softmax = Softmax { temperature: 0.8, soft_cap: None };

struct Case {
    rows: usize,
    vocab: usize,
    hidden: Var,
    weight: Var,
    bias: Tensor,
    targets: Vec<u32>,
}

impl Case {
    fn new([rows, width, vocab]: [usize; 3], dtype: DType) -> Self {
        let bias = Tensor::new(numbers(vocab, 3, 0.5), &Device::Cpu).unwrap();
        Self {
            rows,
            vocab,
            hidden: matrix(&numbers(rows * width, 1, 1.0), rows, width, dtype),
            weight: matrix(&numbers(vocab * width, 2, 1.0), vocab, width, dtype),
            bias: bias.to_dtype(dtype).unwrap(),
            targets: (0..rows).map(|i| (i * 911 % vocab) as u32).collect(),
        }
    }

    /// The values of another dtype, which hold those of this one.
    fn widened(&self) -> Self {
        let wide = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let wide_var = |var: &Var| Var::from_tensor(&wide(var)).unwrap();
        Self {
            hidden: wide_var(&self.hidden),
            weight: wide_var(&self.weight),
            bias: wide(&self.bias),
            targets: self.targets.clone(),
            ..*self
        }
    }

    fn head(&self) -> Head<'_> {
        Head { bias: Some(&self.bias), ..Head::new(&self.weight, Products::Full) }
    }

    fn row_loss(&self, head: Head<'_>, softmax: Softmax) -> RowLoss {
        let weights = weights(self.rows);
        let loss =
            linear_row_loss(&self.hidden, head, &ids(&self.targets), softmax, |rows, got| {
                let entropy = scaled(&weights);
                let loss = weighted(&got.logprobs, &weights[rows.clone()])?
                    + weighted(&got.entropy, &entropy[rows])?;
                loss?.to_dtype(got.logprobs.dtype())
            });
        loss.unwrap()
    }

    fn general(&self, softmax: Softmax) -> Vec<Vec<f64>> {
        let options = TokenOptions { softmax, entropy: true, ..Default::default() };
        let scores =
            linear_token_scores(&self.hidden, self.head(), &ids(&self.targets), &options).unwrap();
        let weights = weights(self.rows);
        let entropy = weighted(&scores.entropy.unwrap(), &scaled(&weights)).unwrap();
        let loss = (weighted(&scores.logprobs, &weights).unwrap() + entropy).unwrap();
        gradients(&loss, &[&self.hidden, &self.weight])
    }
}

/// Every seventh row has no gradient.
fn weights(rows: usize) -> Vec<f64> {
    let weights = numbers(rows, 5, 1.0).into_iter().enumerate();
    weights.map(|(i, weight)| if i % 7 == 3 { 0.0 } else { weight }).collect()
}

/// Weights of the entropies.
fn scaled(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|weight| 0.1 * weight * weight).collect()
}

#[test]
fn scores_are_those_of_the_logits() {
    // Parts of one group of rows, and of two.
    for (dims, dtype) in [
        ([130, 8, 9_001], DType::F32),
        ([130, 8, 9_001], DType::F64),
        ([2_100, 4, 3_001], DType::F32),
    ] {
        let case = Case::new(dims, dtype);
        let named: Vec<u32> = (0..2 * case.rows).map(|i| (i * 577 % case.vocab) as u32).collect();
        let named = id_matrix(&named, case.rows, 2);
        for (softmax, entropy) in [(PLAIN, false), (PLAIN, true), (CAP, true)] {
            let options =
                TokenOptions { softmax, entropy, argmax: true, top_k: 8, named: Some(&named) };
            let targets = ids(&case.targets);
            let logits = linear(&case.hidden, &case.weight).unwrap();
            let logits = logits.broadcast_add(&case.bias).unwrap();
            let want = token_scores(&logits, &targets, &options).unwrap();
            let got = linear_token_scores(&case.hidden, case.head(), &targets, &options).unwrap();
            for ((name, got), (_, want)) in parts(&got).iter().zip(parts(&want)) {
                assert!(host(got) == host(&want), "{dims:?} {dtype:?} {name}: other bits");
            }
            let top = |scores: &opd_kernels::TokenScores| {
                scores.top.as_ref().unwrap().ids.to_vec2::<u32>().unwrap()
            };
            assert_eq!(top(&got), top(&want));
            let of = [&case.hidden, &case.weight];
            let [got, want] = [got, want].map(|scores| gradients(&total(&scores, 9), &of));
            assert!(got == want, "{dims:?} {dtype:?}: other bits of gradients");
        }
    }
}

#[test]
fn rows_of_which_much_is_asked_come_whole() {
    let case = Case::new([130, 8, 9_001], DType::F32);
    let targets = ids(&case.targets);
    let score = |top_k| {
        let options = TokenOptions { softmax: PLAIN, top_k, ..Default::default() };
        let scores = linear_token_scores(&case.hidden, case.head(), &targets, &options).unwrap();
        (host(&scores.logprobs), scores.top.unwrap())
    };
    let ((few_logprobs, few), (all_logprobs, all)) = (score(8), score(case.vocab));
    assert_eq!(few_logprobs, all_logprobs);
    let first = |tensor: &Tensor| host(&tensor.narrow(1, 0, 8).unwrap());
    assert_eq!(host(&few.logprobs), first(&all.logprobs));
    assert_eq!(host(&few.ids), first(&all.ids));
}

/// More rows than a chunk has, and no more than the head is wide: their logits are held in its gradient.
const HELD: [usize; 3] = [66, 66, 80_000];

#[test]
fn held_rows_are_one_chunk() {
    let case = Case::new(HELD, DType::F32);
    let mut chunks = Vec::new();
    let loss =
        linear_row_loss(&case.hidden, case.head(), &ids(&case.targets), PLAIN, |rows, got| {
            chunks.push(rows.len());
            got.logprobs.sum_all()
        });
    loss.unwrap();
    assert_eq!(chunks, [case.rows]);
}

#[test]
fn a_loss_of_held_rows_has_the_bits_of_the_general_form() {
    for (dtype, softmax) in [(DType::F32, CAP), (DType::F64, PLAIN)] {
        let case = Case::new(HELD, dtype);
        let got = case.row_loss(case.head(), softmax);
        let got = gradients(&got.loss, &[&case.hidden, &case.weight]);
        assert!(got == case.general(softmax), "{dtype:?}: other bits");
    }
}

#[test]
fn narrow_values_give_the_rounded_gradients_of_wide_ones() {
    fn check(dtype: DType, round: impl Fn(f64) -> f64) {
        // Held rows; rows of two groups.
        for dims in [HELD, [300, 3_000, 1_025]] {
            let case = Case::new(dims, dtype);
            let wide = case.widened();
            let [got, want] = [&case, &wide].map(|case| case.row_loss(case.head(), PLAIN));
            assert_eq!(host(&got.tokens.logprobs), host(&want.tokens.logprobs));
            let pairs = [
                (got.hidden_gradient.unwrap(), want.hidden_gradient.unwrap()),
                (got.head_gradient.unwrap(), want.head_gradient.unwrap()),
            ];
            for (got, want) in pairs {
                assert_eq!(got.dtype(), dtype);
                let want: Vec<f64> = host(&want).into_iter().map(&round).collect();
                assert!(host(&got) == want, "{dims:?} {dtype:?}: other bits");
            }
            let want = wide.general(PLAIN);
            for (got, want) in case.general(PLAIN).into_iter().zip(want) {
                let want: Vec<f64> = want.into_iter().map(&round).collect();
                assert!(got == want, "{dims:?} {dtype:?}: other bits in general");
            }
        }
    }
    check(DType::BF16, |x| bf16::from_f32(x as f32).to_f64());
    check(DType::F16, |x| f16::from_f32(x as f32).to_f64());
}

#[test]
fn a_frozen_head_or_frozen_states_change_no_bit_of_the_other() {
    let case = Case::new(HELD, DType::F32);
    let whole = case.row_loss(case.head(), PLAIN);
    let frozen = case.weight.as_detached_tensor();
    let head = Head { bias: Some(&case.bias), ..Head::new(&frozen, Products::Full) };
    let of_hidden = case.row_loss(head, PLAIN);
    assert!(of_hidden.head_gradient.is_none());
    let hidden = [of_hidden.hidden_gradient.unwrap(), whole.hidden_gradient.unwrap()];
    assert!(host(&hidden[0]) == host(&hidden[1]), "other bits of hidden states");
    let sum = |hidden: &Tensor| {
        let ids = ids(&case.targets);
        linear_row_loss(hidden, case.head(), &ids, PLAIN, |_, got| got.logprobs.sum_all()).unwrap()
    };
    let (of_head, of_both) = (sum(&case.hidden.as_detached_tensor()), sum(&case.hidden));
    assert!(of_head.hidden_gradient.is_none());
    let head = [of_head.head_gradient.unwrap(), of_both.head_gradient.unwrap()].map(|g| host(&g));
    assert!(head[0] == head[1], "other bits of the head");
}

#[test]
fn threads_change_no_bit_of_held_rows() {
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let case = Case::new(HELD, DType::F32);
            let got = case.row_loss(case.head(), PLAIN);
            [got.loss, got.hidden_gradient.unwrap(), got.head_gradient.unwrap()].map(|t| host(&t))
        })
    };
    let one = on(1);
    for threads in [2, 4] {
        assert!(one == on(threads), "other bits on {threads} threads");
    }
}
