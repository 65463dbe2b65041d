//! However the batch is cut into micro-batches, loss and gradient are the same.

use candle_core::{DType, Tensor, Var};
use opd_kernels::CrossVocabulary;
use opd_loss::{
    Aggregation, Cispo, CrossEntropy, CrossVocabularyObjective, Direction, Divergence,
    DivergenceObjective, Gspo, LossBatch, Metric, MiniLlm, Objective, ObjectiveInputs, PolicyLoss,
    PolicyObjective, PpoClip, ReferenceKl, Support, Tail, TeacherStates, TopKObjective,
};
use proptest::prelude::*;

use super::{Batch, gradient, host, numbers, rows, scalar, var};

pub(super) const LENGTHS: [usize; 6] = [3, 1, 7, 2, 5, 4];
const VOCAB: usize = 9;

fn batch(aggregation: &Aggregation) -> LossBatch {
    streams().build(aggregation).unwrap()
}

pub(super) fn streams() -> Batch {
    let negative = |rows: Vec<Vec<f32>>| -> Vec<Vec<f32>> {
        rows.into_iter().map(|row| row.into_iter().map(|x| x - 2.0).collect()).collect()
    };
    let mask: Vec<Vec<bool>> = rows(&LENGTHS, 3, 1.0)
        .into_iter()
        .map(|row| row.into_iter().map(|x| x > -0.5).collect())
        .collect();
    let mut batch = Batch::new(negative(rows(&LENGTHS, 1, 1.0)), rows(&LENGTHS, 2, 2.0), mask);
    batch.reference = Some(negative(rows(&LENGTHS, 4, 1.0)));
    batch.ids = rows(&LENGTHS, 5, 0.5)
        .into_iter()
        .map(|row| row.into_iter().map(|x| ((x + 0.5) * VOCAB as f32) as u32).collect())
        .collect();
    batch
}

pub(super) fn aggregations() -> [Aggregation; 4] {
    [
        Aggregation::SequenceMeanTokenMean,
        Aggregation::TokenMean,
        Aggregation::TokenSum,
        Aggregation::SequenceMeanTokenSum { horizon: 8 },
    ]
}

/// A partition of the rows, in any order.
fn cut() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let order = Just((0..LENGTHS.len()).collect::<Vec<_>>()).prop_shuffle();
    (order, prop::collection::vec(any::<bool>(), LENGTHS.len())).prop_map(|(order, breaks)| {
        let mut parts: Vec<Vec<usize>> = vec![Vec::new()];
        for (row, new) in order.into_iter().zip(breaks) {
            if new && parts.last().is_some_and(|part| !part.is_empty()) {
                parts.push(Vec::new());
            }
            parts.last_mut().unwrap().push(row);
        }
        parts
    })
}

/// Packed places of the tokens of `rows`.
pub(super) fn places(batch: &LossBatch, rows: &[usize]) -> Tensor {
    let places = rows.iter().flat_map(|&row| batch.rows().range(row).unwrap());
    let places: Vec<u32> = places.map(|place| place as u32).collect();
    Tensor::from_slice(&places, places.len(), &candle_core::Device::Cpu).unwrap()
}

pub(super) fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    let norm = want.iter().map(|x| x * x).sum::<f64>().sqrt();
    let off: Vec<f64> = got.iter().zip(want).map(|(a, b)| (a - b).abs()).collect();
    let worst = off.iter().fold(0.0f64, |worst, x| worst.max(*x));
    assert!(worst <= tolerance * norm.max(1.0), "{what}: off by {worst:e}, norm {norm}");
}

pub(super) fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 1e-6 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn of_policy_losses(cut in cut()) {
        let losses: [Box<dyn PolicyLoss>; 3] =
            [Box::new(PpoClip::default()), Box::new(Gspo::default()), Box::new(Cispo::default())];
        for (loss, aggregation) in losses.iter().flat_map(|l| aggregations().map(|a| (l, a))) {
            for dtype in [DType::F64, DType::F32] {
                let batch = batch(&aggregation);
                let n = batch.n_tokens();
                let values: Vec<f64> = numbers(n, 9, 1.0).iter().map(|x| x - 2.0).collect();
                let student = var(&values, n, dtype);
                let whole = loss.loss(&student, &batch).unwrap().loss;
                let parts = cut.iter().map(|rows| {
                    let logprobs = student.index_select(&places(&batch, rows), 0).unwrap();
                    loss.loss(&logprobs, &batch.select(rows).unwrap()).unwrap().loss
                });
                let parts: Vec<Tensor> = parts.collect();
                let sum = parts.iter().map(scalar).sum::<f64>();
                close("loss", &[sum], &[scalar(&whole)], tolerance(dtype));
                let mut gathered = vec![0.0; n];
                for part in &parts {
                    for (sum, g) in gathered.iter_mut().zip(gradient(part, &student)) {
                        *sum += g;
                    }
                }
                close("gradient", &gathered, &gradient(&whole, &student), tolerance(dtype));
            }
        }
    }
}

struct Model {
    hidden: Var,
    head: Var,
    teacher_hidden: Var,
    teacher_head: Var,
}

fn run(
    objective: &dyn Objective,
    model: &Model,
    batch: &LossBatch,
    rows: &[usize],
) -> (f64, Vec<f64>, Vec<f64>, Vec<Metric>) {
    let places = places(batch, rows);
    let part = batch.select(rows).unwrap();
    let teacher = model.teacher_hidden.index_select(&places, 0).unwrap();
    let inputs = ObjectiveInputs {
        hidden: &model.hidden.index_select(&places, 0).unwrap(),
        head: (&model.head).into(),
        temperature: 0.9,
        batch: &part,
        teacher: Some(TeacherStates { hidden: &teacher, head: (&model.teacher_head).into() }),
    };
    let output = objective.compute(&inputs).unwrap();
    let store = output.loss.backward().unwrap();
    let of = |var: &Var| host(store.get(var).unwrap());
    (scalar(&output.loss), of(&model.hidden), of(&model.head), output.metrics)
}

#[test]
fn of_objectives_and_their_metrics() {
    let kl = ReferenceKl::new(0.3, opd_batch::KlEstimator::K3).unwrap();
    let policy = PolicyObjective::new(PpoClip::default()).with_entropy(0.1).unwrap();
    let top = |support, tail, direction| TopKObjective::new(3, support, tail, direction);
    let of = |divergence| DivergenceObjective::new(divergence).unwrap();
    let half = |v: usize| v.is_multiple_of(2).then_some(v as u32 / 2);
    let gold = CrossVocabulary {
        counterparts: (0..VOCAB).map(half).collect(),
        ..CrossVocabulary::unmatched(VOCAB)
    };
    let objectives: Vec<Box<dyn Objective>> = vec![
        Box::new(CrossVocabularyObjective::new(CrossVocabulary::unmatched(VOCAB))),
        Box::new(CrossVocabularyObjective::new(gold).with_entropy(0.1).unwrap()),
        Box::new(of(Divergence::SkewForwardKl { alpha: 0.1 })),
        Box::new(of(Divergence::SkewReverseKl { alpha: 0.1 })),
        Box::new(top(Support::Teacher, Tail::Bucket, Direction::Forward).unwrap()),
        Box::new(top(Support::Teacher, Tail::Renormalised, Direction::Reverse).unwrap()),
        Box::new(MiniLlm::new(0.7, PpoClip::default().clip).unwrap().with_entropy(0.1).unwrap()),
        Box::new(DivergenceObjective::mixed(0.3).unwrap()),
        Box::new(DivergenceObjective::total_variation()),
        Box::new(
            top(Support::Student, Tail::Bucket, Direction::Reverse)
                .and_then(|objective| objective.with_entropy(0.1))
                .unwrap(),
        ),
        Box::new(policy.with_reference_kl(kl)),
        Box::new(of(Divergence::ReverseKl)),
        Box::new(of(Divergence::ForwardKl)),
        Box::new(of(Divergence::Jsd { beta: 0.5 })),
        Box::new(CrossEntropy),
    ];
    let cuts: [&[&[usize]]; 3] =
        [&[&[0], &[1], &[2], &[3], &[4], &[5]], &[&[5, 0, 3], &[1, 2, 4]], &[&[4, 5, 1, 0, 2, 3]]];
    for (objective, aggregation) in objectives.iter().flat_map(|o| aggregations().map(|a| (o, a))) {
        let batch = batch(&aggregation);
        let tokens = batch.n_tokens();
        for dtype in [DType::F64, DType::F32] {
            let model = Model {
                hidden: var(&numbers(tokens * 5, 11, 1.0), (tokens, 5), dtype),
                head: var(&numbers(VOCAB * 5, 12, 1.0), (VOCAB, 5), dtype),
                teacher_hidden: var(&numbers(tokens * 3, 13, 1.0), (tokens, 3), dtype),
                teacher_head: var(&numbers(VOCAB * 3, 14, 1.0), (VOCAB, 3), dtype),
            };
            let all: Vec<usize> = (0..LENGTHS.len()).collect();
            let whole = run(objective.as_ref(), &model, &batch, &all);
            for cut in cuts {
                let mut sum = (0.0, vec![0.0; whole.1.len()], vec![0.0; whole.2.len()], Vec::new());
                for rows in cut {
                    let part = run(objective.as_ref(), &model, &batch, rows);
                    sum.0 += part.0;
                    sum.1.iter_mut().zip(part.1).for_each(|(sum, g)| *sum += g);
                    sum.2.iter_mut().zip(part.2).for_each(|(sum, g)| *sum += g);
                    Metric::merge(&mut sum.3, &part.3);
                }
                let tolerance = tolerance(dtype);
                let name = objective.name();
                close(name, &[sum.0], &[whole.0], tolerance);
                close(name, &sum.1, &whole.1, tolerance);
                close(name, &sum.2, &whole.2, tolerance);
                for (got, want) in sum.3.iter().zip(&whole.3) {
                    assert_eq!((got.name, got.count), (want.name, want.count));
                    close(got.name, &[got.mean()], &[want.mean()], tolerance);
                }
            }
        }
    }
}
