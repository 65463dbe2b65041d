//! The largest logits of a row, found while its blocks are read.

use super::Element;

/// Logits that are compared at once with the least that is wanted.
const LANES: usize = 32;

/// The `k` largest logits of a row, largest first, ties by the lowest id; NaN ranks as negative infinity.
#[derive(Debug)]
pub(crate) struct Likeliest<T> {
    k: usize,
    /// How many candidates are gathered before all but `k` are dropped.
    room: usize,
    candidates: Vec<(u32, T)>,
    /// The least of `k` candidates: only what is larger can still take a place.
    least: Option<T>,
}

impl<T: Element> Likeliest<T> {
    /// Of rows of `width` logits; `k` is at most that.
    pub(crate) fn new(k: usize, width: usize) -> Self {
        let room = if k == 0 { 0 } else { (2 * k).max(2 * LANES).min(width) };
        Self { k, room, candidates: Vec::with_capacity(room), least: None }
    }

    /// Takes in the logits of ids `first..`, later ones than before; `largest` is at least what each
    /// of them is.
    #[inline(always)]
    pub(crate) fn take(&mut self, first: usize, logits: &[T], largest: T) {
        if self.k == 0 || self.least.is_some_and(|least| largest <= least) {
            return;
        }
        for (i, logits) in logits.chunks(LANES).enumerate() {
            if let Some(least) = self.least {
                let mut any = false;
                for x in logits {
                    any |= *x > least;
                }
                if !any {
                    continue;
                }
            }
            for (id, x) in (first + i * LANES..).zip(logits) {
                self.consider(id as u32, *x);
            }
        }
    }

    fn consider(&mut self, id: u32, x: T) {
        // -0 ties with 0.
        let x = if x.is_nan() { T::NEG_INFINITY } else { x + T::ZERO };
        if self.least.is_some_and(|least| x <= least) {
            return;
        }
        self.candidates.push((id, x));
        if self.candidates.len() == self.room && self.room > self.k {
            self.candidates.select_nth_unstable_by(self.k - 1, order);
            self.candidates.truncate(self.k);
            self.least = self.candidates.last().map(|(_, x)| *x);
        }
    }

    /// The ids and their logits, NaN as negative infinity and -0 as 0, and readiness for another row.
    pub(crate) fn finish(&mut self) -> impl Iterator<Item = (u32, T)> {
        self.candidates.sort_unstable_by(order);
        self.candidates.truncate(self.k);
        self.least = None;
        self.candidates.drain(..)
    }
}

fn order<T: Element>((a, x): &(u32, T), (b, y): &(u32, T)) -> std::cmp::Ordering {
    y.as_f64().total_cmp(&x.as_f64()).then(a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::softmax::largest, Likeliest};
    use crate::cpu::Element;

    fn likeliest<T: Element>(row: &[T], k: usize, block: usize) -> Vec<u32> {
        let mut likeliest = Likeliest::new(k, row.len());
        let mut out = Vec::new();
        // Twice: what one row leaves behind must not reach the next.
        for _ in 0..2 {
            out.clear();
            for (i, logits) in row.chunks(block).enumerate() {
                likeliest.take(i * block, logits, largest(logits));
            }
            out.extend(likeliest.finish().map(|(id, _)| id));
        }
        out
    }

    #[test]
    fn ties_go_to_the_lowest_id_and_nan_ranks_as_negative_infinity() {
        let infinity = f32::INFINITY;
        assert_eq!(likeliest(&[1.0f32, 3.0, 3.0, f32::NAN, 2.0], 3, 2), [1, 2, 4]);
        assert_eq!(likeliest(&[0.0f32, -0.0, 0.0, -0.0], 4, 1), [0, 1, 2, 3]);
        assert_eq!(likeliest(&[f32::NAN, -infinity, 0.0], 3, 8), [2, 0, 1]);
        assert_eq!(likeliest(&[7.0f64; 300], 2, 70), [0, 1]);
        assert_eq!(likeliest(&[-infinity; 300], 3, 70), [0, 1, 2]);
        assert!(likeliest::<f32>(&[], 0, 4).is_empty());
    }

    proptest! {
        #[test]
        fn they_are_the_head_of_a_stable_sort(
            row in prop::collection::vec(-3i8..3, 1..700),
            share in 0.0f64..=1.0,
            block in 1usize..300,
        ) {
            let row: Vec<f32> = row.into_iter().map(f32::from).collect();
            let k = (share * row.len() as f64) as usize;
            let mut sorted: Vec<u32> = (0..row.len() as u32).collect();
            sorted.sort_by(|a, b| row[*b as usize].partial_cmp(&row[*a as usize]).unwrap());
            prop_assert_eq!(&likeliest(&row, k, block), &sorted[..k]);
        }
    }
}
