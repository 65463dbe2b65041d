//! Teachers that are made of the student.

use candle_core::{DType, Device, Tensor};
use opd_advantage::ReverseKl;
use opd_kernels::moving_average;
use opd_loss::{Divergence, DivergenceObjective};
use opd_train::config::TeacherKind;

use crate::{
    signals::signal,
    steps::distilled,
    world::{
        STUDENT, TEACHER, assert_differ, assert_same, logprobs, objective, one_token, probabilities,
    },
};

pub(crate) fn a_teacher_that_agrees_teaches_nothing() {
    let (old, p) = (logprobs(&STUDENT, 1.0), probabilities(&STUDENT));
    let of = |teacher: &[f64]| signal(&ReverseKl::default(), &old, teacher, &p);
    assert_same(&of(&old), &[0.0; 5]);
    // One that is told more has another distribution.
    assert_differ(&of(&logprobs(&TEACHER, 1.0)), &[0.0; 5]);
    for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.5 }] {
        let divergence = DivergenceObjective::new(kind).unwrap();
        let of = |teacher: &[f64]| {
            objective(&divergence, &STUDENT, Some(teacher), &one_token(0.0, -1.0)).unwrap().1
        };
        assert_same(&of(&STUDENT), &[0.0; 5]);
        assert_differ(&of(&TEACHER), &[0.0; 5]);
    }
}

/// The average after three steps of a student that has moved away.
fn average(decay: f64) -> Vec<f64> {
    let tensor = |values: [f64; 5]| Tensor::new(&values, &Device::Cpu).unwrap();
    let (average, student) = (tensor(STUDENT), tensor(TEACHER));
    for _ in 0..3 {
        moving_average(&average, &student, decay).unwrap();
    }
    average.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

pub(crate) fn an_average_that_keeps_all_never_moves() {
    assert_eq!(average(1.0), STUDENT);
    let want: Vec<f64> = STUDENT
        .iter()
        .zip(TEACHER)
        .map(|(start, end)| end + 0.5f64.powi(3) * (start - end))
        .collect();
    assert_same(&average(0.5), &want);
}

pub(crate) fn a_frozen_teacher_does_not_follow() {
    let trained = |own: bool, decay: f64| {
        distilled(|distillation| {
            distillation.ema_decay = decay;
            if own {
                (distillation.kind, distillation.teacher) = (TeacherKind::Ema, None);
            }
        })
    };
    assert!(trained(false, 0.1) == trained(false, 0.9), "no decay moves a frozen teacher");
    assert!(trained(true, 0.1) != trained(true, 0.9), "a teacher that follows teaches otherwise");
}
