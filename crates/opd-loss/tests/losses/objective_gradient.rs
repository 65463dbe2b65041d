//! Central differences in f64 of objectives that compare distributions, with respect to hidden
//! states and head, on each side of each branch.

use std::collections::BTreeSet;

use candle_core::{DType, Tensor, Var};
use opd_batch::Ragged;
use opd_kernels::{CrossVocabulary, reference};
use opd_loss::{
    Aggregation, CrossEntropy, CrossVocabularyObjective, Direction, Divergence,
    DivergenceObjective, LossBatch, Objective, ObjectiveInputs, Support, Tail, TeacherStates,
    TopKObjective,
};

use super::{assert_differences, host, numbers, var};

const TOKENS: usize = 6;
const VOCAB: usize = 7;
const WIDTH: usize = 3;
const K: usize = 3;
const TEMPERATURE: f64 = 0.8;

/// A student and a teacher that nearly agrees, over two sequences with a masked token.
struct World {
    hidden: Vec<f64>,
    head: Vec<f64>,
    teacher_hidden: Tensor,
    teacher_head: Tensor,
    batch: LossBatch,
}

impl World {
    /// Hidden states of some tokens times `sharpness`: of the student's, of the teacher's, of
    /// both, of neither. The teacher has `their_vocab` ids.
    fn new(sharpness: f64, their_vocab: usize) -> Self {
        let sharp = |values: Vec<f64>, tokens: [usize; 2]| -> Vec<f64> {
            let factor = |i: usize| if tokens.contains(&(i / WIDTH)) { sharpness } else { 1.0 };
            values.into_iter().enumerate().map(|(i, x)| x * factor(i)).collect()
        };
        let near = |values: &[f64], seed: u64| -> Vec<f64> {
            values.iter().zip(numbers(values.len(), seed, 0.1)).map(|(x, e)| x + e).collect()
        };
        let hidden = numbers(TOKENS * WIDTH, 11, 1.0);
        let head = numbers(VOCAB.max(their_vocab) * WIDTH, 12, 1.0);
        let theirs = near(&head, 14)[..their_vocab * WIDTH].to_vec();
        let detached = |values: &[f64], rows: usize| {
            var(values, (rows, WIDTH), DType::F64).as_detached_tensor()
        };
        let targets = Ragged::from_rows([vec![0, 6, 3, 2], vec![5, 1]]);
        let mask = Ragged::from_rows([vec![true; 4], vec![false, true]]);
        Self {
            teacher_hidden: detached(&sharp(near(&hidden, 13), [2, 3]), TOKENS),
            teacher_head: detached(&theirs, their_vocab),
            hidden: sharp(hidden, [1, 3]),
            head: head[..VOCAB * WIDTH].to_vec(),
            batch: LossBatch::supervised(targets, mask, &Aggregation::TokenMean).unwrap(),
        }
    }

    fn loss(&self, objective: &dyn Objective, hidden: &Var, head: &Var) -> Tensor {
        let teacher =
            TeacherStates { hidden: &self.teacher_hidden, head: (&self.teacher_head).into() };
        let inputs = ObjectiveInputs {
            hidden,
            head: head.as_tensor().into(),
            temperature: TEMPERATURE,
            batch: &self.batch,
            teacher: Some(teacher),
        };
        objective.compute(&inputs).unwrap().loss
    }

    fn check(&self, what: &str, objective: &dyn Objective) {
        let hidden = var(&self.hidden, (TOKENS, WIDTH), DType::F64);
        let head = var(&self.head, (VOCAB, WIDTH), DType::F64);
        let of_hidden = |x: &Var| self.loss(objective, x, &head);
        assert_differences(&format!("{what}, hidden"), &self.hidden, (TOKENS, WIDTH), of_hidden);
        let of_head = |x: &Var| self.loss(objective, &hidden, x);
        assert_differences(&format!("{what}, head"), &self.head, (VOCAB, WIDTH), of_head);
    }

    /// Probabilities of each trained token, of student and teacher.
    fn probabilities(&self) -> Vec<[Vec<f64>; 2]> {
        let of = |hidden: &Tensor, head: &Tensor| -> Vec<Vec<f64>> {
            let logits = hidden.matmul(&head.t().unwrap()).unwrap();
            let log_p = reference::log_softmax(&logits, TEMPERATURE).unwrap().0;
            let p = host(&log_p.exp().unwrap());
            p.chunks(head.dims()[0]).map(<[f64]>::to_vec).collect()
        };
        let hidden = var(&self.hidden, (TOKENS, WIDTH), DType::F64);
        let ours = of(&hidden, &var(&self.head, (VOCAB, WIDTH), DType::F64));
        let theirs = of(&self.teacher_hidden, &self.teacher_head);
        let pairs = ours.into_iter().zip(theirs).map(|(p, q)| [p, q]);
        let trained = pairs.zip(self.batch.mask().values()).filter(|(_, trained)| **trained);
        trained.map(|(pair, _)| pair).collect()
    }
}

fn likeliest(p: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..p.len()).collect();
    ids.sort_by(|&a, &b| p[b].total_cmp(&p[a]));
    ids
}

/// Asserts that `p - q` has both signs and that a central difference changes none of them.
fn assert_both_signs(p: &[f64], q: &[f64]) {
    let differences: Vec<f64> = p.iter().zip(q).map(|(p, q)| p - q).collect();
    assert!(differences.iter().any(|d| *d > 0.0) && differences.iter().any(|d| *d < 0.0));
    let flat = |(p, q): (&f64, &f64)| p == q && *p == 0.0;
    let apart = |(p, q): (&f64, &f64)| (p - q).abs() > 1e-5;
    assert!(p.iter().zip(q).all(|pair| flat(pair) || apart(pair)), "{p:?}, {q:?}");
}

#[test]
fn of_divergences_over_the_whole_vocabulary() {
    let world = World::new(1.0, VOCAB);
    let of = |kind| DivergenceObjective::new(kind).unwrap();
    let mixed = |forward| DivergenceObjective::mixed(forward).unwrap();
    let objectives = [
        of(Divergence::ForwardKl),
        of(Divergence::ReverseKl),
        of(Divergence::Jsd { beta: 0.0 }),
        of(Divergence::Jsd { beta: 0.3 }),
        of(Divergence::Jsd { beta: 1.0 }),
        of(Divergence::SkewForwardKl { alpha: 0.1 }),
        of(Divergence::SkewReverseKl { alpha: 0.1 }),
        mixed(0.0),
        mixed(0.3),
        mixed(1.0),
        mixed(0.3).with_entropy(0.2).unwrap(),
    ];
    for objective in objectives {
        world.check(&format!("{objective:?}"), &objective);
    }
    world.check("cross-entropy", &CrossEntropy);
}

#[test]
fn of_total_variation_where_either_side_is_the_likelier() {
    let world = World::new(1.0, VOCAB);
    for [p, q] in world.probabilities() {
        assert_both_signs(&p, &q);
    }
    world.check("total variation", &DivergenceObjective::total_variation());
}

#[test]
fn of_top_k_in_every_mode_on_both_sides_of_the_buckets_bound() {
    let world = World::new(30.0, VOCAB);
    for (support, of) in [(Support::Student, 0), (Support::Teacher, 1)] {
        // Whether the bucket of either side holds less than its bound allows.
        let mut held = [BTreeSet::new(), BTreeSet::new()];
        for sides in world.probabilities() {
            let outside = &likeliest(&sides[of])[K..];
            for (side, held) in sides.iter().zip(&mut held) {
                let rest: f64 = outside.iter().map(|&id| side[id]).sum();
                assert!(!(3e-8..3e-7).contains(&rest), "{rest:e} is at the bound");
                held.insert(rest < 1e-7);
            }
        }
        assert!(held.iter().all(|held| held.len() == 2), "{support:?}: {held:?}");
        for tail in [Tail::Bucket, Tail::Renormalised, Tail::Truncated] {
            for direction in [Direction::Forward, Direction::Reverse] {
                let objective = TopKObjective::biased(K, support, tail, direction).unwrap();
                world.check(&format!("{objective:?}"), &objective);
            }
        }
    }
}

#[test]
fn of_two_vocabularies_where_either_is_the_larger() {
    for their_vocab in [VOCAB - 2, VOCAB, VOCAB + 2] {
        let world = World::new(1.0, their_vocab);
        // The even ids of the student and the first ids of the teacher are the same text.
        let half = |v: usize| v.is_multiple_of(2).then_some(v as u32 / 2);
        let matched = |beta| CrossVocabulary {
            counterparts: (0..VOCAB).map(half).collect(),
            beta,
            matched: 0.75,
            unmatched: 1.5,
        };
        let mut signs = BTreeSet::new();
        for [p, q] in world.probabilities() {
            let sorted = |p: &[f64], keep: fn(usize) -> bool| -> Vec<f64> {
                let kept = likeliest(p).into_iter().filter(|&id| keep(id)).map(|id| p[id]);
                let mut kept: Vec<f64> = kept.collect();
                assert!(kept.windows(2).all(|pair| pair[0] - pair[1] > 1e-5), "{kept:?}");
                kept.resize(VOCAB.max(their_vocab), 0.0);
                kept
            };
            assert_both_signs(&sorted(&p, |_| true), &sorted(&q, |_| true));
            let (ours, theirs) = (sorted(&p, |id| id % 2 == 1), sorted(&q, |id| id > VOCAB / 2));
            signs.extend(ours.iter().zip(&theirs).map(|(p, q)| p > q));
        }
        assert_eq!(signs.len(), 2, "of ids that are not matched");
        let uld = CrossVocabularyObjective::new(CrossVocabulary::unmatched(VOCAB));
        world.check(&format!("ULD, {their_vocab} ids"), &uld);
        for beta in [0.0, 0.3, 1.0] {
            let gold = CrossVocabularyObjective::new(matched(beta));
            world.check(&format!("GOLD, beta {beta}, {their_vocab} ids"), &gold);
        }
    }
}
