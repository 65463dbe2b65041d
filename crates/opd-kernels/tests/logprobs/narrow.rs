//! Heads and hidden states in bf16 and f16: logits are the f32 sums of the f32 products of the same
//! values, and so is all that follows; gradients are rounded once.

use candle_core::{DType, Device, Tensor, Var};
use opd_kernels::{
    Divergence, EncodedMatrix, Head, HeadGradient, Projection, RowQuery, TokenLogprobs,
    linear_divergence, linear_row_logprobs, linear_row_loss, linear_support_logprobs,
    linear_token_logprobs, linear_total_variation,
};
use opd_testkit::{host, numbers, tensor};

const NARROW: [DType; 2] = [DType::BF16, DType::F16];
/// With [`VOCAB`], rows of two chunks where they come whole, else of several parts.
const ROWS: usize = 110;
const WIDTH: usize = 9;
const VOCAB: usize = 50_000;

fn of(rows: usize, seed: u64, dtype: DType) -> Tensor {
    tensor(&numbers(rows * WIDTH, seed, 1.0), (rows, WIDTH), dtype)
}

fn ids() -> Tensor {
    let ids: Vec<u32> = (0..ROWS as u32).map(|i| i * 31 % VOCAB as u32).collect();
    Tensor::new(ids, &Device::Cpu).unwrap()
}

/// Runs `work` on hidden states and heads of student and teacher in `dtype`, and on the same values in
/// f32: outputs, then gradients in hidden states and head.
fn is_rounded(dtype: DType, work: impl Fn(Projection<'_>, Projection<'_>) -> Vec<Tensor>) {
    let stored = [of(ROWS, 1, dtype), of(VOCAB, 2, dtype), of(ROWS, 3, dtype), of(VOCAB, 4, dtype)];
    let run = |inputs: [Tensor; 4]| {
        let [hidden, head] = [0, 1].map(|i| Var::from_tensor(&inputs[i]).unwrap());
        let student = Projection::new(&hidden, &head);
        let outputs = work(student, Projection::new(&inputs[2], &inputs[3]));
        let weighted = outputs.iter().enumerate().map(|(i, output)| {
            let n = output.elem_count();
            let weights = tensor(&numbers(n, 10 + i as u64, 1.0), output.dims(), DType::F32);
            (output * weights).unwrap().sum_all().unwrap()
        });
        let sum = weighted.reduce(|a, b| (a + b).unwrap()).unwrap();
        let gradients = sum.backward().unwrap();
        let of = |var: &Var| gradients.get(var).unwrap().clone();
        (outputs, [of(&hidden), of(&head)])
    };
    let wide = stored.each_ref().map(|t| t.to_dtype(DType::F32).unwrap());
    let ((got, got_gradients), (want, want_gradients)) = (run(stored), run(wide));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!(got.dtype(), DType::F32);
        assert_eq!(host(got), host(want), "{dtype:?}: output {i}");
    }
    for (i, (got, want)) in got_gradients.iter().zip(&want_gradients).enumerate() {
        assert_eq!(got.dtype(), dtype);
        let want = want.to_dtype(dtype).unwrap();
        assert_eq!(host(got), host(&want), "{dtype:?}: gradient {i}");
    }
}

fn statistics(tokens: TokenLogprobs) -> Vec<Tensor> {
    vec![tokens.logprobs, tokens.lse, tokens.entropy]
}

#[test]
fn log_probs() {
    for dtype in NARROW {
        is_rounded(dtype, |Projection { hidden, head }, _| {
            statistics(linear_token_logprobs(hidden, head, &ids(), 0.7).unwrap())
        });
        let several = ids().reshape((ROWS / 2, 2)).unwrap();
        let several = Tensor::cat(&[&several, &several], 0).unwrap();
        is_rounded(dtype, |Projection { hidden, head }, _| {
            let got = linear_support_logprobs(hidden, head, &several, 0.7).unwrap();
            vec![got.logprobs, got.entropy]
        });
    }
}

#[test]
fn losses_of_rows() {
    let run = |hidden: &Tensor, head: &Tensor| {
        let [hidden, head] = [hidden, head].map(|t| Var::from_tensor(t).unwrap());
        let got = linear_row_loss(&hidden, &head, &ids(), 0.7, |_, tokens| {
            tokens.logprobs.sum_all()? / -(ROWS as f64)
        });
        let got = got.unwrap();
        let values = statistics(got.tokens).into_iter().chain([got.loss]).collect::<Vec<_>>();
        (values, [got.hidden_gradient.unwrap(), got.head_gradient.unwrap()])
    };
    for dtype in NARROW {
        let (hidden, head) = (of(ROWS, 1, dtype), of(VOCAB, 2, dtype));
        let [wide, wide_head] = [&hidden, &head].map(|t| t.to_dtype(DType::F32).unwrap());
        let ((got, gradients), (want, wide)) = (run(&hidden, &head), run(&wide, &wide_head));
        for (got, want) in got.iter().zip(&want) {
            assert_eq!((got.dtype(), host(got)), (DType::F32, host(want)));
        }
        for (got, want) in gradients.iter().zip(&wide) {
            assert_eq!((got.dtype(), host(got)), (dtype, host(&want.to_dtype(dtype).unwrap())));
        }
    }
}

#[test]
fn divergences() {
    for dtype in NARROW {
        for kind in [Divergence::ForwardKl, Divergence::ReverseKl, Divergence::Jsd { beta: 0.4 }] {
            is_rounded(dtype, |student, teacher| {
                let got = linear_divergence(student, teacher, &ids(), kind, 0.7).unwrap();
                vec![got.divergence, got.student_logprobs]
            });
        }
        is_rounded(dtype, |student, teacher| {
            vec![linear_total_variation(student, teacher, &ids(), 0.7).unwrap().divergence]
        });
    }
}

#[test]
fn answers_to_queries() {
    let query = RowQuery { temperature: 0.7, ids: &[3, 900], top: 4, rank: true };
    let queries = vec![query; ROWS];
    for dtype in NARROW {
        let (hidden, head) = (of(ROWS, 1, dtype), of(VOCAB, 2, dtype));
        let [wide, wide_head] = [&hidden, &head].map(|t| t.to_dtype(DType::F32).unwrap());
        let got = linear_row_logprobs(&hidden, &head, &queries).unwrap();
        assert_eq!(got, linear_row_logprobs(&wide, &wide_head, &queries).unwrap());
    }
}

#[test]
fn a_gathered_gradient_of_a_head_is_the_sum_of_rounded_parts() {
    let dtype = DType::BF16;
    let hidden = Var::from_tensor(&of(ROWS, 1, dtype)).unwrap();
    let weight = Var::from_tensor(&of(VOCAB, 2, dtype)).unwrap();
    let gathered = HeadGradient::default();
    let loss = |head: Head<'_>| {
        let tokens = linear_token_logprobs(&hidden, head, &ids(), 1.0).unwrap();
        tokens.logprobs.sum_all().unwrap().backward().unwrap()
    };
    let plain = loss((&weight).into()).get(&weight).unwrap().clone();
    let head = Head { gradient: Some(&gathered), ..Head::from(&weight) };
    assert!(loss(head).get(&weight).is_none());
    loss(head);
    let twice = gathered.take().unwrap();
    assert_eq!(host(&twice), host(&(&plain + &plain).unwrap()));
}

#[test]
fn heads_as_files_have_them_meet_f32_alone() {
    let bytes = vec![0u8; 2 * VOCAB * WIDTH];
    let parts = vec![(candle_core::quantized::GgmlDType::BF16, bytes)];
    let head = EncodedMatrix::new(parts, WIDTH).unwrap();
    let error = linear_token_logprobs(&of(ROWS, 1, DType::BF16), &head, &ids(), 1.0).unwrap_err();
    assert!(error.to_string().contains("hidden is BF16"), "{error}");
}
