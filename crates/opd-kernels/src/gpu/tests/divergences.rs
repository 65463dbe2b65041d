use candle_core::{DType, Tensor, Var};
use opd_testkit::tensor;
use proptest::prelude::*;

use super::{DTYPES, agree, gradient, ids, matrix, unit, weighted};
use crate::{Divergence, divergence};

const KINDS: [Divergence; 8] = [
    Divergence::ForwardKl,
    Divergence::ReverseKl,
    Divergence::Jsd { beta: 0.0 },
    Divergence::Jsd { beta: 0.3 },
    Divergence::Jsd { beta: 1.0 },
    Divergence::SkewForwardKl { alpha: 0.1 },
    Divergence::SkewReverseKl { alpha: 0.1 },
    Divergence::SkewReverseKl { alpha: 0.0 },
];

fn all(student: &Tensor, teacher: &Tensor, ids: &Tensor, kind: Divergence, t: f64) -> Vec<Tensor> {
    let out = divergence(student, teacher, ids, kind, t).unwrap();
    let parts = [&out.divergence, &out.student_entropy, &out.student_logprobs];
    let terms: Vec<Tensor> =
        parts.iter().zip(50..).map(|(part, seed)| weighted(part, seed)).collect();
    let total = Tensor::stack(&terms, 0).unwrap().sum_all().unwrap();
    let dlogits = gradient(&total, student);
    vec![out.divergence, out.student_entropy, out.student_logprobs, out.teacher_logprobs, dlogits]
}

#[test]
fn all_kinds_and_dtypes() {
    for (rows, width) in [(2, 1), (3, 7), (2, 900)] {
        for dtype in DTYPES {
            for kind in KINDS {
                let student = matrix(rows, width, 1, 6.0, dtype);
                let teacher = matrix(rows, width, 2, 6.0, dtype);
                let ids = ids(rows, width, 3);
                agree(4.0 * unit(dtype), || all(&student, &teacher, &ids, kind, 1.3));
            }
        }
    }
}

#[test]
fn excluded_tokens_and_nan() {
    const INFINITY: f64 = f64::INFINITY;
    let student = [-INFINITY, 1.0, 2.0, 0.0, 40.0, 0.0, -1.0, -2.0, 1.0, f64::NAN, 0.0, 0.5];
    let teacher = [0.5, -INFINITY, 1.0, 2.0, 39.0, 1.0, -1.0, -INFINITY, 1.0, 0.0, 0.0, 0.5];
    for dtype in [DType::F64, DType::F32] {
        let [student, teacher] = [&student, &teacher]
            .map(|values| Var::from_tensor(&tensor(values, (3, 4), dtype)).unwrap());
        for kind in KINDS {
            for (ours, theirs) in [(&student, &teacher), (&teacher, &student)] {
                agree(2e-6, || all(ours, theirs, &ids(3, 4, 1), kind, 1.0));
            }
        }
    }
}

/// Rows long enough that threads keep sums of many packs, at every place relative to 16 bytes, with tokens
/// that are excluded on either side or on both, and a maximum that comes last.
#[test]
fn long_rows_with_excluded_tokens() {
    const WIDTH: usize = 9_001;
    const INFINITY: f64 = f64::INFINITY;
    let mut student = opd_testkit::numbers(5 * WIDTH, 1, 8.0);
    let mut teacher = opd_testkit::numbers(5 * WIDTH, 2, 8.0);
    student[WIDTH + 4_000..WIDTH + 6_000].fill(-INFINITY);
    teacher[WIDTH + 4_000..WIDTH + 6_000].fill(-INFINITY);
    student[2 * WIDTH + 100..2 * WIDTH + 7_000].fill(-INFINITY);
    teacher[3 * WIDTH + 8_000] = -INFINITY;
    // So unlikely that f32 has no number for it: the KL stays finite.
    student[3 * WIDTH + 8_000] = -500.0;
    student[4 * WIDTH + 8_999] = 60.0;
    teacher[4 * WIDTH + 8_990] = 55.0;
    for dtype in [DType::F32, DType::BF16] {
        let of = |values| Var::from_tensor(&tensor(values, (5, WIDTH), dtype)).unwrap();
        let (student, teacher) = (of(&student), of(&teacher));
        let targets = ids(5, WIDTH, 3);
        for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.5 }] {
            agree(4.0 * unit(dtype), || all(&student, &teacher, &targets, kind, 0.7));
        }
    }
}

/// The KL of rows that nearly agree, which a difference of log-sums in f32 would lose, against f64 on the CPU.
#[test]
fn small_divergences_keep_their_digits() {
    for (width, shift) in [(37, 0.0), (6_000, 0.0), (6_000, 2048.0)] {
        let student = opd_testkit::numbers(3 * width, 1, 5.0);
        let noise = opd_testkit::numbers(3 * width, 2, 1.0);
        let sizes = [1e-1, 1e-2, 2e-4];
        let teacher = student.iter().zip(&noise).enumerate();
        let teacher: Vec<f64> =
            teacher.map(|(i, (x, e))| x + shift + sizes[i / width] * e).collect();
        let [student, teacher] =
            [&student, &teacher].map(|values| tensor(values, (3, width), DType::F32));
        for kind in [Divergence::ReverseKl, Divergence::ForwardKl] {
            let targets = ids(3, width, 3);
            let run = |dtype| {
                let to = |of: &Tensor| of.to_dtype(dtype).unwrap();
                let out = divergence(&to(&student), &to(&teacher), &targets, kind, 0.9).unwrap();
                super::values(&out.divergence)
            };
            let want = run(DType::F64);
            assert!(want[2] < 3e-8 && want[2] > 1e-10, "{want:?}");
            if super::host::library().is_err() {
                return;
            }
            let got = super::host::run(false, || run(DType::F32));
            for (got, want) in got.iter().zip(&want) {
                assert!((got / want - 1.0).abs() < 1e-3, "{width} {shift}: {got}, not {want}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(
        rows in 1usize..4, width in 1usize..300, seed in 0u64..999, scale in 0.1f64..20.0,
        temperature in 0.3f64..3.0, kind in 0usize..8,
    ) {
        let student = matrix(rows, width, seed, scale, DType::F64);
        let teacher = matrix(rows, width, seed + 1, scale, DType::F64);
        let ids = ids(rows, width, seed);
        agree(1e-10, || all(&student, &teacher, &ids, KINDS[kind], temperature));
    }
}
