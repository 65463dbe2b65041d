use candle_core::{DType, Device, Tensor, Var};
use opd_testkit::{numbers, tensor};
use proptest::prelude::*;

use super::{DTYPES, agree, both, gradient, host, ids, matrix, unit, weighted};
use crate::{
    Divergence, Error, Head, Products, Projection, RowQuery, Softmax, TokenOptions, TokenScores,
    linear_divergence, linear_row_logprobs, linear_row_loss, linear_support_logprobs,
    linear_token_scores, row_loss, token_scores,
};

const CAPS: [Option<f64>; 2] = [None, Some(12.0)];

/// The floating parts, then the ids.
fn parts(scores: &TokenScores) -> (Vec<Tensor>, Vec<Tensor>) {
    let mut parts = vec![scores.logprobs.clone(), scores.lse.clone()];
    parts.extend(scores.entropy.clone());
    parts.extend(scores.named.clone());
    parts.extend(scores.top.clone().map(|top| top.logprobs));
    let ids = scores.argmax.clone().into_iter().chain(scores.top.clone().map(|top| top.ids));
    (parts, ids.collect())
}

fn with_gradients(scores: &TokenScores, of: &[&Var]) -> Vec<Tensor> {
    let (mut all, ids) = parts(scores);
    let terms: Vec<Tensor> =
        all.iter().zip(40..).map(|(part, seed)| weighted(part, seed)).collect();
    let total = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap();
    if scores.logprobs.elem_count() > 0 {
        all.extend(of.iter().map(|var| gradient(&total, var.as_tensor())));
    }
    all.into_iter().chain(ids).collect()
}

fn named(rows: usize, n: usize, width: usize) -> Tensor {
    ids(rows * n, width, 9).reshape((rows, n)).unwrap()
}

#[test]
fn all_that_can_be_asked_of_rows_of_all_widths_and_dtypes() {
    for (rows, width) in [(0, 7), (3, 1), (5, 33), (2, 1021), (1, 9000)] {
        for dtype in DTYPES {
            for (soft_cap, scale) in [(None, 5.0), (Some(12.0), 5.0), (Some(2.0), 30.0)] {
                let logits = matrix(rows, width, 7 * width as u64, scale, dtype);
                let (ids, named) = (ids(rows, width, 3), named(rows, 3, width));
                let softmax = Softmax { temperature: 0.7, soft_cap };
                let plain = TokenOptions { softmax, ..TokenOptions::default() };
                let top_k = 6.min(width);
                for options in [
                    plain,
                    TokenOptions { argmax: true, ..plain },
                    TokenOptions {
                        entropy: true,
                        argmax: true,
                        top_k,
                        named: Some(&named),
                        ..plain
                    },
                ] {
                    agree(2.0 * unit(dtype), || {
                        with_gradients(&token_scores(&logits, &ids, &options).unwrap(), &[&logits])
                    });
                }
            }
        }
    }
}

/// Ids that one thread sees more of than it keeps: the row is read again.
#[test]
fn likeliest_ids_may_lie_anywhere() {
    for width in [70, 3000] {
        for stride in [1, 64, 512] {
            let mut values = vec![0.0; width];
            for (i, at) in (0..width).step_by(stride).enumerate() {
                values[at] = (i * 7 % 23) as f64;
            }
            for dtype in [DType::F32, DType::BF16] {
                let logits = tensor(&values, (1, width), dtype);
                let first = Tensor::zeros(1, DType::U32, &Device::Cpu).unwrap();
                let top_k = 40.min(width);
                let options = TokenOptions { argmax: true, top_k, ..TokenOptions::default() };
                agree(1e-5, || parts(&token_scores(&logits, &first, &options).unwrap()).1);
            }
        }
    }
}

#[test]
fn ties_infinite_nan_and_certain_rows() {
    const INFINITY: f64 = f64::INFINITY;
    let rows: [[f64; 5]; 8] = [
        [-INFINITY, 1.0, 2.0, -INFINITY, 0.0],
        [-INFINITY; 5],
        [1.0, f64::NAN, 2.0, 3.0, 4.0],
        [f64::NAN; 5],
        [0.0, INFINITY, 1.0, 2.0, 3.0],
        [1e4, 1e4, -1e4, 0.0, -0.0],
        [40.0, 0.0, 0.0, 0.0, 0.0],
        [-1e4, -1e4 + 1.0, -1e4 - 3.0, -INFINITY, -INFINITY],
    ];
    let named =
        Tensor::from_vec((0..5u32).cycle().take(40).collect(), (8, 5), &Device::Cpu).unwrap();
    for dtype in [DType::F64, DType::F32] {
        let logits = Var::from_tensor(&tensor(rows.as_flattened(), (8, 5), dtype)).unwrap();
        let targets = ids(8, 5, 1);
        for soft_cap in CAPS {
            let softmax = Softmax { temperature: 1.0, soft_cap };
            let options = TokenOptions {
                softmax,
                entropy: true,
                argmax: true,
                top_k: 5,
                named: Some(&named),
            };
            agree(2e-6, || {
                with_gradients(&token_scores(&logits, &targets, &options).unwrap(), &[&logits])
            });
        }
    }
}

/// Scores without entropy, and log-probs of a row beside named ids, have the bits of the others.
#[test]
fn what_is_asked_beside_changes_no_bit() {
    let logits = matrix(3, 3001, 1, 20.0, DType::F32);
    let (targets, named) = (ids(3, 3001, 2), named(3, 2, 3001));
    for soft_cap in CAPS {
        let few = TokenOptions {
            softmax: Softmax { temperature: 0.7, soft_cap },
            ..TokenOptions::default()
        };
        let all =
            TokenOptions { entropy: true, argmax: true, top_k: 3, named: Some(&named), ..few };
        let run = |options| {
            both(|| {
                let scores = token_scores(&logits, &targets, &options).unwrap();
                vec![scores.logprobs, scores.lse]
            })
        };
        let Some(([_, few], [_, all])) = run(few).zip(run(all)) else { return };
        assert_eq!(few, all);
    }
}

struct Model {
    hidden: Var,
    weight: Var,
    bias: Var,
}

impl Model {
    fn new(rows: usize, width: usize, vocab: usize, seed: u64, dtype: DType) -> Self {
        let bias = tensor(&numbers(vocab, seed + 2, 1.5), vocab, dtype);
        Self {
            hidden: matrix(rows, width, seed, 1.5, dtype),
            weight: matrix(vocab, width, seed + 1, 1.5, dtype),
            bias: Var::from_tensor(&bias).unwrap(),
        }
    }

    fn head(&self) -> Head<'_> {
        Head::new(&self.weight, Products::Full).with_bias(&self.bias)
    }

    fn all(&self) -> [&Var; 3] {
        [&self.hidden, &self.weight, &self.bias]
    }
}

/// More than one chunk of rows.
const ROWS: usize = 150;

#[test]
fn heads_with_a_bias_agree() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 4e-5)] {
        let model = Model::new(ROWS, 5, 37, 1, dtype);
        let (targets, named) = (ids(ROWS, 37, 2), named(ROWS, 3, 37));
        for soft_cap in CAPS {
            let softmax = Softmax { temperature: 0.8, soft_cap };
            let options = TokenOptions {
                softmax,
                entropy: true,
                argmax: true,
                top_k: 4,
                named: Some(&named),
            };
            agree(tolerance, || {
                let scores =
                    linear_token_scores(&model.hidden, model.head(), &targets, &options).unwrap();
                with_gradients(&scores, &model.all())
            });
            agree(tolerance, || {
                let loss =
                    linear_row_loss(&model.hidden, model.head(), &targets, softmax, |_, row| {
                        (&row.logprobs + &row.entropy)?.sum_all()
                    });
                let loss = loss.unwrap();
                let ready = [loss.hidden_gradient, loss.head_gradient, loss.bias_gradient];
                ready.into_iter().flatten().chain([loss.loss]).collect()
            });
            agree(tolerance, || {
                let logits = matrix(ROWS, 37, 4, 9.0, dtype).copy().unwrap();
                let loss =
                    row_loss(logits, &targets, softmax, |row| row.logprobs.sum_all()).unwrap();
                vec![loss.loss, loss.gradient]
            });
        }
        let teacher = Model::new(ROWS, 3, 37, 11, dtype);
        agree(tolerance, || {
            let student = Projection::new(&model.hidden, model.head());
            let theirs = Projection::new(&teacher.hidden, teacher.head());
            let kind = Divergence::ReverseKl;
            let out = linear_divergence(student, theirs, &targets, kind, 1.2).unwrap();
            let total = weighted(&out.divergence, 3);
            let gradients = model.all().map(|var| gradient(&total, var.as_tensor()));
            gradients.into_iter().chain([out.divergence]).collect()
        });
        agree(tolerance, || {
            let out = linear_support_logprobs(&model.hidden, model.head(), &named, 0.9).unwrap();
            vec![gradient(&weighted(&out.logprobs, 3), &model.bias), out.logprobs, out.entropy]
        });
        agree(tolerance, || {
            let query = RowQuery { temperature: 0.7, ids: &[3, 36], top: 0, rank: false };
            let answers = linear_row_logprobs(&model.hidden, model.head(), &[query; ROWS]).unwrap();
            let flat: Vec<f32> = answers.into_iter().flat_map(|answer| answer.logprobs).collect();
            let n = flat.len();
            vec![Tensor::from_vec(flat, n, &Device::Cpu).unwrap()]
        });
    }
}

#[test]
fn halves_have_logits_in_f32() {
    for (dtype, tolerance) in [(DType::BF16, 3e-2), (DType::F16, 4e-3)] {
        let wide = Model::new(70, 8, 50, 1, dtype);
        let (targets, named) = (ids(70, 50, 2), named(70, 3, 50));
        let softmax = Softmax { temperature: 0.8, soft_cap: Some(12.0) };
        let options =
            TokenOptions { softmax, entropy: true, named: Some(&named), ..TokenOptions::default() };
        // The CPU's kernels get the same values in f32; the GPU's products add up in f32.
        agree(tolerance, || {
            let dtype = if host::current().is_some() { dtype } else { DType::F32 };
            let to = |var: &Var| Var::from_tensor(&var.to_dtype(dtype).unwrap()).unwrap();
            let [hidden, weight, bias] = wide.all().map(to);
            let model = Model { hidden, weight, bias };
            let scores =
                linear_token_scores(&model.hidden, model.head(), &targets, &options).unwrap();
            with_gradients(&scores, &model.all())
        });
    }
}

#[test]
fn no_rows_and_what_is_refused() {
    if host::library().is_err() {
        return;
    }
    let logits = matrix(0, 5, 1, 1.0, DType::F32);
    let none = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
    let options = TokenOptions { argmax: true, top_k: 3, ..TokenOptions::default() };
    host::run(false, || {
        let scores = token_scores(&logits, &none, &options).unwrap();
        assert_eq!(scores.top.unwrap().ids.dims(), [0, 3]);
        let model = Model::new(0, 4, 9, 1, DType::F32);
        let scores = linear_token_scores(&model.hidden, model.head(), &none, &options).unwrap();
        assert_eq!(scores.argmax.unwrap().dims(), [0]);
        let logits = matrix(2, 2000, 1, 1.0, DType::F32);
        let targets = ids(2, 2000, 1);
        let outside = Tensor::new(&[[0u32, 1], [2, 2000]], &Device::Cpu).unwrap();
        let options = TokenOptions { named: Some(&outside), ..TokenOptions::default() };
        let error = token_scores(&logits, &targets, &options).unwrap_err();
        assert!(matches!(error, Error::TokenId { position: 3, id: 2000, .. }), "{error}");
        let options = TokenOptions { top_k: 1025, ..TokenOptions::default() };
        let error = token_scores(&logits, &targets, &options).unwrap_err().to_string();
        assert!(error.contains("at most 1024 on a GPU"), "{error}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        rows in 1usize..7, width in 1usize..700, seed in 0u64..999, scale in 0.0f64..30.0,
        temperature in 0.3f64..3.0, cap in prop::option::of(1.0f64..30.0), dtype in 0usize..4,
        skip in 0usize..3, entropy: bool, argmax: bool, top in 0usize..9, n in 0usize..4,
    ) {
        let dtype = DTYPES[dtype];
        let all = matrix(rows + skip, width, seed, scale, dtype);
        let logits = Var::from_tensor(&all.narrow(0, skip, rows).unwrap()).unwrap();
        let (ids, named) = (ids(rows, width, seed), named(rows, n, width));
        let softmax = Softmax { temperature, soft_cap: cap };
        let top_k = top.min(width);
        let options = TokenOptions { softmax, entropy, argmax, top_k, named: Some(&named) };
        agree(2.0 * unit(dtype), || {
            with_gradients(&token_scores(&logits, &ids, &options).unwrap(), &[&logits])
        });
    }
}
