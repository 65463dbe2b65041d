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
