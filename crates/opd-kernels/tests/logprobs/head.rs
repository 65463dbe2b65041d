//! Heads with products of their own or of files, and gradients that candle does not gather.

use candle_core::{DType, Tensor, Var, quantized::GgmlDType};
use opd_kernels::{
    Divergence, EncodedMatrix, Error, Head, HeadGradient, Products, Projection, RowQuery,
    linear_divergence, linear_row_logprobs, linear_row_loss, linear_support_logprobs,
    linear_token_logprobs, token_logprobs,
};

use super::{assert_close, bias, gradients, host, ids, matrix, numbers, weighted};

/// Over this vocabulary, rows of two chunks where they come whole, else of several parts.
const ROWS: usize = 130;
const VOCAB: usize = 60_000;
const WIDTH: usize = 5;

struct Case {
    hidden: Var,
    weight: Var,
    targets: Tensor,
}

/// Values that bf16 holds: products of both kinds then differ in the order of sums alone.
fn exact() -> Case {
    let coarse = |n, seed| numbers(n, seed, 16.0).iter().map(|x| x.round() / 8.0).collect();
    let (hidden, weight): (Vec<f64>, Vec<f64>) =
        (coarse(ROWS * WIDTH, 1), coarse(VOCAB * WIDTH, 2));
    let targets: Vec<u32> = (0..ROWS as u32).map(|i| i * 911 % VOCAB as u32).collect();
    Case {
        hidden: matrix(&hidden, ROWS, WIDTH, DType::F32),
        weight: matrix(&weight, VOCAB, WIDTH, DType::F32),
        targets: ids(&targets),
    }
}

impl Case {
    fn head(&self, products: Products) -> Head<'_> {
        Head::new(&self.weight, products)
    }

    fn logprobs(&self, head: Head<'_>) -> Tensor {
        linear_token_logprobs(&self.hidden, head, &self.targets, 0.8).unwrap().logprobs
    }

    fn gradients(&self, of: &Tensor) -> [Vec<f64>; 2] {
        let both = [&self.hidden, &self.weight];
        gradients(&weighted(of, &numbers(ROWS, 3, 1.0)).unwrap(), &both).try_into().unwrap()
    }
}

#[test]
fn products_of_bf16_values_are_those_of_f32_where_nothing_is_rounded() {
    let case = exact();
    let [full, rounded] = [Products::Full, Products::Bf16].map(|p| case.logprobs(case.head(p)));
    assert_close("log-probs", &host(&rounded), &host(&full), |_| 2e-5);
    let [want, got] = [full, rounded].map(|logprobs| case.gradients(&logprobs));
    for (got, want) in got.iter().zip(&want) {
        // The gradient of the logits is rounded: 2^-9 of each term.
        let largest = want.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
        assert_close("gradient", got, want, |i| 0.005 * want[i].abs() + 2e-3 * largest);
        assert!(got != want, "nothing was rounded");
    }
}

#[test]
fn every_form_reads_the_same_logits() {
    let mut case = exact();
    case.hidden = matrix(&numbers(ROWS * WIDTH, 4, 1.5), ROWS, WIDTH, DType::F32);
    let head = case.head(Products::Bf16);
    let want = host(&case.logprobs(head));
    let logits = Products::Bf16.linear(&case.hidden, &case.weight).unwrap();
    assert_eq!(host(&token_logprobs(&logits, &case.targets, 0.8).unwrap().logprobs), want);
    let loss = linear_row_loss(&case.hidden, head, &case.targets, 0.8, |_, tokens| {
        tokens.logprobs.sum_all()
    });
    assert_eq!(host(&loss.unwrap().tokens.logprobs), want);
    let targets = case.targets.to_vec1::<u32>().unwrap();
    let query = |ids| RowQuery { temperature: 0.8, ids, top: 0, rank: false };
    let queries: Vec<RowQuery<'_>> = targets.chunks(1).map(query).collect();
    let answers = linear_row_logprobs(&case.hidden, head, &queries).unwrap();
    let answers: Vec<f64> = answers.iter().map(|answer| f64::from(answer.logprobs[0])).collect();
    assert_eq!(answers, want);
    let support = case.targets.unsqueeze(1).unwrap();
    let support = linear_support_logprobs(&case.hidden, head, &support, 0.8).unwrap();
    assert_eq!(host(&support.logprobs), want);
    let [student, teacher] = [head; 2].map(|head| Projection::new(&case.hidden, head));
    let kind = Divergence::ReverseKl;
    let apart = linear_divergence(student, teacher, &case.targets, kind, 0.8).unwrap();
    assert!(host(&apart.divergence).iter().all(|distance| distance.abs() < 1e-6));
    assert_eq!(host(&apart.student_logprobs), want);
}

#[test]
fn a_gathered_gradient_has_the_bits_of_candles() {
    for products in [Products::Full, Products::Bf16] {
        let case = exact();
        let want = case.gradients(&case.logprobs(case.head(products)));
        let gathered = HeadGradient::default();
        let head = Head { gradient: Some(&gathered), ..case.head(products) };
        let loss = weighted(&case.logprobs(head), &numbers(ROWS, 3, 1.0)).unwrap();
        assert!(gathered.take().is_none(), "before the backward");
        let store = loss.backward().unwrap();
        assert_eq!(host(store.get(case.hidden.as_tensor()).unwrap()), want[0]);
        assert!(store.get(case.weight.as_tensor()).is_none());
        assert_eq!(host(&gathered.take().unwrap()), want[1]);
        assert!(gathered.take().is_none());
    }
}

#[test]
fn ops_of_candle_and_several_of_ours_add_up() {
    let case = exact();
    let weights = numbers(ROWS, 3, 1.0);
    let of = |head: Head<'_>| {
        let twice = [case.logprobs(head), case.logprobs(head)];
        let penalty =
            (head.weight.to_tensor().unwrap().sqr().unwrap().sum_all().unwrap() * 0.5).unwrap();
        let [a, b] = twice.map(|logprobs| weighted(&logprobs, &weights).unwrap());
        ((a + (b * 2.0).unwrap()).unwrap() + penalty.to_dtype(DType::F64).unwrap()).unwrap()
    };
    let want = gradients(&of(case.head(Products::Full)), &[&case.weight]).remove(0);
    let gathered = HeadGradient::default();
    let head = Head { gradient: Some(&gathered), ..case.head(Products::Full) };
    let store = of(head).backward().unwrap();
    let ours = host(&gathered.take().unwrap());
    let candles = host(store.get(case.weight.as_tensor()).unwrap());
    let sum: Vec<f64> = ours.iter().zip(&candles).map(|(a, b)| a + b).collect();
    let largest = want.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    assert_close("sum", &sum, &want, |_| 1e-6 * largest);
}

#[test]
fn what_is_frozen_gathers_nothing_and_what_is_alone_is_candles() {
    let case = exact();
    let gathered = HeadGradient::default();
    let frozen = case.weight.as_detached_tensor();
    let head = Head { gradient: Some(&gathered), ..Head::from(&frozen) };
    case.logprobs(head).sum_all().unwrap().backward().unwrap();
    assert!(gathered.take().is_none());
    let hidden = case.hidden.as_detached_tensor();
    let head = Head { gradient: Some(&gathered), ..case.head(Products::Full) };
    let out = linear_token_logprobs(&hidden, head, &case.targets, 1.0).unwrap().logprobs;
    let store = out.sum_all().unwrap().backward().unwrap();
    assert!(store.get(case.weight.as_tensor()).is_some() && gathered.take().is_none());
}

#[test]
fn heads_of_f64_have_no_products_of_bf16() {
    let (hidden, weight) =
        (matrix(&[1.0; 4], 2, 2, DType::F64), matrix(&[1.0; 6], 3, 2, DType::F64));
    let head = Head::new(&weight, Products::Bf16);
    let refused = linear_token_logprobs(&hidden, head, &ids(&[0, 1]), 1.0).unwrap_err();
    assert!(matches!(refused, Error::DType { what: "head", got: DType::F64, .. }), "{refused}");
}

#[test]
fn heads_of_files_and_rounded_products_have_a_bias() {
    let model = bias::Model::new(1, DType::F32);
    let targets = ids(&[6, 0, 3, 3, 1]);
    // Values that bf16 holds.
    let rounded = model.weight.to_dtype(DType::BF16).unwrap();
    let exact = rounded.to_dtype(DType::F32).unwrap();
    let encoded = encoded(&rounded);
    let of = |head: Head<'_>| {
        linear_token_logprobs(&model.hidden, head, &targets, 1.0).unwrap().logprobs
    };
    let plain = of(Head::new(&exact, Products::Full).with_bias(&model.bias));
    let filed = of(Head::new(&encoded, Products::Full).with_bias(&model.bias));
    assert_eq!(host(&filed), host(&plain));
    let both = [&model.hidden, &model.bias];
    let [plain, filed] = [plain, filed].map(|part| gradients(&part.sum_all().unwrap(), &both));
    assert_eq!(filed, plain);
    let states = model.hidden.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    let of = |products| {
        let head = Head::new(&exact, products).with_bias(&model.bias);
        host(&linear_token_logprobs(&states, head, &targets, 1.0).unwrap().logprobs)
    };
    assert_close("rounded", &of(Products::Bf16), &of(Products::Full), |_| 2e-6);
}

fn encoded(weight: &Tensor) -> EncodedMatrix {
    let values = weight.flatten_all().unwrap().to_vec1::<half::bf16>().unwrap();
    let bytes = values.into_iter().flat_map(|value| value.to_le_bytes()).collect();
    EncodedMatrix::new(vec![(GgmlDType::BF16, bytes)], bias::WIDTH).unwrap()
}

#[test]
fn a_gathered_weight_leaves_the_bias_to_candle() {
    let model = bias::Model::new(1, DType::F32);
    let targets = ids(&[6, 0, 3, 3, 1]);
    let run = |head: Head<'_>| {
        let scores = linear_token_logprobs(&model.hidden, head, &targets, 1.0).unwrap();
        scores.logprobs.sum_all().unwrap().backward().unwrap()
    };
    let want = run(model.head());
    let gathered = HeadGradient::default();
    let store = run(Head { gradient: Some(&gathered), ..model.head() });
    let of =
        |store: &candle_core::backprop::GradStore, var: &Var| store.get(var.as_tensor()).map(host);
    assert_eq!(of(&store, &model.bias), of(&want, &model.bias));
    assert_eq!(of(&store, &model.weight), None);
    assert_eq!(gathered.take().map(|sum| host(&sum)), of(&want, &model.weight));
    let still = model.bias.as_detached_tensor();
    let frozen = Head { bias: Some(&still), ..model.head() };
    let store = run(frozen);
    assert!(store.get(&still).is_none());
    assert_eq!(of(&store, &model.weight), of(&want, &model.weight));
}
