//! Heads with a bias: every op that takes a head against its definition, and central differences.

use candle_core::{DType, Tensor, Var, quantized::GgmlDType};
use opd_kernels::{
    CrossVocabulary, Divergence, EncodedMatrix, Head, HeadGradient, Products, Projection, RowQuery,
    linear_cross_vocabulary, linear_divergence, linear_row_logprobs, linear_row_loss,
    linear_support_logprobs, linear_token_logprobs, linear_total_variation, reference,
};

use super::{assert_close, gradients, host, ids, matrix, numbers, scores::id_matrix, weighted};

const ROWS: usize = 5;
const VOCAB: usize = 7;
const WIDTH: usize = 3;

struct Model {
    hidden: Var,
    weight: Var,
    bias: Var,
}

impl Model {
    fn new(seed: u64, dtype: DType) -> Self {
        Self {
            hidden: matrix(&numbers(ROWS * WIDTH, seed, 1.0), ROWS, WIDTH, dtype),
            weight: matrix(&numbers(VOCAB * WIDTH, seed + 1, 1.0), VOCAB, WIDTH, dtype),
            bias: vector(&numbers(VOCAB, seed + 2, 2.0), dtype),
        }
    }

    fn head(&self) -> Head<'_> {
        Head::new(&self.weight, Products::Full).with_bias(&self.bias)
    }

    fn projection(&self) -> Projection<'_> {
        Projection::new(&self.hidden, self.head())
    }

    fn gradients(&self, of: &[&Tensor]) -> Vec<Vec<f64>> {
        let terms = of.iter().zip(30..).map(|(part, seed)| {
            let flat = part.flatten_all().unwrap();
            weighted(&flat, &numbers(flat.elem_count(), seed, 1.0)).unwrap()
        });
        let sum = Tensor::stack(&terms.collect::<Vec<_>>(), 0).unwrap().sum_all().unwrap();
        gradients(&sum, &[&self.hidden, &self.weight, &self.bias])
    }

    fn agree(&self, what: &str, got: &[&Tensor], want: &[&Tensor]) {
        for (got, want) in got.iter().zip(want) {
            assert_close(what, &host(got), &host(want), |_| 1e-12);
        }
        for (got, want) in self.gradients(got).iter().zip(&self.gradients(want)) {
            assert_close(&format!("gradient of {what}"), got, want, |_| 1e-12);
        }
    }
}

fn vector(values: &[f64], dtype: DType) -> Var {
    Var::from_tensor(&super::vector(values).to_dtype(dtype).unwrap()).unwrap()
}

#[test]
fn every_op_adds_it_to_the_logits() {
    let (student, teacher) = (Model::new(1, DType::F64), Model::new(11, DType::F64));
    let (ours, theirs) = (student.projection(), teacher.projection());
    let (hidden, head) = (&student.hidden, student.head());
    let targets = ids(&[6, 0, 3, 3, 1]);
    let got = linear_token_logprobs(hidden, head, &targets, 0.8).unwrap();
    let want = reference::linear_token_logprobs(hidden, head, &targets, 0.8).unwrap();
    student.agree(
        "log-probs",
        &[&got.logprobs, &got.lse, &got.entropy],
        &[&want.logprobs, &want.lse, &want.entropy],
    );
    let chosen = id_matrix(&[0, 1, 6, 2, 3, 3, 5, 4, 1, 0], ROWS, 2);
    let got = linear_support_logprobs(hidden, head, &chosen, 0.8).unwrap();
    let want = reference::linear_support_logprobs(hidden, head, &chosen, 0.8).unwrap();
    student.agree("support", &[&got.logprobs, &got.entropy], &[&want.logprobs, &want.entropy]);
    for kind in [Divergence::ForwardKl, Divergence::ReverseKl, Divergence::Jsd { beta: 0.4 }] {
        let got = linear_divergence(ours, theirs, &targets, kind, 0.8).unwrap();
        let want = reference::linear_divergence(ours, theirs, &targets, kind, 0.8).unwrap();
        let parts = [&got.divergence, &got.student_entropy];
        student.agree("divergence", &parts, &[&want.divergence, &want.student_entropy]);
    }
    let got = linear_total_variation(ours, theirs, &targets, 0.8).unwrap();
    let want = reference::linear_total_variation(ours, theirs, &targets, 0.8).unwrap();
    student.agree("total variation", &[&got.divergence], &[&want.divergence]);
    let how = CrossVocabulary {
        counterparts: vec![Some(3), None, Some(0), None, Some(6), None, Some(1)],
        beta: 0.5,
        matched: 1.0,
        unmatched: 0.7,
    };
    let got = linear_cross_vocabulary(ours, theirs, &targets, &how, 0.8).unwrap();
    let want = reference::linear_cross_vocabulary(ours, theirs, &targets, &how, 0.8).unwrap();
    student.agree("cross vocabulary", &[&got.divergence], &[&want.divergence]);
    let got = linear_row_loss(hidden, head, &targets, 0.8, |_, row| row.logprobs.sum_all());
    let got = got.unwrap();
    let want = reference::linear_token_logprobs(hidden, head, &targets, 0.8).unwrap().logprobs;
    student.agree("row loss", &[&got.loss], &[&want.sum_all().unwrap()]);
    let all = [&student.hidden, &student.weight, &student.bias];
    let candles = gradients(&got.loss, &all);
    let ready = [got.hidden_gradient, got.head_gradient, got.bias_gradient];
    assert_eq!(ready.map(|gradient| host(&gradient.unwrap())).to_vec(), candles);
}

#[test]
fn answers_to_rows_have_it() {
    let model = Model::new(1, DType::F32);
    let query = RowQuery { temperature: 0.8, ids: &[2, 5], top: 3, rank: false };
    let answers = linear_row_logprobs(&model.hidden, model.head(), &[query; ROWS]).unwrap();
    let logits = reference::logits(&model.hidden, model.head()).unwrap();
    let (want, _) = reference::log_softmax(&logits, 0.8).unwrap();
    for (answer, want) in answers.iter().zip(want.to_vec2::<f32>().unwrap()) {
        assert!((answer.logprobs[0] - want[2]).abs() < 2e-6);
        assert!((answer.logprobs[1] - want[5]).abs() < 2e-6);
        let likeliest = want.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!((answer.top[0].1 - likeliest).abs() < 2e-6);
    }
}

#[test]
fn heads_of_files_and_rounded_products_have_it() {
    let model = Model::new(1, DType::F32);
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
    EncodedMatrix::new(vec![(GgmlDType::BF16, bytes)], WIDTH).unwrap()
}

#[test]
fn a_gathered_weight_leaves_it_to_candle() {
    let model = Model::new(1, DType::F32);
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

#[test]
fn a_bias_that_does_not_fit_is_named() {
    let model = Model::new(1, DType::F32);
    let targets = ids(&[6, 0, 3, 3, 1]);
    let said = |bias: &Tensor| {
        let head = Head::new(&model.weight, Products::Full).with_bias(bias);
        linear_token_logprobs(&model.hidden, head, &targets, 1.0).unwrap_err().to_string()
    };
    let short = vector(&[0.0; 6], DType::F32);
    let text = said(&short);
    assert_eq!(text, "linear_token_logprobs: the head's bias must be [V] = [7], got [6]");
    assert!(said(&vector(&[0.0; 7], DType::F64)).contains("the head's bias is F64"));
}
