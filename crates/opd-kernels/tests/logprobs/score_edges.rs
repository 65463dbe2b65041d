//! Token scores where logits tie, cannot occur or are no numbers, and what is refused.

use candle_core::{DType, Device, Tensor};
use opd_kernels::{
    Softmax, TokenOptions, TokenScores, linear_row_loss, linear_token_scores, row_loss,
    token_logprobs, token_scores,
};

use super::{assert_close, gradients, host, ids, matrix, numbers, scores::id_matrix};

const INFINITY: f64 = f64::INFINITY;

fn top(logits: &Tensor, k: usize, soft_cap: Option<f64>) -> TokenScores {
    let softmax = Softmax { temperature: 1.0, soft_cap };
    let options = TokenOptions { softmax, argmax: true, top_k: k, ..TokenOptions::default() };
    token_scores(logits, &ids(&vec![0; logits.dims()[0]]), &options).unwrap()
}

#[test]
fn of_equal_logits_the_lowest_id_is_first() {
    for soft_cap in [None, Some(5.0)] {
        let logits = matrix(&[1.0, 3.0, 3.0, 2.0, 0.0, -0.0, 0.0, -1.0], 2, 4, DType::F32);
        let scores = top(&logits, 4, soft_cap);
        assert_eq!(host(&scores.argmax.unwrap()), [1.0, 0.0]);
        assert_eq!(host(&scores.top.unwrap().ids), [1.0, 2.0, 3.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        // Over several blocks, all equal but one.
        let mut values = vec![-1.0; 5000];
        values[4321] = 2.0;
        let scores = top(&matrix(&values, 1, 5000, DType::F32), 3, soft_cap);
        assert_eq!(host(&scores.top.unwrap().ids), [4321.0, 0.0, 1.0]);
    }
}

/// Under a cap that f32 cannot tell from its bound the larger logit still ranks first.
#[test]
fn the_order_is_that_of_the_logits_themselves() {
    let logits = matrix(&[500.0, 900.0, 700.0], 1, 3, DType::F32);
    let scores = top(&logits, 3, Some(2.0));
    let top = scores.top.unwrap();
    assert_eq!(host(&top.ids), [1.0, 2.0, 0.0]);
    let third = -(3f64.ln());
    assert_close("log-probs", &host(&top.logprobs), &[third; 3], |_| 1e-6);
}

#[test]
fn tokens_that_cannot_occur_stay_so_under_a_cap() {
    let logits = matrix(&[-INFINITY, 1.0, 2.0, -INFINITY], 1, 4, DType::F64);
    let named = id_matrix(&[0, 2], 1, 2);
    let softmax = Softmax { temperature: 1.0, soft_cap: Some(3.0) };
    let options =
        TokenOptions { softmax, entropy: true, argmax: false, top_k: 4, named: Some(&named) };
    let scores = token_scores(&logits, &ids(&[2]), &options).unwrap();
    let z = [1.0f64, 2.0].map(|x| 3.0 * (x / 3.0).tanh());
    let want = -(z[0] - z[1]).exp().ln_1p();
    assert_close("log-prob", &host(&scores.logprobs), &[want], |_| 1e-14);
    assert_eq!(host(scores.named.as_ref().unwrap())[0], -INFINITY);
    let top = scores.top.unwrap();
    assert_eq!(host(&top.ids), [2.0, 1.0, 0.0, 3.0]);
    assert_eq!(host(&top.logprobs)[2..], [-INFINITY; 2]);
    let sum = (scores.logprobs + scores.entropy.unwrap()).unwrap();
    let gradient = gradients(&sum, &[&logits]).remove(0);
    assert_eq!([gradient[0], gradient[3]], [0.0; 2]);
    assert!(gradient[1..3].iter().all(|g| g.is_finite() && *g != 0.0), "{gradient:?}");
}

#[test]
fn nan_and_positive_infinity_stay_in_their_row() {
    for (bad, soft_cap) in
        [(f64::NAN, None), (f64::NAN, Some(9.0)), (INFINITY, None), (INFINITY, Some(9.0))]
    {
        for width in [5, 3000] {
            let mut values = numbers(2 * width, 5, 1.0);
            values[3] = bad;
            let logits = matrix(&values, 2, width, DType::F32);
            let named = id_matrix(&[1, 1], 2, 1);
            let softmax = Softmax { temperature: 1.0, soft_cap };
            let options = TokenOptions {
                softmax,
                entropy: true,
                argmax: true,
                top_k: 2,
                named: Some(&named),
            };
            let scores = token_scores(&logits, &ids(&[1, 1]), &options).unwrap();
            let top = scores.top.unwrap();
            let floats = [&scores.logprobs, &scores.lse, scores.entropy.as_ref().unwrap()];
            for part in floats.into_iter().chain([scores.named.as_ref().unwrap(), &top.logprobs]) {
                let part = host(part);
                let half = part.len() / 2;
                assert!(part[..half].iter().all(|x| x.is_nan()), "{part:?}");
                assert!(part[half..].iter().all(|x| x.is_finite()), "{part:?}");
            }
            // Infinity is the largest logit, NaN is not.
            let largest = host(&scores.argmax.unwrap())[0];
            assert_eq!(largest == 3.0, bad == INFINITY);
            let gradient = gradients(&scores.logprobs.sum_all().unwrap(), &[&logits]).remove(0);
            let numbers: Vec<_> = (0..width).filter(|v| !gradient[*v].is_nan()).collect();
            assert!(numbers.is_empty(), "{bad}, {soft_cap:?}, {width}: {numbers:?}");
            assert!(gradient[width..].iter().all(|g| g.is_finite()));
        }
    }
    // No finite value: no distribution, but ids all the same.
    let scores = top(&matrix(&[-INFINITY; 3], 1, 3, DType::F32), 2, None);
    assert!(host(&scores.lse)[0].is_nan());
    assert_eq!(host(&scores.top.unwrap().ids), [0.0, 1.0]);
}

#[test]
fn no_rows_and_one_column() {
    let none = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
    let named = Tensor::zeros((0, 2), DType::U32, &Device::Cpu).unwrap();
    let options = TokenOptions {
        entropy: true,
        argmax: true,
        top_k: 3,
        named: Some(&named),
        ..TokenOptions::default()
    };
    let (hidden, head) = (matrix(&[], 0, 3, DType::F32), matrix(&[1.0; 15], 5, 3, DType::F32));
    for scores in [
        token_scores(&matrix(&[], 0, 5, DType::F32), &none, &options).unwrap(),
        linear_token_scores(&hidden, &head, &none, &options).unwrap(),
    ] {
        assert_eq!(scores.entropy.unwrap().dims(), [0]);
        assert_eq!(scores.argmax.unwrap().dims(), [0]);
        assert_eq!(scores.named.unwrap().dims(), [0, 2]);
        let top = scores.top.unwrap();
        assert_eq!((top.ids.dims(), top.logprobs.dims()), (&[0, 3][..], &[0, 3][..]));
    }
    let logits = matrix(&[3.0, -1e4], 2, 1, DType::F32);
    let scores = top(&logits, 1, Some(4.0));
    assert_eq!(host(&scores.top.unwrap().logprobs), [0.0, 0.0]);
    let capped = [4.0 * 0.75f64.tanh(), -4.0];
    assert_close("lse", &host(&scores.lse), &capped, |_| 1e-6);
}

#[test]
fn ids_that_are_named_twice_and_again_add_up() {
    let logits = matrix(&numbers(12, 1, 3.0), 2, 6, DType::F64);
    let targets = ids(&[4, 0]);
    let named = id_matrix(&[4, 4, 2, 0, 1, 1], 2, 3);
    let options = TokenOptions { top_k: 6, named: Some(&named), ..TokenOptions::default() };
    let scores = token_scores(&logits, &targets, &options).unwrap();
    let sum = [&scores.logprobs, &scores.named.unwrap(), &scores.top.unwrap().logprobs]
        .map(|part| part.sum_all().unwrap());
    let got = gradients(&Tensor::stack(&sum, 0).unwrap().sum_all().unwrap(), &[&logits]).remove(0);
    // d/dx_v of sum_k log p_k is the count of v less the number of terms times p_v.
    let counts = [[1.0, 1.0, 2.0, 1.0, 4.0, 1.0], [3.0, 3.0, 1.0, 1.0, 1.0, 1.0]];
    let values = host(&logits);
    let want = values.chunks(6).zip(counts).flat_map(|(row, counts)| {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        let of = |(x, count): (&f64, f64)| count - 10.0 * x.exp() / sum;
        row.iter().zip(counts).map(of).collect::<Vec<_>>()
    });
    assert_close("gradient", &got, &want.collect::<Vec<_>>(), |_| 1e-13);
}

#[test]
fn losses_of_rows_take_a_cap() {
    let softmax = Softmax { temperature: 0.8, soft_cap: Some(3.0) };
    let targets = ids(&[1, 0, 3]);
    for width in [5, 2500] {
        let logits = matrix(&numbers(3 * width, 2, 5.0), 3, width, DType::F32);
        let loss =
            |tokens: &opd_kernels::TokenLogprobs| (&tokens.logprobs + &tokens.entropy)?.sum_all();
        let whole = loss(&token_logprobs(&logits, &targets, softmax).unwrap()).unwrap();
        let want = gradients(&whole, &[&logits]).remove(0);
        let got = row_loss(logits.copy().unwrap(), &targets, softmax, loss).unwrap();
        assert_eq!((host(&got.loss), host(&got.gradient)), (host(&whole), want));
    }
    let hidden = matrix(&numbers(6, 3, 1.0), 3, 2, DType::F64);
    let head = matrix(&numbers(10, 4, 4.0), 5, 2, DType::F64);
    let options = TokenOptions { softmax, ..TokenOptions::default() };
    let whole = linear_token_scores(&hidden, &head, &targets, &options).unwrap().logprobs;
    let whole = whole.sum_all().unwrap();
    let rows = linear_row_loss(&hidden, &head, &targets, softmax, |_, row| row.logprobs.sum_all());
    let rows = rows.unwrap().loss;
    assert_close("loss", &host(&rows), &host(&whole), |_| 1e-14);
    let [want, got] = [whole, rows].map(|loss| gradients(&loss, &[&hidden, &head]));
    assert_eq!(got, want);
}

fn message<T: std::fmt::Debug>(result: opd_kernels::Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_cannot_be_asked_is_named() {
    let logits = matrix(&[0.0; 8], 2, 4, DType::F32);
    let targets = ids(&[3, 0]);
    let plain = TokenOptions::default();
    let said = |options: TokenOptions<'_>| message(token_scores(&logits, &targets, &options));
    for cap in [0.0, -1.0, f64::NAN, INFINITY] {
        let softmax = Softmax { temperature: 1.0, soft_cap: Some(cap) };
        let text = said(TokenOptions { softmax, ..plain });
        assert!(
            text.starts_with("token_scores: soft_cap must be a finite number above 0"),
            "{text}"
        );
        let text = message(token_logprobs(&logits, &targets, softmax));
        assert!(text.starts_with("token_logprobs: soft_cap"), "{text}");
        let text = message(row_loss(logits.copy().unwrap(), &targets, softmax, |_| unreachable!()));
        assert!(text.starts_with("row_loss: soft_cap"), "{text}");
    }
    let softmax = Softmax::from(0.0);
    assert!(said(TokenOptions { softmax, ..plain }).contains("temperature"));
    let text = said(TokenOptions { top_k: 5, ..plain });
    assert_eq!(text, "token_scores: top_k must be at most the vocabulary, got 5");
    let named = id_matrix(&[0, 1, 2, 4], 2, 2);
    let text = said(TokenOptions { named: Some(&named), ..plain });
    assert_eq!(
        text,
        "token_scores, named ids: token id 4 at position 3 is outside the vocabulary of 4"
    );
    let (hidden, head) = (matrix(&[0.0; 2], 2, 1, DType::F32), matrix(&[0.0; 4], 4, 1, DType::F32));
    let options = TokenOptions { named: Some(&named), ..plain };
    let text = message(linear_token_scores(&hidden, &head, &targets, &options));
    assert!(text.starts_with("linear_token_scores, named ids: token id 4 at position 3"), "{text}");
    let flat = ids(&[0, 1]);
    let text = said(TokenOptions { named: Some(&flat), ..plain });
    assert_eq!(text, "token_scores: named ids must be [2, n], ids of each row, got [2]");
    let wide = Tensor::zeros((2, 1), DType::I64, &Device::Cpu).unwrap();
    assert!(said(TokenOptions { named: Some(&wide), ..plain }).contains("u32"));
    let text = message(token_scores(&logits, &ids(&[3, 4]), &plain));
    assert!(text.starts_with("token_scores: token id 4 at position 1"), "{text}");
}
