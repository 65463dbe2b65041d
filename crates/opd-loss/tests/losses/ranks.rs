//! However a batch is spread over ranks, weights, losses and gradients are those of the batch.

use candle_core::DType;
use opd_batch::Ragged;
use opd_loss::{
    Cispo, Gspo, ImportanceSampling, LossBatch, PolicyLoss, PpoClip, Reinforce, Totals,
};
use proptest::prelude::*;

use super::{
    gradient,
    invariance::{LENGTHS, aggregations, close, places, streams, tolerance},
    numbers, scalar, var,
};

/// Each rank knows its own rows and everybody's totals; one of them has nothing to train on.
#[test]
fn of_policy_losses_over_ranks() {
    let mut streams = streams();
    streams.mask[3] = vec![false; LENGTHS[3]];
    let mask = Ragged::from_rows(streams.mask.clone());
    let ranks: [&[usize]; 3] = [&[4, 0], &[3], &[5, 1, 2]];
    let totals: Totals = ranks.iter().map(|rows| Totals::of(&mask.select(rows).unwrap())).sum();
    assert_eq!(Totals::of(&mask.select(ranks[1]).unwrap()).tokens, 0);
    let losses: [Box<dyn PolicyLoss>; 5] = [
        Box::new(ImportanceSampling),
        Box::new(Reinforce),
        Box::new(PpoClip { dual: Some(2.0), ..PpoClip::default() }),
        Box::new(Gspo::default()),
        Box::new(Cispo::default()),
    ];
    for (loss, aggregation) in losses.iter().flat_map(|l| aggregations().map(|a| (l, a))) {
        for dtype in [DType::F64, DType::F32] {
            let batch = streams.build(&aggregation).unwrap();
            let n = batch.n_tokens();
            let values: Vec<f64> = numbers(n, 9, 1.0).iter().map(|x| x - 2.0).collect();
            let student = var(&values, n, dtype);
            let whole = loss.loss(&student, &batch).unwrap().loss;
            let (mut sum, mut gathered) = (0.0, vec![0.0; n]);
            for rows in ranks {
                let rank = streams.rank(rows, &aggregation, &totals).unwrap();
                let logprobs = student.index_select(&places(&batch, rows), 0).unwrap();
                let part = loss.loss(&logprobs, &rank).unwrap().loss;
                sum += scalar(&part);
                for (sum, g) in gathered.iter_mut().zip(gradient(&part, &student)) {
                    *sum += g;
                }
            }
            let what = format!("{}, {aggregation:?}, {dtype:?}", loss.name());
            close(&what, &[sum], &[scalar(&whole)], tolerance(dtype));
            close(&what, &gathered, &gradient(&whole, &student), tolerance(dtype));
        }
    }
}

#[test]
fn of_two_ranks_with_added_totals() {
    let targets = Ragged::from_rows([vec![1, 2, 3], vec![4], vec![5, 6]]);
    let mask = Ragged::from_rows([vec![true, false, true], vec![false], vec![true, true]]);
    for aggregation in aggregations() {
        let whole = LossBatch::supervised(targets.clone(), mask.clone(), &aggregation).unwrap();
        let ranks: [&[usize]; 2] = [&[0, 1], &[2]];
        let masks = ranks.map(|rows| mask.select(rows).unwrap());
        let totals: Totals = masks.iter().map(Totals::of).sum();
        for (rows, mask) in ranks.into_iter().zip(masks) {
            let targets = targets.select(rows).unwrap();
            let rank =
                LossBatch::supervised_with_totals(targets, mask, &aggregation, &totals).unwrap();
            assert_eq!(rank.weights(), whole.select(rows).unwrap().weights());
        }
    }
}

proptest! {
    /// Any masks, any split over ranks, any micro-batches within a rank: a token's weight is the
    /// one that it has in the whole batch, to the bit.
    #[test]
    fn of_any_ranks_and_micro_batches(
        mask in prop::collection::vec(prop::collection::vec(any::<bool>(), 1..6), 1..10),
        ranks in prop::collection::vec(0usize..3, 10),
        micro in prop::collection::vec(0usize..3, 10),
    ) {
        prop_assume!(mask.iter().flatten().any(|trained| *trained));
        let mask = Ragged::from_rows(mask);
        let targets = mask.map(|_| 1u32);
        let rows: Vec<usize> = (0..mask.rows().n_rows()).collect();
        for aggregation in aggregations() {
            let whole = LossBatch::supervised(targets.clone(), mask.clone(), &aggregation).unwrap();
            let of_rank = |rank: usize| -> Vec<usize> {
                rows.iter().copied().filter(|&row| ranks_of(&ranks, row) == rank).collect()
            };
            let masks = (0..3).map(|rank| mask.select(&of_rank(rank)).unwrap());
            let totals: Totals = masks.map(|mask| Totals::of(&mask)).sum();
            prop_assert_eq!(totals, Totals::of(&mask));
            for rank in 0..3 {
                let own = of_rank(rank);
                let part = LossBatch::supervised_with_totals(
                    targets.select(&own).unwrap(),
                    mask.select(&own).unwrap(),
                    &aggregation,
                    &totals,
                ).unwrap();
                for cut in 0..3 {
                    let within: Vec<usize> =
                        (0..own.len()).filter(|&i| ranks_of(&micro, own[i]) == cut).collect();
                    if within.is_empty() {
                        continue;
                    }
                    let global: Vec<usize> = within.iter().map(|&i| own[i]).collect();
                    let got = part.select(&within).unwrap();
                    let want = whole.select(&global).unwrap();
                    prop_assert_eq!(got.weights(), want.weights());
                }
            }
        }
    }
}

fn ranks_of(of: &[usize], row: usize) -> usize {
    of[row % of.len()]
}
