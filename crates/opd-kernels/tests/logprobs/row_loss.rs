//! The forms with gradients known by row against the general forms.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use opd_kernels::{
    TokenLogprobs, linear_row_loss, linear_token_logprobs, row_loss, token_logprobs,
};

use super::{assert_close, gradients, host, ids, matrix, numbers};

const TEMPERATURE: f64 = 0.8;

/// Rows of three chunks over this vocabulary.
const ROWS: usize = 130;
const VOCAB: usize = 120_000;

fn clipped(tokens: &TokenLogprobs, rows: Range<usize>) -> Result<Tensor> {
    let advantages: Vec<f64> = numbers(ROWS, 9, 1.0)[rows].to_vec();
    let advantages = Tensor::from_slice(&advantages, advantages.len(), &Device::Cpu)?;
    let advantages = advantages.to_dtype(tokens.logprobs.dtype())?;
    let ratio = (&tokens.logprobs + 12.0)?.exp()?;
    let gain = (&ratio * &advantages)?.minimum(&(ratio.clamp(0.8, 1.2)? * &advantages)?)?;
    (gain + (&tokens.entropy * 0.01)?)?.sum_all()? / ROWS as f64
}

#[test]
fn it_has_the_gradients_of_the_general_form() {
    // Chunks; rows that the head's gradient has room for, and a chunk; no more rows than that.
    for (rows, width, vocab) in [(ROWS, 3, VOCAB), (ROWS, 100, 60_000), (90, 100, 60_000)] {
        has_the_gradients_of_the_general_form(rows, width, vocab);
    }
}

fn has_the_gradients_of_the_general_form(n: usize, width: usize, vocab: usize) {
    let targets: Vec<u32> = (0..n).map(|i| (i * 911 % vocab) as u32).collect();
    let targets = ids(&targets);
    let hidden = matrix(&numbers(n * width, 1, 1.5), n, width, DType::F32);
    let head = matrix(&numbers(vocab * width, 2, 1.5), vocab, width, DType::F32);
    let whole = linear_token_logprobs(&hidden, &head, &targets, TEMPERATURE).unwrap();
    let want = clipped(&whole, 0..n).unwrap();
    let mut seen = Vec::new();
    let got = linear_row_loss(&hidden, &head, &targets, TEMPERATURE, |rows, tokens| {
        seen.push(rows.clone());
        clipped(tokens, rows)
    });
    let got = got.unwrap();
    assert_eq!(seen.iter().map(Range::len).sum::<usize>(), n, "{seen:?}");
    assert!(seen.len() > 1 || n < ROWS, "{seen:?}");
    assert_eq!(host(&got.tokens.logprobs), host(&whole.logprobs));
    assert_eq!(host(&got.tokens.entropy), host(&whole.entropy));
    assert_close("loss", &host(&got.loss), &host(&want), |_| 1e-6);
    let ready = [got.hidden_gradient, got.head_gradient].map(|gradient| host(&gradient.unwrap()));
    let [want, got] = [want, got.loss].map(|loss| gradients(&loss, &[&hidden, &head]));
    // The loss gives each row the same gradient in either form, and so do the products; sums over rows are
    // first of those of a chunk.
    assert!(got[0] == want[0], "other bits");
    match seen.len() {
        1 => assert!(got[1] == want[1], "other bits of the head"),
        _ => {
            let largest = want[1].iter().fold(0.0f64, |largest, g| largest.max(g.abs()));
            assert_close("head", &got[1], &want[1], |_| 1e-6 * largest);
        }
    }
    assert!(ready == [got[0].clone(), got[1].clone()], "gradients that backward does not have");
    assert!(got[1].iter().any(|g| *g != 0.0));
}

#[test]
fn a_loss_of_it_scales_the_gradients_and_frozen_heads_have_none() {
    let hidden = matrix(&numbers(8, 1, 1.0), 4, 2, DType::F64);
    let head = matrix(&numbers(10, 2, 1.0), 5, 2, DType::F64);
    let targets = ids(&[0, 4, 2, 2]);
    let frozen = head.as_detached_tensor();
    let run = |head: &Tensor| {
        linear_row_loss(&hidden, head, &targets, 1.0, |_, tokens| tokens.logprobs.sum_all())
            .unwrap()
    };
    assert!(run(&frozen).head_gradient.is_none());
    let [once, both] = [(run(&frozen).loss * 3.0).unwrap(), run(&head).loss];
    let store = once.backward().unwrap();
    assert!(store.get(&frozen).is_none());
    let want = gradients(&both, &[&hidden]).remove(0);
    let want: Vec<f64> = want.iter().map(|g| 3.0 * g).collect();
    assert_eq!(host(store.get(hidden.as_tensor()).unwrap()), want);
}

#[test]
fn no_rows_and_a_loss_that_fails() {
    let (hidden, head) = (matrix(&[], 0, 2, DType::F32), matrix(&[1.0; 6], 3, 2, DType::F32));
    let none = Tensor::zeros(0, DType::U32, &Device::Cpu).unwrap();
    let out = linear_row_loss(&hidden, &head, &none, 1.0, |_, _| unreachable!()).unwrap();
    assert_eq!((host(&out.loss), out.tokens.lse.dims()), (vec![0.0], &[0][..]));
    let hidden = matrix(&[1.0, 2.0], 1, 2, DType::F32);
    let failed = linear_row_loss(&hidden, &head, &ids(&[1]), 1.0, |_, _| {
        Err(candle_core::Error::Msg("no advantages".into()))
    });
    assert!(failed.unwrap_err().to_string().contains("no advantages"));
}

#[test]
fn logits_that_are_given_up_become_their_gradient() {
    // Wider than a block, and not.
    for (width, dtype) in [(37, DType::F32), (1500, DType::F32), (1500, DType::F64)] {
        let logits = matrix(&numbers(ROWS * width, 3, 6.0), ROWS, width, dtype);
        let targets: Vec<u32> = (0..ROWS as u32).map(|i| i * 911 % width as u32).collect();
        let targets = ids(&targets);
        let whole = token_logprobs(&logits, &targets, TEMPERATURE).unwrap();
        let loss = clipped(&whole, 0..ROWS).unwrap();
        let want = gradients(&loss, &[&logits]).remove(0);
        let given = logits.copy().unwrap();
        let shared = given.clone();
        let got =
            row_loss(given, &targets, TEMPERATURE, |tokens| clipped(tokens, 0..ROWS)).unwrap();
        assert_eq!(host(&got.loss), host(&loss));
        assert_eq!(host(&got.tokens.logprobs), host(&whole.logprobs));
        assert!(host(&got.gradient) == want, "other bits");
        assert!(host(&shared) == want, "another place");
    }
}

#[test]
fn half_precision_logits_get_a_rounded_gradient() {
    let logits = matrix(&numbers(12, 3, 4.0), 3, 4, DType::F32);
    let rounded = logits.to_dtype(DType::BF16).unwrap();
    let wide = rounded.to_dtype(DType::F32).unwrap();
    let targets = ids(&[1, 0, 3]);
    let run = |logits: Tensor| {
        row_loss(logits, &targets, 1.0, |tokens| tokens.logprobs.sum_all()).unwrap()
    };
    let (got, want) = (run(rounded), run(wide));
    assert_eq!(host(&got.loss), host(&want.loss));
    let want = want.gradient.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap();
    assert_eq!(host(&got.gradient.to_dtype(DType::F32).unwrap()), host(&want));
}

#[test]
fn a_loss_that_fails_leaves_the_logits() {
    let logits = matrix(&numbers(8, 3, 4.0), 2, 4, DType::F32).copy().unwrap();
    let before = host(&logits);
    let failed = row_loss(logits.clone(), &ids(&[1, 2]), 1.0, |_| {
        Err(candle_core::Error::Msg("no advantages".into()))
    });
    assert!(failed.unwrap_err().to_string().contains("no advantages"));
    let refused = row_loss(logits.clone(), &ids(&[1, 4]), 1.0, |_| unreachable!());
    assert!(refused.unwrap_err().to_string().contains('4'));
    assert_eq!(host(&logits), before);
}
