//! Objectives against the same thing written out in plain candle.

use candle_core::{D, DType, Tensor};
use opd_batch::KlEstimator;
use opd_kernels::reference;
use opd_loss::{
    Aggregation, CrossEntropy, Divergence, DivergenceObjective, ImportanceSampling, LossBatch,
    Metric, Needs, Objective, ObjectiveInputs, PolicyObjective, ReferenceKl, TeacherStates,
};

use super::{Batch, assert_close, host, numbers, scalar, var};

const TOKENS: usize = 6;
const VOCAB: usize = 7;
const TEMPERATURE: f64 = 0.8;

struct World {
    hidden: candle_core::Var,
    head: candle_core::Var,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    batch: LossBatch,
}

impl World {
    fn new() -> Self {
        let old = vec![vec![-1.0, -2.5, -0.3, -1.5], vec![-2.0, -1.2]];
        let advantages = vec![vec![1.0, -0.5, 2.0, 0.7], vec![-1.5, 0.25]];
        let mask = vec![vec![true, true, false, true], vec![true, true]];
        let mut batch = Batch::new(old, advantages, mask);
        batch.reference = Some(vec![vec![-1.1, -2.0, -0.2, -1.9], vec![-2.2, -1.0]]);
        batch.ids = vec![vec![0, 6, 3, 2], vec![5, 1]];
        let teacher =
            |values: Vec<f64>, rows| var(&values, (rows, 2), DType::F64).as_detached_tensor();
        Self {
            hidden: var(&numbers(TOKENS * 3, 1, 1.0), (TOKENS, 3), DType::F64),
            head: var(&numbers(VOCAB * 3, 2, 1.0), (VOCAB, 3), DType::F64),
            teacher_hidden: teacher(numbers(TOKENS * 2, 3, 1.0), TOKENS),
            teacher_head: teacher(numbers(VOCAB * 2, 4, 1.0), VOCAB),
            batch: batch.build(&Aggregation::TokenMean).unwrap(),
        }
    }

    fn inputs(&self) -> ObjectiveInputs<'_> {
        ObjectiveInputs {
            hidden: &self.hidden,
            head: (&self.head).into(),
            temperature: TEMPERATURE,
            batch: &self.batch,
            teacher: Some(TeacherStates {
                hidden: &self.teacher_hidden,
                head: (&self.teacher_head).into(),
            }),
        }
    }

    fn stream(&self, values: &[f32]) -> Tensor {
        let values = Tensor::from_slice(values, values.len(), self.hidden.device()).unwrap();
        values.to_dtype(DType::F64).unwrap()
    }

    fn logits(&self) -> Tensor {
        self.hidden.matmul(&self.head.t().unwrap()).unwrap()
    }

    fn log_p(&self) -> Tensor {
        reference::log_softmax(&self.logits(), TEMPERATURE).unwrap().0
    }

    fn logprobs(&self) -> Tensor {
        let targets = self.batch.targets().values();
        let ids = Tensor::from_slice(targets, (TOKENS, 1), self.hidden.device()).unwrap();
        self.log_p().gather(&ids, 1).unwrap().squeeze(1).unwrap()
    }

    fn entropy(&self) -> Tensor {
        let log_p = self.log_p();
        (log_p.exp().unwrap() * log_p).unwrap().sum(D::Minus1).unwrap().neg().unwrap()
    }

    fn check(&self, objective: &dyn Objective, per_token: Tensor) -> Vec<Metric> {
        let want = (per_token * self.stream(self.batch.weights().values())).unwrap();
        let want = want.sum_all().unwrap();
        let output = objective.compute(&self.inputs()).unwrap();
        let close = |got: &[f64], want: &[f64]| {
            assert_close(objective.name(), got, want, |_| 1e-7);
        };
        close(&[scalar(&output.loss)], &[scalar(&want)]);
        let (got, wanted) = (output.loss.backward().unwrap(), want.backward().unwrap());
        for var in [&self.hidden, &self.head] {
            close(&host(got.get(var).unwrap()), &host(wanted.get(var).unwrap()));
        }
        close(&host(&output.student_logprobs), &self.trained(&self.logprobs()));
        close(&host(&output.entropy), &self.trained(&self.entropy()));
        assert!(!output.student_logprobs.track_op() && !output.entropy.track_op());
        output.metrics
    }

    /// The values, 0 where a token is not trained.
    fn trained(&self, values: &Tensor) -> Vec<f64> {
        let pairs = host(values).into_iter().zip(self.batch.mask().values());
        pairs.map(|(value, &trained)| if trained { value } else { 0.0 }).collect()
    }

    fn mean(&self, values: &Tensor) -> f64 {
        let trained = host(values).into_iter().zip(self.batch.mask().values());
        let trained: Vec<f64> = trained.filter(|(_, m)| **m).map(|(value, _)| value).collect();
        trained.iter().sum::<f64>() / trained.len() as f64
    }

    fn check_metrics(&self, metrics: &[Metric], want: &[(&str, f64)]) {
        let names: Vec<&str> = metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(names, want.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (metric, (name, want)) in metrics.iter().zip(want) {
            assert_eq!(metric.count, 5.0, "{name}");
            assert_close(name, &[metric.mean()], &[*want], |_| 1e-6);
        }
    }
}

#[test]
fn policy_with_entropy_and_reference() {
    let world = World::new();
    let kl = ReferenceKl::new(0.2, KlEstimator::K2).unwrap();
    let objective = PolicyObjective::new(ImportanceSampling);
    let objective = objective.with_entropy(0.05).unwrap().with_reference_kl(kl);
    assert!(objective.needs().reference_logprobs && !objective.needs().teacher_distribution);
    let old = world.stream(world.batch.old_logprobs().values());
    let reference = world.batch.reference_logprobs("test").unwrap().values();
    let log_ratio = (world.logprobs() - &old).unwrap();
    let ratio = log_ratio.exp().unwrap();
    let advantages = world.stream(world.batch.advantages().values());
    let d = (world.logprobs() - world.stream(reference)).unwrap();
    let per_token = (((&ratio * advantages).unwrap().neg().unwrap()
        - (world.entropy() * 0.05).unwrap())
    .unwrap()
        + (d.sqr().unwrap() * f64::from(0.2f32 / 2.0)).unwrap())
    .unwrap();
    let metrics = world.check(&objective, per_token);
    world.check_metrics(
        &metrics,
        &[
            ("ratio", world.mean(&ratio)),
            ("clip_fraction", 0.0),
            ("kl_old", -world.mean(&log_ratio)),
            ("entropy", world.mean(&world.entropy())),
            ("kl_reference", world.mean(&d)),
        ],
    );
}

#[test]
fn divergences() {
    let world = World::new();
    for kind in [Divergence::ReverseKl, Divergence::ForwardKl, Divergence::Jsd { beta: 0.3 }] {
        let objective = DivergenceObjective::new(kind).unwrap().with_entropy(0.1).unwrap();
        assert!(objective.needs().teacher_distribution);
        let teacher = world.teacher_hidden.matmul(&world.teacher_head.t().unwrap()).unwrap();
        let targets = world.batch.targets().values();
        let ids = Tensor::from_slice(targets, TOKENS, world.hidden.device()).unwrap();
        let want = reference::divergence(&world.logits(), &teacher, &ids, kind, TEMPERATURE);
        let want = want.unwrap();
        let per_token = (&want.divergence - (world.entropy() * 0.1).unwrap()).unwrap();
        let metrics = world.check(&objective, per_token);
        let sampled = (&want.student_logprobs - &want.teacher_logprobs).unwrap();
        let reference = world.batch.reference_logprobs("test").unwrap().values();
        let d = (world.logprobs() - world.stream(reference)).unwrap();
        world.check_metrics(
            &metrics,
            &[
                ("divergence", world.mean(&want.divergence)),
                ("kl_teacher", world.mean(&sampled)),
                ("entropy", world.mean(&world.entropy())),
                ("kl_reference", world.mean(&d)),
            ],
        );
    }
}

#[test]
fn cross_entropy() {
    let world = World::new();
    assert_eq!(CrossEntropy.needs(), Needs::default());
    let nll = world.logprobs().neg().unwrap();
    let metrics = world.check(&CrossEntropy, nll.clone());
    assert_eq!(metrics[0].name, "cross_entropy");
    assert_close("cross_entropy", &[metrics[0].mean()], &[world.mean(&nll)], |_| 1e-12);
}
