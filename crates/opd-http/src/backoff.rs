use std::time::Duration;

/// `first * 2^(n-1)`, at most `longest`, times a number in `[0.5, 1)` that `seed` fixes.
pub(crate) fn delay(first: Duration, longest: Duration, n: u32, seed: u64) -> Duration {
    let doubled = first.saturating_mul(1u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(longest).mul_f64(0.5 + 0.5 * unit(seed))
}

/// A number in `[0, 1)` from a seed: one round of SplitMix64 (Steele et al. 2014).
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_vary_by_half() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(1));
        for (n, whole) in [(1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (40, 1.0)] {
            let delays: Vec<f64> =
                (0..500).map(|seed| delay(first, longest, n, seed).as_secs_f64()).collect();
            assert!(delays.iter().all(|&d| d >= whole / 2.0 && d < whole), "{n}");
            let mean = delays.iter().sum::<f64>() / 500.0;
            assert!((mean / whole - 0.75).abs() < 0.03, "{n}: {mean}");
            assert_eq!(delay(first, longest, n, 7), delay(first, longest, n, 7));
        }
    }
}
