use std::ops::{Add, AddAssign};

use opd_batch::Ragged;

/// How many sequences and tokens a batch trains on.
///
/// Counted once over the global batch (all ranks, all micro-batches) and added up; every
/// micro-batch is weighted by these, so that cutting the batch changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sequences with at least one trained token.
    pub sequences: usize,
    /// Trained tokens.
    pub tokens: usize,
}

impl Totals {
    /// Counts the rows and tokens that `mask` leaves in.
    pub fn of(mask: &Ragged<bool>) -> Self {
        let trained = mask.iter().map(trained_tokens).filter(|&tokens| tokens > 0);
        trained.fold(Self::default(), |totals, tokens| Self {
            sequences: totals.sequences + 1,
            tokens: totals.tokens + tokens,
        })
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sequences: self.sequences + other.sequences, tokens: self.tokens + other.tokens }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), Add::add)
    }
}

fn trained_tokens(mask: &[bool]) -> usize {
    mask.iter().filter(|&&trained| trained).count()
}

/// How per-token losses become one number.
///
/// With `m` the mask, `n` the trained tokens of the token's sequence, `S` and `N` the trained
/// sequences and tokens of the global batch:
///
/// ```text
/// loss = sum_t w_t l_t
/// ```
///
/// A sequence without a trained token counts neither above nor below.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Aggregation {
    /// `w = m / (n S)`: every sequence weighs the same. slime's default.
    #[default]
    SequenceMeanTokenMean,
    /// `w = m / N`: every token weighs the same. DAPO's.
    TokenMean,
    /// `w = m`.
    TokenSum,
    /// `w = m / (S horizon)`: as the mean over sequences of sums, over a constant. Dr. GRPO's.
    SequenceMeanTokenSum {
        /// The constant, at least 1: usually the longest response allowed.
        horizon: usize,
    },
}

impl Aggregation {
    /// The weight `w` of each token.
    ///
    /// `totals` are those of the global batch of which `mask` is a part.
    pub fn weights(&self, mask: &Ragged<bool>, totals: &Totals) -> Ragged<f32> {
        let sequences = totals.sequences.max(1) as f64;
        let weight = |row: &[bool]| match self {
            Self::SequenceMeanTokenMean => 1.0 / (trained_tokens(row).max(1) as f64 * sequences),
            Self::TokenMean => 1.0 / totals.tokens.max(1) as f64,
            Self::TokenSum => 1.0,
            Self::SequenceMeanTokenSum { horizon } => 1.0 / (sequences * (*horizon).max(1) as f64),
        };
        let mut weights = mask.map(|_| 0.0);
        for (range, row) in mask.rows().ranges().zip(mask.iter()) {
            let weight = weight(row) as f32;
            for (out, &trained) in weights.values_mut()[range].iter_mut().zip(row) {
                *out = if trained { weight } else { 0.0 };
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use opd_batch::Ragged;

    use super::{Aggregation, Totals};

    fn mask() -> Ragged<bool> {
        Ragged::from_rows([vec![true, false, true], vec![], vec![false], vec![true; 4]])
    }

    #[test]
    fn rows_without_a_trained_token_do_not_count() {
        assert_eq!(Totals::of(&mask()), Totals { sequences: 2, tokens: 6 });
    }

    #[test]
    fn weights_of_each_aggregation() {
        let totals = Totals::of(&mask());
        let of = |aggregation: Aggregation| {
            let weights = aggregation.weights(&mask(), &totals).into_values();
            assert_eq!((weights[1], weights[3]), (0.0, 0.0), "masked tokens weigh nothing");
            (weights[0], weights[7])
        };
        assert_eq!(of(Aggregation::SequenceMeanTokenMean), (0.25, 0.125));
        assert_eq!(of(Aggregation::TokenMean), (1.0 / 6.0, 1.0 / 6.0));
        assert_eq!(of(Aggregation::TokenSum), (1.0, 1.0));
        assert_eq!(of(Aggregation::SequenceMeanTokenSum { horizon: 8 }), (0.0625, 0.0625));
    }

    #[test]
    fn totals_of_parts_add_up() {
        let parts = [mask().select(&[0, 2]).unwrap(), mask().select(&[1, 3]).unwrap()];
        assert_eq!(parts.iter().map(Totals::of).sum::<Totals>(), Totals::of(&mask()));
    }
}
