use crate::report::PassAtK;

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
    Some(right.iter().map(of).sum::<f64>() / right.len() as f64)
}

/// pass@k for k = 2, 4, 8, .. and the number of samples.
pub(crate) fn pass_at_powers(right: &[usize], samples: usize) -> Vec<PassAtK> {
    let powers = std::iter::successors(Some(2_usize), |k| k.checked_mul(2));
    let mut ks: Vec<usize> = powers.take_while(|&k| k < samples).collect();
    if samples > 1 {
        ks.push(samples);
    }
    let of = |k| Some(PassAtK { k: k as u64, rate: pass_at_k(right, samples, k)? });
    ks.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
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
