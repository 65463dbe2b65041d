//! A seeded order of all prompts, without a table of them.

/// Number of prompts: eight decimal digits.
pub(super) const PROMPTS: u32 = 100_000_000;

/// Bits of each half of the Feistel network: 2^28 is the least even power of two above
/// [`PROMPTS`].
const HALF: u32 = 14;
const ROUNDS: usize = 6;

/// SplitMix64's step between states.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's output function, a bijection of the 64-bit integers.
pub(super) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A pseudo-random order of the numbers below 10^8: a Feistel network keyed by the first
/// outputs of SplitMix64, walked along its cycles until it falls below 10^8.
///
/// A bijection, so no number comes twice, and the order ends when all have come.
#[derive(Clone, Debug)]
pub(super) struct Order {
    keys: [u64; ROUNDS],
    next: u32,
}

impl Order {
    pub(super) fn new(seed: u64) -> Self {
        let mut state = seed;
        let keys = std::array::from_fn(|_| {
            state = state.wrapping_add(GAMMA);
            mix(state)
        });
        Self { keys, next: 0 }
    }

    /// A bijection of the numbers below 2^28.
    fn permute(&self, number: u32) -> u32 {
        let mask = (1 << HALF) - 1;
        let (mut left, mut right) = (number >> HALF, number & mask);
        for key in self.keys {
            let round = (mix(key ^ u64::from(right)) >> (64 - HALF)) as u32;
            (left, right) = (right, left ^ round);
        }
        (left << HALF) | right
    }
}

impl Iterator for Order {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.next == PROMPTS {
            return None;
        }
        let mut number = self.permute(self.next);
        while number >= PROMPTS {
            number = self.permute(number);
        }
        self.next += 1;
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_splitmix64() {
        // First outputs for seed 1234567, as published at rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64.
        let expected = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ];
        assert_eq!(Order::new(1234567).keys[..5], expected);
    }

    /// [`Order::permute`], undone round by round.
    fn undo(order: &Order, number: u32) -> u32 {
        let (mut left, mut right) = (number >> HALF, number % (1 << HALF));
        for key in order.keys.iter().rev() {
            let round = (mix(key ^ u64::from(left)) >> (64 - HALF)) as u32;
            (left, right) = (right ^ round, left);
        }
        (left << HALF) | right
    }

    proptest! {
        #[test]
        fn permutation_is_a_bijection(seed: u64, number in 0..1_u32 << (2 * HALF)) {
            let order = Order::new(seed);
            prop_assert!(order.permute(number) < 1 << (2 * HALF));
            prop_assert_eq!(undo(&order, order.permute(number)), number);
        }

        #[test]
        fn prefixes_are_distinct_and_look_uniform(seed: u64) {
            let numbers: Vec<u32> = Order::new(seed).take(20_000).collect();
            prop_assert_eq!(numbers.iter().collect::<HashSet<_>>().len(), numbers.len());
            // Each decile of the range, and each pair of first digits of neighbours, as often
            // as chance has it: within 6 standard deviations.
            let mut deciles = [0_i32; 10];
            let mut pairs = [0_i32; 100];
            for pair in numbers.windows(2) {
                let decile = |number: u32| (number / (PROMPTS / 10)) as usize;
                deciles[decile(pair[0])] += 1;
                pairs[decile(pair[0]) * 10 + decile(pair[1])] += 1;
            }
            for count in deciles {
                prop_assert!((count - 2000).abs() < 6 * 43, "{deciles:?}");
            }
            for count in pairs {
                prop_assert!((count - 200).abs() < 6 * 15, "{pairs:?}");
            }
        }
    }
}
