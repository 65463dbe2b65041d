use crate::{evaluate::wilson_interval, report::PassAtK};

/// Chance that at least one of `k` answers is right, estimated from `samples` answers to each
/// prompt, `right` of them right.
///
/// ```text
/// pass@k = mean over prompts of 1 - C(n - c, k) / C(n, k)
/// ```
///
/// It is unbiased, and the mean of the rates for `k = 1`. `None` if `k` is 0 or more than
/// `samples`, or without prompts.
///
/// ```
/// use opd_train::pass_at_k;
///
/// // One of four answers is right: two drawn of them hold it half of the time.
/// assert_eq!(pass_at_k(&[1], 4, 2), Some(0.5));
/// ```
///
/// Source: Chen et al. 2021, <https://arxiv.org/abs/2107.03374>, equation 1.
pub fn pass_at_k(right: &[usize], samples: usize, k: usize) -> Option<f64> {
    Some(pass_at_k_interval(right, samples, k)?.0)
}

/// [`pass_at_k`] and its 95% interval, `[low, high]`: Wilson's for the mean of the prompts' estimates,
/// with as many trials as a binomial of this mean needs for their spread.
///
/// The estimates of one prompt's answers are not independent: the interval is of the spread between
/// prompts, as that of [`wilson_interval`] for `k = 1`.
///
/// ```
/// use opd_train::pass_at_k_interval;
///
/// let (rate, [low, high]) = pass_at_k_interval(&[1, 0, 4, 4], 4, 2).unwrap();
/// assert!(low < rate && rate < high);
/// ```
pub fn pass_at_k_interval(right: &[usize], samples: usize, k: usize) -> Option<(f64, [f64; 2])> {
    if right.is_empty() || k == 0 || k > samples {
        return None;
    }
    let of = |&c: &usize| {
        let wrong = samples.saturating_sub(c);
        if wrong < k {
            return 1.0;
        }
        // C(n - c, k) / C(n, k) as a product of k factors.
        1.0 - (0..k).map(|i| (wrong - i) as f64 / (samples - i) as f64).product::<f64>()
    };
    let estimates: Vec<f64> = right.iter().map(of).collect();
    // With all of a prompt's answers in one draw there is one trial a prompt.
    Some(wilson_interval(&estimates, samples - k + 1))
}

/// pass@k for k = 2, 4, 8, .. and the number of samples.
pub(crate) fn pass_at_powers(right: &[usize], samples: usize) -> Vec<PassAtK> {
    let powers = std::iter::successors(Some(2_usize), |k| k.checked_mul(2));
    let mut ks: Vec<usize> = powers.take_while(|&k| k < samples).collect();
    if samples > 1 {
        ks.push(samples);
    }
    let of = |k| {
        let (rate, interval) = pass_at_k_interval(right, samples, k)?;
        Some(PassAtK { k: k as u64, rate, interval })
    };
    ks.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{RngCore, SeedableRng},
    };

    use super::*;

    /// By enumeration of every choice of k answers.
    fn counted(c: usize, n: usize, k: usize) -> f64 {
        let choices = (0_u32..1 << n).filter(|set| set.count_ones() as usize == k);
        let (all, some) = choices.fold((0, 0), |(all, some), set| {
            (all + 1, some + usize::from(set & ((1 << c) - 1) != 0))
        });
        some as f64 / all as f64
    }

    #[test]
    fn it_is_the_share_of_choices_with_a_right_answer() {
        for n in 1..=8 {
            for k in 1..=n {
                for c in 0..=n {
                    let got = pass_at_k(&[c], n, k).unwrap();
                    assert!((got - counted(c, n, k)).abs() < 1e-12, "n {n}, k {k}, c {c}");
                }
            }
        }
        let mean = pass_at_k(&[0, 3, 1], 4, 1).unwrap();
        assert!((mean - 1.0 / 3.0).abs() < 1e-12);
    }

    /// Prompts are drawn from a population whose pass@k is known; some 95 of 100 intervals hold it.
    #[test]
    fn intervals_hold_the_rate_of_the_population() {
        const RUNS: usize = 2000;
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for (chances, prompts, samples, k) in [
            ([0.05, 0.3, 0.9], 60, 8, 4),
            ([0.05, 0.3, 0.9], 60, 8, 8),
            ([0.02, 0.1, 0.2], 60, 8, 2),
            ([0.02, 0.1, 0.2], 200, 16, 8),
            ([0.02, 0.1, 0.2], 30, 4, 2),
        ] {
            let whole: f64 = chances.iter().map(|p: &f64| 1.0 - (1.0 - p).powi(k as i32)).sum();
            let rate = whole / 3.0;
            let mut uniform = || f64::from(rng.next_u32()) / 2f64.powi(32);
            let held = (0..RUNS).filter(|_| {
                let answered = |_| {
                    let p = chances[(3.0 * uniform()) as usize];
                    (0..samples).filter(|_| uniform() < p).count()
                };
                let right: Vec<usize> = (0..prompts).map(answered).collect();
                let (_, [low, high]) = pass_at_k_interval(&right, samples, k).unwrap();
                low <= rate && rate <= high
            });
            // 0.95, four standard deviations of the count either way and one point for its form.
            let held = held.count() as f64 / RUNS as f64;
            assert!((0.92..0.98).contains(&held), "{chances:?}, {samples} samples, k {k}: {held}");
        }
    }

    #[test]
    fn powers_end_with_the_number_of_samples() {
        let ks = |n| pass_at_powers(&[1], n).iter().map(|one| one.k).collect::<Vec<_>>();
        assert_eq!(ks(1), [0_u64; 0]);
        assert_eq!(ks(2), [2]);
        assert_eq!(ks(8), [2, 4, 8]);
        assert_eq!(ks(10), [2, 4, 8, 10]);
        for (right, n, k) in [(&[1][..], 4, 0), (&[1], 4, 5), (&[], 4, 1)] {
            assert_eq!(pass_at_k(right, n, k), None);
        }
    }
}
