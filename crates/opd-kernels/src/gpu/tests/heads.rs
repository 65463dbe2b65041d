use candle_core::{DType, Device, Tensor, Var};

use super::{agree, ids, matrix, weighted};
use crate::{
    Divergence, DivergenceOutput, Head, Products, Projection, RowQuery, linear_divergence,
    linear_divergence_loss, linear_grad_weight_acc, linear_packed, linear_row_logprobs,
    linear_row_loss, linear_support_logprobs, linear_token_logprobs, linear_total_variation,
    row_divergence_loss, row_loss as row_loss_of_logits,
};

/// Hidden states and head.
struct Model {
    hidden: Var,
    head: Var,
    products: Products,
}

impl Model {
    fn new(rows: usize, width: usize, vocab: usize, seed: u64, dtype: DType) -> Self {
        let hidden = matrix(rows, width, seed, 1.5, dtype);
        let head = matrix(vocab, width, seed + 1, 1.5, dtype);
        Self { hidden, head, products: Products::Full }
    }

    fn head(&self) -> Head<'_> {
        Head { products: self.products, ..Head::from(&self.head) }
    }

    fn projection(&self) -> Projection<'_> {
        Projection::new(&self.hidden, self.head())
    }

    /// The parts, and the gradients of a sum over them.
    fn with_gradients(&self, parts: Vec<Tensor>) -> Vec<Tensor> {
        let terms: Vec<Tensor> =
            parts.iter().zip(60..).map(|(part, seed)| weighted(part, seed)).collect();
        let total = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap();
        let store = total.backward().unwrap();
        let of = |var: &Var| store.get(var.as_tensor()).unwrap().clone();
        parts.into_iter().chain([of(&self.hidden), of(&self.head)]).collect()
    }
}

fn parts(out: DivergenceOutput) -> Vec<Tensor> {
    vec![out.divergence, out.student_entropy, out.student_logprobs]
}

/// More than one chunk of rows.
const ROWS: usize = 150;

#[test]
fn heads_agree() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 3e-5)] {
        let student = Model::new(ROWS, 5, 37, 1, dtype);
        let teacher = Model::new(ROWS, 3, 37, 5, dtype);
        let targets = ids(ROWS, 37, 2);
        agree(tolerance, || {
            let out = linear_token_logprobs(&student.hidden, &student.head, &targets, 0.8).unwrap();
            student.with_gradients(vec![out.logprobs, out.lse, out.entropy])
        });
        for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.5 }] {
            agree(tolerance, || {
                let (ours, theirs) = (student.projection(), teacher.projection());
                let out = linear_divergence(ours, theirs, &targets, kind, 1.2).unwrap();
                student.with_gradients(parts(out))
            });
        }
        agree(tolerance, || {
            let (ours, theirs) = (student.projection(), teacher.projection());
            let out = linear_total_variation(ours, theirs, &targets, 1.2).unwrap();
            student.with_gradients(parts(out))
        });
        // Some rows name an id twice.
        let chosen = ids(ROWS * 4, 37, 3).reshape((ROWS, 4)).unwrap();
        agree(tolerance, || {
            let (hidden, head) = (&student.hidden, &student.head);
            let out = linear_support_logprobs(hidden, head, &chosen, 0.9).unwrap();
            student.with_gradients(vec![out.logprobs, out.entropy])
        });
        agree(tolerance, || {
            let query = RowQuery { temperature: 0.7, ids: &[3, 36], top: 5, rank: true };
            let queries = vec![query; ROWS];
            let answers = linear_row_logprobs(&student.hidden, &student.head, &queries).unwrap();
            let flat = answers.into_iter().flat_map(|answer| {
                let top = answer.top.into_iter().flat_map(|(id, logprob)| [id as f32, logprob]);
                answer.logprobs.into_iter().chain(top).chain(answer.rank.map(|rank| rank as f32))
            });
            let flat: Vec<f32> = flat.collect::<Vec<_>>();
            let n = flat.len();
            vec![Tensor::from_vec(flat, n, &Device::Cpu).unwrap()]
        });
    }
}

#[test]
fn halves_have_logits_in_f32() {
    for (dtype, tolerance) in [(DType::BF16, 2e-2), (DType::F16, 3e-3)] {
        // One product of several chunks for the head's gradient, and several products.
        for rows in [70, 300] {
            let (width, vocab) = (8, 50);
            let targets = ids(rows, vocab, 2);
            let wide = Model::new(rows, width, vocab, 1, dtype);
            let both = |student: &Model, teacher: &Model| {
                let (hidden, head) = (&student.hidden, &student.head);
                let out = linear_token_logprobs(hidden, head, &targets, 0.8).unwrap();
                let mut all = student.with_gradients(vec![out.logprobs, out.lse, out.entropy]);
                let (ours, theirs) = (student.projection(), teacher.projection());
                let out =
                    linear_divergence(ours, theirs, &targets, Divergence::ReverseKl, 1.2).unwrap();
                all.extend(student.with_gradients(parts(out)));
                all
            };
            // The CPU's kernels get the same values in f32; the GPU's products add up in f32.
            agree(tolerance, || {
                let on_host = super::host::current().is_some();
                let to = |var: &Var| {
                    let dtype = if on_host { dtype } else { DType::F32 };
                    Var::from_tensor(&var.to_dtype(dtype).unwrap()).unwrap()
                };
                let products = Products::Full;
                let model = || Model { hidden: to(&wide.hidden), head: to(&wide.head), products };
                both(&model(), &model())
            });
        }
    }
}

#[test]
fn frozen_arguments_and_no_rows() {
    let model = Model::new(70, 4, 9, 1, DType::F64);
    let targets = ids(70, 9, 2);
    agree(1e-11, || {
        let still = model.head.as_detached_tensor();
        let out = linear_token_logprobs(&model.hidden, &still, &targets, 1.0).unwrap();
        let store = out.logprobs.sum_all().unwrap().backward().unwrap();
        assert!(store.get(&still).is_none());
        vec![store.get(&model.hidden).unwrap().clone()]
    });
    let none = Model::new(0, 4, 9, 1, DType::F32);
    let targets = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
    agree(0.0, || {
        let out = linear_token_logprobs(&none.hidden, &none.head, &targets, 1.0).unwrap();
        vec![out.logprobs, out.entropy]
    });
}

/// A policy loss with an entropy bonus, divided by what the whole batch has.
fn row_loss(model: &Model, targets: &Tensor) -> Vec<Tensor> {
    let out = linear_row_loss(&model.hidden, model.head(), targets, 0.8, |rows, tokens| {
        let weights: Vec<f64> = rows.map(|row| (row as f64 * 0.37).sin() / 150.0).collect();
        let weights = Tensor::from_slice(&weights, weights.len(), &Device::Cpu)?;
        let weights = weights.to_dtype(tokens.logprobs.dtype())?;
        let ratio = (&tokens.logprobs + 3.0)?.exp()?.minimum(2.0)?;
        ((ratio + &tokens.entropy)? * weights)?.sum_all()
    });
    let out = out.unwrap();
    let store = (out.loss.clone() * 2.5).unwrap().backward().unwrap();
    let of = |var: &Var| store.get(var.as_tensor()).unwrap().clone();
    let tokens = out.tokens;
    vec![out.loss, tokens.logprobs, tokens.entropy, of(&model.hidden), of(&model.head)]
}

#[test]
fn gradients_known_by_row_agree() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 3e-5)] {
        let model = Model::new(ROWS, 5, 37, 1, dtype);
        agree(tolerance, || row_loss(&model, &ids(ROWS, 37, 2)));
    }
}

#[test]
fn logits_given_up_agree() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 3e-5)] {
        let targets = ids(ROWS, 37, 2);
        agree(tolerance, || {
            let logits = matrix(ROWS, 37, 4, 3.0, dtype).copy().unwrap();
            let out = row_loss_of_logits(logits, &targets, 0.8, |tokens| {
                (&tokens.logprobs.exp()? + &tokens.entropy)?.sum_all()
            });
            let out = out.unwrap();
            vec![out.loss, out.tokens.logprobs, out.gradient]
        });
    }
}

/// A loss of divergences, entropies and log-probs, divided by what the whole batch has.
fn divergence_loss(
    rows: std::ops::Range<usize>,
    tokens: &DivergenceOutput,
) -> candle_core::Result<Tensor> {
    let weights: Vec<f64> = rows.map(|row| (row as f64 * 0.37).sin() / 150.0).collect();
    let weights = Tensor::from_slice(&weights, weights.len(), &Device::Cpu)?;
    let weights = weights.to_dtype(tokens.divergence.dtype())?;
    let sum = (tokens.divergence.sqr()? + &tokens.student_entropy)?;
    ((sum + (&tokens.student_logprobs * 0.3)?)? * weights)?.sum_all()
}

#[test]
fn divergences_with_gradients_known_by_row_agree() {
    for (dtype, tolerance) in [(DType::F64, 1e-10), (DType::F32, 3e-5)] {
        let student = Model::new(ROWS, 5, 37, 1, dtype);
        let teacher = Model::new(ROWS, 3, 37, 5, dtype);
        let targets = ids(ROWS, 37, 2);
        for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.5 }] {
            agree(tolerance, || {
                let (ours, theirs) = (student.projection(), teacher.projection());
                let out =
                    linear_divergence_loss(ours, theirs, &targets, kind, 1.2, divergence_loss);
                let out = out.unwrap();
                let store = (out.loss.clone() * 2.5).unwrap().backward().unwrap();
                let of = |var: &Var| store.get(var.as_tensor()).unwrap().clone();
                let all = [out.loss, out.tokens.divergence, out.tokens.teacher_logprobs];
                all.into_iter().chain([of(&student.hidden), of(&student.head)]).collect()
            });
            agree(tolerance, || {
                let given = matrix(ROWS, 37, 4, 3.0, dtype).copy().unwrap();
                let theirs = matrix(ROWS, 37, 5, 3.0, dtype);
                let out = row_divergence_loss(given, &theirs, &targets, kind, 0.8, |tokens| {
                    divergence_loss(0..ROWS, tokens)
                });
                let out = out.unwrap();
                vec![out.loss, out.tokens.divergence, out.gradient]
            });
        }
    }
}

#[test]
fn products_are_added_in_place() {
    let (dy, x) = (matrix(20, 7, 1, 1.0, DType::F64), matrix(20, 5, 2, 1.0, DType::F64));
    agree(1e-13, || {
        let sum = matrix(7, 5, 3, 1.0, DType::F64).copy().unwrap();
        linear_grad_weight_acc(&dy, &x, &sum).unwrap();
        vec![sum]
    });
}

#[test]
fn heads_of_rounded_values_agree() {
    let of = |width, seed| Model {
        products: Products::Bf16,
        ..Model::new(ROWS, width, 37, seed, DType::F32)
    };
    let (student, teacher, targets) = (of(5, 1), of(3, 5), ids(ROWS, 37, 2));
    let forward = || {
        let out = linear_token_logprobs(&student.hidden, student.head(), &targets, 0.8).unwrap();
        vec![out.logprobs, out.lse, out.entropy]
    };
    agree(3e-5, forward);
    agree(3e-5, || row_loss(&student, &targets)[..3].to_vec());
    // The logits' gradients are rounded as well: those that lie between two values go either way.
    agree(5e-3, || student.with_gradients(forward()));
    agree(5e-3, || row_loss(&student, &targets));
    agree(5e-3, || {
        let (ours, theirs) = (student.projection(), teacher.projection());
        let kind = Divergence::ReverseKl;
        let out = linear_divergence(ours, theirs, &targets, kind, 1.2).unwrap();
        student.with_gradients(parts(out))
    });
    agree(5e-3, || {
        let (ours, theirs) = (student.projection(), teacher.projection());
        let kind = Divergence::ForwardKl;
        let out = linear_divergence_loss(ours, theirs, &targets, kind, 1.2, divergence_loss);
        let out = out.unwrap();
        let store = out.loss.backward().unwrap();
        let of = |var: &Var| store.get(var.as_tensor()).unwrap().clone();
        vec![out.tokens.divergence, of(&student.hidden), of(&student.head)]
    });
}

#[test]
fn products_of_rounded_values_agree() {
    let products = Products::Bf16;
    for (rows, inner, columns) in [(20, 7, 5), (1, 64, 3), (70, 1, 9)] {
        let x = matrix(rows, inner, 1, 1.0, DType::F32);
        let weight = matrix(columns, inner, 2, 1.0, DType::F32);
        agree(2e-6, || {
            let packed = linear_packed(&x, &products.pack(weight.as_tensor()).unwrap()).unwrap();
            let turned = x.t().unwrap().contiguous().unwrap().t().unwrap();
            let strided = products.linear(&turned, weight.as_tensor()).unwrap();
            vec![packed, strided]
        });
        agree(2e-6, || {
            let y = products.linear(&x, weight.as_tensor()).unwrap();
            let store = weighted(&y, 3).backward().unwrap();
            let of = |var: &Var| store.get(var.as_tensor()).unwrap().clone();
            let sum = matrix(columns, inner, 4, 1.0, DType::F32).copy().unwrap();
            let dy = matrix(rows, columns, 5, 1.0, DType::F32);
            products.grad_weight_acc(&dy, &x, &sum).unwrap();
            let twice =
                products.linear(&products.grad_input(&dy, weight.as_tensor()).unwrap(), &weight);
            vec![y.clone(), of(&x), of(&weight), sum, twice.unwrap()]
        });
    }
}
