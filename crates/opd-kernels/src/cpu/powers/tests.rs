use proptest::prelude::*;

use super::{PowerLoops, Powers, portable};
use crate::cpu::softmax::BLOCK;

/// Logits of every size, impossible ones among them.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let any = prop_oneof![
        8 => -30f32..30.0,
        2 => -2e4f32..2e4,
        1 => Just(f32::NEG_INFINITY),
        1 => Just(f32::MIN),
        1 => Just(7.25f32),
    ];
    prop::collection::vec(any, 1..300)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #[test]
    fn instructions_change_no_bit(row in logits(), temperature in 0.05f64..4.0, at in 0usize..300) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assume!(max > f32::MIN);
        let powers = Powers::new(max, temperature);
        let row = &row[at % row.len()..];
        let ours = [
            f32::power_sums::<true, true>(powers, row, max),
            f32::power_sums::<false, true>(powers, row, max),
            f32::power_sums::<true, false>(powers, row, max),
            f32::power_sums::<false, false>(powers, row, max),
        ];
        let portable = [
            portable::sums::<f32, true, true>(powers, row, max),
            portable::sums::<f32, false, true>(powers, row, max),
            portable::sums::<f32, true, false>(powers, row, max),
            portable::sums::<f32, false, false>(powers, row, max),
        ];
        prop_assert_eq!(ours, portable);
        for (with, without) in [(ours[0], ours[2]), (ours[1], ours[3])] {
            prop_assert_eq!(without, [with[0], with[1], 0.0]);
        }
        let (mut got, mut want) = (row.to_vec(), vec![0.0; row.len()]);
        f32::power_gradient(powers, &mut got, None, 0.3);
        portable::gradient(powers, &mut want, Some(row), 0.3);
        prop_assert_eq!(bits(&got), bits(&want));
        let line = [0.3, -0.7, 1.1];
        let (mut got, mut want) = (vec![0.0; row.len()], row.to_vec());
        f32::power_gradient_sloped(powers, &mut got, Some(row), line);
        portable::sloped_gradient(powers, &mut want, None, line);
        prop_assert_eq!(bits(&got), bits(&want));
    }

    #[test]
    fn sums_are_those_of_float64(row in logits(), temperature in 0.2f64..4.0) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        prop_assume!(max > f32::MIN);
        let got = Powers::new(max, temperature).sums::<true, true>(&row, max);
        let d = |x: &f32| (f64::from(*x) - f64::from(max)) / temperature;
        let others = row.iter().filter(|x| **x != max && d(x) > -80.0);
        let rest: f64 = others.clone().map(|x| d(x).exp()).sum();
        let weighted: f64 = others.clone().map(|x| d(x).exp() * d(x)).sum();
        // Exponents are rounded to 24 bits, and so is what they are multiplied with.
        let off: f64 = others.map(|x| d(x).exp() * (1.0 - 0.2 * d(x)) * 1e-6).sum();
        prop_assert_eq!(got.ties, row.iter().filter(|x| **x == max).count() as f64);
        prop_assert!((got.rest - rest).abs() <= off + 1e-30, "{:?} {}", got, rest);
        prop_assert!((got.weighted - weighted).abs() <= 90.0 * off + 1e-28, "{:?}", got);
    }
}

#[test]
fn nan_stays_nan() {
    for at in [0, 17, 40] {
        let mut row = vec![1.0f32; 41];
        row[at] = f32::NAN;
        let powers = Powers::new(1.0, 1.0);
        assert!(f32::power_sums::<false, false>(powers, &row, 1.0)[1].is_nan());
        assert!(f32::power_sums::<true, true>(powers, &row, 1.0)[1].is_nan());
        for logits in [None, Some(row.clone())] {
            let mut out = row.clone();
            f32::power_gradient(powers, &mut out, logits.as_deref(), 1.0);
            assert!(out[at].is_nan());
            let mut out = row.clone();
            f32::power_gradient_sloped(powers, &mut out, logits.as_deref(), [1.0; 3]);
            assert!(out[at].is_nan());
        }
    }
}

#[test]
fn a_block_has_whole_vectors() {
    assert_eq!(BLOCK % super::LANES, 0);
}
