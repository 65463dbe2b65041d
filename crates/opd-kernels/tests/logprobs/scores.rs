//! Token scores against PyTorch's, and against their definition over shapes, layouts and dtypes.

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    Head, Products, Softmax, TokenOptions, TokenScores, linear_token_logprobs, linear_token_scores,
    reference, token_logprobs, token_scores,
};
use proptest::prelude::*;
use serde_json::Value;

use super::{assert_close, gradients, host, ids, matrix, numbers, weighted};

const DATA: &str = include_str!("../data/scores.json");

fn values(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(all) => all.iter().flat_map(values).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

/// `[T, n]` ids.
pub(super) fn id_matrix(values: &[u32], rows: usize, n: usize) -> Tensor {
    Tensor::from_slice(values, (rows, n), &Device::Cpu).unwrap()
}

/// The floating parts, named.
pub(super) fn parts(scores: &TokenScores) -> Vec<(&'static str, Tensor)> {
    let mut parts = vec![("logprobs", scores.logprobs.clone()), ("lse", scores.lse.clone())];
    parts.extend(scores.entropy.clone().map(|part| ("entropy", part)));
    parts.extend(scores.named.clone().map(|part| ("named", part)));
    parts.extend(scores.top.clone().map(|top| ("top_logprobs", top.logprobs)));
    parts
}

/// Every part with weights of its own, so that their gradients cannot hide each other.
pub(super) fn total(scores: &TokenScores, seed: u64) -> Tensor {
    let weights = |i: usize, n| numbers(n, seed + i as u64, 1.0);
    let terms = parts(scores).into_iter().enumerate().map(|(i, (_, part))| {
        let flat = part.flatten_all().unwrap();
        weighted(&flat, &weights(i, flat.elem_count())).unwrap()
    });
    Tensor::stack(&terms.collect::<Vec<_>>(), 0).unwrap().sum_all().unwrap()
}

struct Golden {
    name: String,
    case: Value,
}

impl Golden {
    fn all() -> impl Iterator<Item = Self> {
        let data: Value = serde_json::from_str(DATA).unwrap();
        let cases = data["cases"].as_array().unwrap().clone();
        cases.into_iter().enumerate().map(|(i, case)| Self { name: format!("case {i}"), case })
    }

    fn size(&self, name: &str) -> usize {
        self.case[name].as_u64().unwrap() as usize
    }

    fn matrix(&self, name: &str, dims: [&str; 2], dtype: DType) -> Var {
        let [rows, cols] = dims.map(|name| self.size(name));
        matrix(&values(&self.case[name]), rows, cols, dtype)
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        values(&self.case[name]).into_iter().map(|id| id as u32).collect()
    }

    fn check(
        &self,
        dtype: DType,
        run: impl Fn(&Tensor, &TokenOptions<'_>) -> (TokenScores, Gradient),
    ) {
        let (rows, top) = (self.size("T"), self.ids("top_ids"));
        let named = self.ids("named_ids");
        let named = id_matrix(&named, rows, named.len() / rows);
        let softmax = Softmax {
            temperature: self.case["temperature"].as_f64().unwrap(),
            soft_cap: self.case["soft_cap"].as_f64(),
        };
        let top_k = top.len() / rows;
        let named = Some(&named);
        let options = TokenOptions { softmax, entropy: true, argmax: true, top_k, named };
        let (scores, gradient) = run(&ids(&self.ids("ids")), &options);
        let name = |what: &str| format!("{}, {what}, {dtype:?}", self.name);
        let tolerance = if dtype == DType::F64 { 1e-12 } else { 6e-6 };
        for (what, part) in parts(&scores) {
            let want = values(&self.case[what]);
            assert_close(&name(what), &host(&part), &want, |i| tolerance * want[i].abs().max(1.0));
        }
        assert_eq!(host(&scores.argmax.clone().unwrap()), values(&self.case["argmax"]));
        assert_eq!(host(&scores.top.clone().unwrap().ids), values(&self.case["top_ids"]));
        let terms = parts(&scores).into_iter().map(|(what, part)| {
            let weights = values(&self.case["weights"][what]);
            weighted(&part.flatten_all().unwrap(), &weights).unwrap()
        });
        let sum = Tensor::stack(&terms.collect::<Vec<_>>(), 0).unwrap().sum_all().unwrap();
        for (what, var) in gradient {
            let got = gradients(&sum, &[&var]).remove(0);
            let want = values(&self.case[what]);
            let largest = want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
            assert_close(&name(what), &got, &want, |_| 3.0 * tolerance * largest);
        }
    }
}

type Gradient = Vec<(&'static str, Var)>;
type Score = fn(&Tensor, &Tensor, &TokenOptions<'_>) -> opd_kernels::Result<TokenScores>;
type LinearScore = for<'a> fn(
    &'a Tensor,
    Head<'a>,
    &Tensor,
    &TokenOptions<'_>,
) -> opd_kernels::Result<TokenScores>;

fn fused(
    hidden: &Tensor,
    head: Head<'_>,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> opd_kernels::Result<TokenScores> {
    linear_token_scores(hidden, head, ids, options)
}

fn plain(
    hidden: &Tensor,
    head: Head<'_>,
    ids: &Tensor,
    options: &TokenOptions<'_>,
) -> opd_kernels::Result<TokenScores> {
    reference::linear_token_scores(hidden, head, ids, options)
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let forms: [(Score, LinearScore, &[DType]); 2] = [
        (token_scores, fused, &[DType::F64, DType::F32]),
        (reference::token_scores, plain, &[DType::F64]),
    ];
    for golden in Golden::all() {
        for (score, linear, dtypes) in forms {
            for &dtype in dtypes {
                golden.check(dtype, |ids, options| {
                    let logits = golden.matrix("logits", ["T", "V"], dtype);
                    let scores = score(&logits, ids, options).unwrap();
                    (scores, vec![("grad_logits", logits)])
                });
                golden.check(dtype, |ids, options| {
                    let hidden = golden.matrix("hidden", ["T", "H"], dtype);
                    let weight = golden.matrix("head", ["V", "H"], dtype);
                    let bias = golden.case["bias"].is_array().then(|| {
                        let bias =
                            matrix(&values(&golden.case["bias"]), 1, golden.size("V"), dtype);
                        Var::from_tensor(&bias.squeeze(0).unwrap()).unwrap()
                    });
                    let head = Head::new(&weight, Products::Full);
                    let head = bias.as_ref().map_or(head, |bias| head.with_bias(bias));
                    let scores = linear(&hidden, head, ids, options).unwrap();
                    let mut gradient =
                        vec![("grad_hidden", hidden.clone()), ("grad_head", weight.clone())];
                    gradient.extend(bias.map(|bias| ("grad_bias", bias)));
                    (scores, gradient)
                });
            }
        }
    }
}

/// The same values in another layout: as they are, transposed, a part of more columns, later rows.
pub(super) fn laid_out(values: &Tensor, layout: usize) -> Tensor {
    let (rows, cols) = values.dims2().unwrap();
    let around = |dim: usize, n: usize| {
        let mut dims = [rows, cols];
        dims[dim] = n;
        Tensor::zeros(&dims, values.dtype(), &Device::Cpu).unwrap()
    };
    let laid = match layout % 4 {
        0 => values.clone(),
        1 => values.t().unwrap().contiguous().unwrap().t().unwrap(),
        2 => Tensor::cat(&[&around(1, 2), values, &around(1, 1)], 1)
            .unwrap()
            .narrow(1, 2, cols)
            .unwrap(),
        _ => Tensor::cat(&[&around(0, 3), values], 0).unwrap().narrow(0, 3, rows).unwrap(),
    };
    assert_eq!(host(&laid), host(values));
    laid
}

fn some_ids(n: usize, vocab: usize, seed: u64) -> Vec<u32> {
    let id = |x: f64| (((x + 0.5) * vocab as f64) as u32).min(vocab as u32 - 1);
    numbers(n, seed, 0.5).into_iter().map(id).collect()
}

/// How far from f64 values and gradients of a dtype may be, relative to the larger of 1 and the largest.
fn tolerances(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F64 => (1e-11, 1e-11),
        DType::F32 => (8e-6, 2e-5),
        // Values are in f32; gradients come back in the logits' dtype.
        DType::F16 => (8e-6, 1e-3),
        _ => (8e-6, 8e-3),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn scores_of_logits_are_their_definition(
        rows in 1usize..20, vocab in prop_oneof![4 => 1usize..80, 1 => 1000usize..2100],
        dtype in prop_oneof![Just(DType::F64), Just(DType::F32), Just(DType::BF16), Just(DType::F16)],
        layout in 0usize..4, named_layout in 0usize..4, temperature in 0.3..3.0f64,
        cap in prop::option::of(0.5..40.0f64), entropy: bool, argmax: bool, top in 0usize..7,
        named in prop::option::of(0usize..5), seed in 0u64..1000,
    ) {
        let softmax = Softmax { temperature, soft_cap: cap };
        let values = numbers(rows * vocab, seed, 12.0);
        // What the dtype holds, in f64 for the definition.
        let var = Var::from_tensor(&laid_out(&matrix(&values, rows, vocab, dtype), layout)).unwrap();
        let wide = matrix(&host(&var), rows, vocab, DType::F64);
        let ids = ids(&some_ids(rows, vocab, seed + 1));
        let chosen = named.map(|n| {
            laid_out(&id_matrix(&some_ids(rows * n, vocab, seed + 2), rows, n), named_layout)
        });
        let options = TokenOptions {
            softmax, entropy, argmax, top_k: top.min(vocab), named: chosen.as_ref(),
        };
        let laid = laid_out(&var, layout);
        let got = token_scores(&laid, &ids, &options).unwrap();
        let want = reference::token_scores(&wide, &ids, &options).unwrap();
        let (near, near_gradient) = tolerances(dtype);
        compare(&got, &want, near);
        let got = gradients(&total(&got, seed), &[&var]).remove(0);
        let want = gradients(&total(&want, seed), &[&wide]).remove(0);
        let largest = want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
        assert_close("gradient", &got, &want, |_| near_gradient * largest);
    }

    #[test]
    fn scores_of_hidden_states_are_their_definition(
        rows in 1usize..150, width in 1usize..9, vocab in 1usize..70, layouts in (0usize..4, 0usize..4),
        double: bool, biased: bool, temperature in 0.3..3.0f64, cap in prop::option::of(0.5..40.0f64),
        entropy: bool, argmax: bool, top in 0usize..7, n in 0usize..5, seed in 0u64..1000,
    ) {
        let dtype = if double { DType::F64 } else { DType::F32 };
        let softmax = Softmax { temperature, soft_cap: cap };
        let make = |dtype| {
            let hidden = matrix(&numbers(rows * width, seed, 1.5), rows, width, DType::F32);
            let weight = matrix(&numbers(vocab * width, seed + 1, 1.0), vocab, width, DType::F32);
            let bias = matrix(&numbers(vocab, seed + 2, 1.0), 1, vocab, DType::F32);
            [hidden, weight, bias].map(|var| Var::from_tensor(&var.to_dtype(dtype).unwrap()).unwrap())
        };
        let named = id_matrix(&some_ids(rows * n, vocab, seed + 3), rows, n);
        let ids = ids(&some_ids(rows, vocab, seed + 4));
        let top_k = top.min(vocab);
        let options = TokenOptions { softmax, entropy, argmax, top_k, named: Some(&named) };
        let run = |[hidden, weight, bias]: [Var; 3], (a, b), linear: LinearScore| {
            let (states, matrix) = (laid_out(&hidden, a), laid_out(&weight, b));
            let offset = bias.squeeze(0).unwrap();
            let head = Head::new(&matrix, Products::Full);
            let head = if biased { head.with_bias(&offset) } else { head };
            let scores = linear(&states, head, &ids, &options).unwrap();
            let store = total(&scores, seed).backward().unwrap();
            let of = |var: &Var| host(store.get(var.as_tensor()).unwrap());
            let mut gradients = vec![of(&hidden), of(&weight)];
            gradients.extend(biased.then(|| of(&bias)));
            (scores, gradients)
        };
        let (got, got_gradients) = run(make(dtype), layouts, fused);
        let (want, want_gradients) = run(make(DType::F64), (0, 0), plain);
        let (near, near_gradient) = tolerances(dtype);
        // Sums over the width are rounded in f32 as well; ids that are close may swap.
        compare(&got, &want, if double { near } else { 4.0 * near });
        if got.top.as_ref().map(|top| host(&top.ids)) == want.top.as_ref().map(|top| host(&top.ids)) {
            for (got, want) in got_gradients.iter().zip(&want_gradients) {
                let largest = want.iter().fold(1.0f64, |largest, x| largest.max(x.abs()));
                assert_close("gradient", got, want, |_| 2.0 * near_gradient * largest);
            }
        }
    }
}

fn compare(got: &TokenScores, want: &TokenScores, tolerance: f64) {
    let (got_parts, want_parts) = (parts(got), parts(want));
    assert_eq!(got_parts.len(), want_parts.len());
    for ((what, got), (_, want)) in got_parts.iter().zip(&want_parts) {
        assert_eq!(got.dims(), want.dims(), "{what}");
        let want = host(want);
        assert_close(what, &host(got), &want, |i| tolerance * want[i].abs().max(1.0));
    }
    assert_eq!(got.argmax.is_some(), want.argmax.is_some());
    if let (Some(top), Some(argmax)) = (&got.top, &got.argmax) {
        assert_eq!(host(&top.ids.narrow(1, 0, 1).unwrap()), host(argmax));
    }
}

#[test]
fn what_is_asked_beside_changes_no_bit() {
    for (vocab, soft_cap) in [(33, None), (33, Some(20.0)), (3001, None), (3001, Some(20.0))] {
        let logits = matrix(&numbers(7 * vocab, 1, 30.0), 7, vocab, DType::F32);
        let targets = ids(&some_ids(7, vocab, 2));
        let softmax = Softmax { temperature: 0.7, soft_cap };
        let few = TokenOptions { softmax, ..TokenOptions::default() };
        let named = targets.unsqueeze(1).unwrap();
        let all =
            TokenOptions { entropy: true, argmax: true, top_k: 3, named: Some(&named), ..few };
        let [few, all] =
            [few, all].map(|options| token_scores(&logits, &targets, &options).unwrap());
        let whole = token_logprobs(&logits, &targets, softmax).unwrap();
        assert_eq!(host(&few.logprobs), host(&all.logprobs));
        assert_eq!(host(&few.lse), host(&all.lse));
        assert_eq!(host(&few.logprobs), host(&whole.logprobs));
        assert_eq!(host(&all.entropy.unwrap()), host(&whole.entropy));
        assert_eq!(host(&all.named.unwrap()), host(&few.logprobs));
        assert!(
            few.entropy.is_none()
                && few.argmax.is_none()
                && few.top.is_none()
                && few.named.is_none()
        );
        let weights = numbers(7, 3, 1.0);
        let [a, b] = [&few.logprobs, &all.logprobs]
            .map(|part| gradients(&weighted(part, &weights).unwrap(), &[&logits]).remove(0));
        assert_eq!(a, b);
    }
}

#[test]
fn both_forms_read_the_same_logits() {
    let hidden = matrix(&numbers(70 * 24, 1, 1.0), 70, 24, DType::F32);
    let head = matrix(&numbers(5000 * 24, 2, 1.0), 5000, 24, DType::F32);
    let targets = ids(&some_ids(70, 5000, 3));
    let softmax = Softmax { temperature: 0.9, soft_cap: Some(4.0) };
    let options = TokenOptions { softmax, entropy: true, top_k: 9, ..TokenOptions::default() };
    let linear = linear_token_scores(&hidden, &head, &targets, &options).unwrap();
    let logits = opd_kernels::linear(&hidden, &head).unwrap();
    let dense = token_scores(&logits, &targets, &options).unwrap();
    for ((what, linear), (_, dense)) in parts(&linear).iter().zip(&parts(&dense)) {
        assert_eq!(host(linear), host(dense), "{what}");
    }
    assert_eq!(host(&linear.top.unwrap().ids), host(&dense.top.unwrap().ids));
    let whole = linear_token_logprobs(&hidden, &head, &targets, softmax).unwrap();
    assert_eq!(host(&whole.entropy), host(&linear.entropy.unwrap()));
}
