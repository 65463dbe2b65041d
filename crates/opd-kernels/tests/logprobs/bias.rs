//! Heads with a bias: every op that takes a head against its definition.

use candle_core::{DType, Tensor, Var};
use opd_kernels::{
    CrossVocabulary, Divergence, Head, Products, Projection, RowQuery, linear_cross_vocabulary,
    linear_divergence, linear_row_logprobs, linear_row_loss, linear_support_logprobs,
    linear_token_logprobs, linear_total_variation, reference,
};

use super::{assert_close, gradients, host, ids, matrix, numbers, scores::id_matrix, weighted};

const ROWS: usize = 5;
const VOCAB: usize = 7;
pub(super) const WIDTH: usize = 3;

pub(super) struct Model {
    pub(super) hidden: Var,
    pub(super) weight: Var,
    pub(super) bias: Var,
}

impl Model {
    pub(super) fn new(seed: u64, dtype: DType) -> Self {
        Self {
            hidden: matrix(&numbers(ROWS * WIDTH, seed, 1.0), ROWS, WIDTH, dtype),
            weight: matrix(&numbers(VOCAB * WIDTH, seed + 1, 1.0), VOCAB, WIDTH, dtype),
            bias: vector(&numbers(VOCAB, seed + 2, 2.0), dtype),
        }
    }

    pub(super) fn head(&self) -> Head<'_> {
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
