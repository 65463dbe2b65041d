//! Losses of divergences whose gradients are known by row, against the general forms.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use opd_kernels::{
    Divergence, DivergenceOutput, Projection, divergence, linear_divergence,
    linear_divergence_loss, row_divergence_loss,
};

use super::{assert_close, gradients, host, ids, matrix, numbers};

const TEMPERATURE: f64 = 0.8;
const KINDS: [Divergence; 4] = [
    Divergence::ReverseKl,
    Divergence::ForwardKl,
    Divergence::Jsd { beta: 0.3 },
    Divergence::SkewReverseKl { alpha: 0.1 },
];

/// Rows of three chunks over this vocabulary.
const ROWS: usize = 130;
const VOCAB: usize = 120_000;

fn loss(tokens: &DivergenceOutput, rows: Range<usize>) -> Result<Tensor> {
    let weights: Vec<f64> = numbers(ROWS, 9, 1.0)[rows].to_vec();
    let weights = Tensor::from_slice(&weights, weights.len(), &Device::Cpu)?;
    let weights = weights.to_dtype(tokens.divergence.dtype())?;
    let capped = tokens.divergence.minimum(2.0)?;
    let sum = ((capped + (&tokens.student_entropy * 0.1)?)? + &tokens.student_logprobs)?;
    (sum * weights)?.sum_all()? / ROWS as f64
}

fn targets(vocab: usize) -> Tensor {
    ids(&(0..ROWS as u32).map(|i| i * 911 % vocab as u32).collect::<Vec<_>>())
}

#[test]
fn heads_have_the_gradients_of_the_general_form() {
    let matrix = |rows, width, seed| {
        super::matrix(&numbers(rows * width, seed, 1.5), rows, width, DType::F32)
    };
    let (hidden, head) = (matrix(ROWS, 3, 1), matrix(VOCAB, 3, 2));
    let (their_hidden, their_head) = (matrix(ROWS, 2, 3), matrix(VOCAB, 2, 4));
    let student = Projection::new(&hidden, &head);
    let teacher = Projection::new(&their_hidden, &their_head);
    let (targets, kind) = (targets(VOCAB), Divergence::ReverseKl);
    let whole = linear_divergence(student, teacher, &targets, kind, TEMPERATURE).unwrap();
    let want = loss(&whole, 0..ROWS).unwrap();
    let mut seen = Vec::new();
    let got =
        linear_divergence_loss(student, teacher, &targets, kind, TEMPERATURE, |rows, tokens| {
            seen.push(rows.clone());
            loss(tokens, rows)
        });
    let got = got.unwrap();
    assert!(seen.len() > 1 && seen.iter().map(Range::len).sum::<usize>() == ROWS, "{seen:?}");
    assert_eq!(host(&got.tokens.divergence), host(&whole.divergence));
    assert_eq!(host(&got.tokens.teacher_logprobs), host(&whole.teacher_logprobs));
    assert_close("loss", &host(&got.loss), &host(&want), |_| 1e-6);
    let ready = [got.hidden_gradient, got.head_gradient].map(|gradient| host(&gradient.unwrap()));
    let [want, got] = [want, got.loss].map(|loss| gradients(&loss, &[&hidden, &head]));
    // The loss gives each row the same gradient in either form, and so do the products.
    assert!(got == want, "other bits");
    assert!(ready == [got[0].clone(), got[1].clone()], "gradients that backward does not have");
    assert!(got.iter().flatten().any(|g| *g != 0.0));
}

#[test]
fn a_frozen_head_has_no_gradient_and_no_rows_no_loss() {
    let (hidden, head) = (matrix(&numbers(8, 1, 1.0), 4, 2, DType::F64), numbers(10, 2, 1.0));
    let frozen = matrix(&head, 5, 2, DType::F64).as_detached_tensor();
    let student = Projection::new(&hidden, &frozen);
    let run = |student: Projection<'_>, targets: &[u32]| {
        linear_divergence_loss(student, student, &ids(targets), KINDS[0], 1.0, |_, tokens| {
            tokens.divergence.sum_all()
        })
        .unwrap()
    };
    let out = run(student, &[0, 4, 2, 2]);
    assert!(out.head_gradient.is_none());
    // A model does not differ from itself.
    assert!(host(&out.loss)[0].abs() < 1e-15);
    assert!(host(&out.hidden_gradient.unwrap()).iter().all(|g| g.abs() < 1e-15));
    let none = hidden.narrow(0, 0, 0).unwrap();
    let out = run(Projection::new(&none, &frozen), &[]);
    assert_eq!((host(&out.loss), out.tokens.divergence.dims()), (vec![0.0], &[0][..]));
}

#[test]
fn logits_that_are_given_up_become_their_gradient() {
    // Wider than a block, and not.
    for (width, dtype) in [(37, DType::F32), (1500, DType::F32), (1500, DType::F64)] {
        for kind in KINDS {
            let logits = matrix(&numbers(ROWS * width, 3, 6.0), ROWS, width, dtype);
            let teacher = matrix(&numbers(ROWS * width, 4, 6.0), ROWS, width, dtype);
            let targets = targets(width);
            let whole = divergence(&logits, &teacher, &targets, kind, TEMPERATURE).unwrap();
            let want_loss = loss(&whole, 0..ROWS).unwrap();
            let want = gradients(&want_loss, &[&logits]).remove(0);
            let given = logits.copy().unwrap();
            let shared = given.clone();
            let got = row_divergence_loss(given, &teacher, &targets, kind, TEMPERATURE, |tokens| {
                loss(tokens, 0..ROWS)
            });
            let got = got.unwrap();
            assert_eq!(host(&got.loss), host(&want_loss));
            assert_eq!(host(&got.tokens.student_entropy), host(&whole.student_entropy));
            assert!(host(&got.gradient) == want, "other bits");
            assert!(host(&shared) == want, "another place");
        }
    }
}

#[test]
fn half_precision_logits_get_a_rounded_gradient() {
    let rounded = |seed| {
        let values = matrix(&numbers(12, seed, 4.0), 3, 4, DType::F32);
        values.to_dtype(DType::BF16).unwrap()
    };
    let run = |dtype| {
        let [student, teacher] = [rounded(3), rounded(4)].map(|of| of.to_dtype(dtype).unwrap());
        let student = student.copy().unwrap();
        row_divergence_loss(student, &teacher, &ids(&[1, 0, 3]), KINDS[0], 1.0, |tokens| {
            tokens.divergence.sum_all()
        })
        .unwrap()
    };
    let (got, want) = (run(DType::BF16), run(DType::F32));
    assert_eq!(got.gradient.dtype(), DType::BF16);
    assert_eq!(host(&got.loss), host(&want.loss));
    assert_eq!(host(&got.gradient), host(&want.gradient.to_dtype(DType::BF16).unwrap()));
}

#[test]
fn what_is_refused_leaves_the_logits() {
    let logits = matrix(&numbers(8, 3, 4.0), 2, 4, DType::F32).copy().unwrap();
    let teacher = matrix(&numbers(8, 4, 4.0), 2, 4, DType::F32);
    let before = host(&logits);
    let failed =
        row_divergence_loss(logits.clone(), &teacher, &ids(&[1, 2]), KINDS[0], 1.0, |_| {
            Err(candle_core::Error::Msg("no weights".into()))
        });
    assert!(failed.unwrap_err().to_string().contains("no weights"));
    for (teacher, targets, said) in [
        (teacher.as_tensor(), [1, 4], "token id 4 at position 1"),
        (&logits, [1, 2], "student and teacher share their storage; give teacher a copy"),
        (&teacher.narrow(1, 0, 3).unwrap(), [1, 2], "over the student's vocabulary of 4"),
    ] {
        let refused = row_divergence_loss(
            logits.clone(),
            teacher,
            &ids(&targets),
            KINDS[0],
            1.0,
            |_| unreachable!(),
        );
        let got = refused.unwrap_err().to_string();
        assert!(got.contains(said), "{got}");
    }
    assert_eq!(host(&logits), before);
}
