use std::{
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign},
};

use candle_core::WithDType;

use super::powers::PowerLoops;

/// A dtype that the CPU kernels compute in.
///
/// Everything is branch-free and `inline(always)`, so that loops over it become vector code
/// inside [`super::dispatch`].
pub(crate) trait Element:
    WithDType
    + PowerLoops
    + Default
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
{
    const ZERO: Self;
    const ONE: Self;
    const NEG_INFINITY: Self;

    fn of(value: f64) -> Self;
    fn as_f64(self) -> f64;
    /// e to this; within 2 units in the last place, 0 below the smallest normal number.
    fn exp(self) -> Self;
    /// The least argument of [`Element::exp2`].
    const LEAST_POWER: Self;
    /// 2 to this, from [`Element::LEAST_POWER`] to 1; within 2 units in the last place.
    fn exp2(self) -> Self;
    /// `self * factor + term`, rounded once.
    fn mul_add(self, factor: Self, term: Self) -> Self;
    /// Within 3 units in the last place.
    fn tanh(self) -> Self;
    fn ln(self) -> Self;
    /// [`Element::ln`] for loops: without a call, within 2 units in the last place.
    fn fast_ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn is_nan(self) -> bool;
}

/// Coefficients of `2^r`, `-0.5 <= r <= 0.5`, highest first: 1 at 0, elsewhere of least relative
/// error (9.1e-8), fitted by Lawson's method.
#[expect(clippy::approx_constant, reason = "fitted, not ln 2")]
pub(super) const EXP2: [f32; 6] =
    [1.326_472_7e-3, 9.671_513e-3, 5.550_733_6e-2, 0.240_222_42, 0.693_147, 1.0];

/// Coefficients of `(log(1 + x) - x + x^2 / 2) / x^3` for `1 + x` from `sqrt(1/2)` to `sqrt(2)`,
/// highest first (Cephes `logf`).
const LOG: [f32; 9] = [
    7.037_683_6e-2,
    -1.151_461e-1,
    1.167_699_9e-1,
    -1.242_014_1e-1,
    1.424_932_3e-1,
    -1.666_805_8e-1,
    2.000_071_5e-1,
    -2.499_999_4e-1,
    3.333_333e-1,
];

impl Element for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn as_f64(self) -> f64 {
        self as f64
    }

    /// Cody-Waite reduction to `[-ln 2 / 2, ln 2 / 2]` and a degree-6 polynomial (Cephes `expf`).
    #[inline(always)]
    fn exp(self) -> Self {
        const MAGIC: f32 = 12_582_912.0;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // NaN stays NaN: both comparisons are false for it.
        let x = if self > 88.8 { 88.8 } else { self };
        let x = if x < -87.3 { -87.3 } else { x };
        let shifted = x * std::f32::consts::LOG2_E + MAGIC;
        let n = shifted - MAGIC;
        let r = x - n * LN2_HIGH - n * LN2_LOW;
        let p = 1.987_569_1e-4;
        let p = p * r + 1.398_199_9e-3;
        let p = p * r + 8.333_452e-3;
        let p = p * r + 4.166_579_6e-2;
        let p = p * r + 1.666_666_5e-1;
        let p = p * r + 0.5;
        let p = p * (r * r) + r + 1.0;
        // n may be 128: scale in two halves so that neither exponent overflows.
        let bits = (shifted.to_bits() as i32) - (MAGIC.to_bits() as i32);
        let half = bits >> 1;
        let scale = |e: i32| f32::from_bits(((e + 127) << 23) as u32);
        let y = p * scale(half) * scale(bits - half);
        let y = if self < -87.3 { 0.0 } else { y };
        if f32::is_nan(self) { self } else { y }
    }

    const LEAST_POWER: Self = -126.0;

    /// Rounding to the nearest whole power, and [`EXP2`] in the rest, which is exact.
    #[inline(always)]
    fn exp2(self) -> Self {
        const MAGIC: f32 = 12_582_912.0;
        let nearest = self + MAGIC;
        let r = self - (nearest - MAGIC);
        let [last, rest @ ..] = EXP2;
        let mut value = last;
        for coefficient in rest {
            value = f32::mul_add(value, r, coefficient);
        }
        value * f32::from_bits((nearest.to_bits() << 23).wrapping_add(f32::to_bits(1.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f32::mul_add(self, factor, term)
    }

    /// A polynomial near 0, elsewhere from an exponential (Cephes `tanhf`).
    #[inline(always)]
    fn tanh(self) -> Self {
        let size = if self < 0.0 { -self } else { self };
        let e = Element::exp(-2.0 * size);
        let far = (1.0 - e) / (1.0 + e);
        let square = self * self;
        let series = -5.704_988_7e-3;
        let series = series * square + 2.063_908_8e-2;
        let series = series * square - 5.373_971_6e-2;
        let series = series * square + 0.133_314_42;
        let series = series * square - 0.333_332_8;
        let near = series * square * self + self;
        let far = if self < 0.0 { -far } else { far };
        if size < 0.625 { near } else { far }
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }

    /// Taken apart at a power of 2, the rest by [`LOG`].
    #[inline(always)]
    fn fast_ln(self) -> Self {
        const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        let tiny = self < f32::MIN_POSITIVE;
        let x = if tiny { self * 8_388_608.0 } else { self };
        let power = (x.to_bits() as i32).wrapping_sub(ROOT_HALF.to_bits() as i32) >> 23;
        let x = f32::from_bits(x.to_bits().wrapping_sub((power << 23) as u32)) - 1.0;
        let power = power as f32 - if tiny { 23.0 } else { 0.0 };
        let [last, rest @ ..] = LOG;
        let mut series = last;
        for coefficient in rest {
            series = f32::mul_add(series, x, coefficient);
        }
        let square = x * x;
        let tail = f32::mul_add(series * x, square, power * LN2_LOW) - 0.5 * square;
        let log = f32::mul_add(power, LN2_HIGH, x + tail);
        let log = if self == f32::INFINITY { self } else { log };
        let log = if self == 0.0 { f32::NEG_INFINITY } else { log };
        // Not a comparison with 0 alone: NaN is not below it.
        if self < 0.0 || f32::is_nan(self) { f32::NAN } else { log }
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
}

impl Element for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn as_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }

    const LEAST_POWER: Self = -1022.0;

    #[inline(always)]
    fn exp2(self) -> Self {
        f64::exp2(self)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f64::mul_add(self, factor, term)
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }

    #[inline(always)]
    fn fast_ln(self) -> Self {
        f64::ln(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for i in -870_000..885_000 {
            let x = i as f32 * 1e-4;
            let (got, want) = (Element::exp(x), (x as f64).exp());
            let ulp = (want as f32).to_bits().abs_diff(got.to_bits());
            assert!(ulp <= 2, "exp({x}) = {got}, expected {want}, {ulp} units off");
        }
    }

    #[test]
    fn exp2_is_within_two_units_in_the_last_place() {
        for i in -1_260_000..=10_000 {
            let x = i as f32 * 1e-4;
            let (got, want) = (Element::exp2(x), (x as f64).exp2());
            let ulp = (want as f32).to_bits().abs_diff(got.to_bits());
            assert!(ulp <= 2, "exp2({x}) = {got}, expected {want}, {ulp} units off");
        }
        assert_eq!(Element::exp2(<f32 as Element>::LEAST_POWER), f32::MIN_POSITIVE);
        assert_eq!(Element::exp2(0.0f32), 1.0);
        assert!(Element::exp2(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_three_units_in_the_last_place() {
        let tiny = (0..2000).map(|i| 1e-30 * 1.07f32.powi(i));
        let sizes = (1..1_100_000).map(|i| i as f32 * 1e-5).chain(tiny);
        for x in sizes.filter(|x| x.is_finite()).flat_map(|x| [x, -x]) {
            let (got, want) = (Element::tanh(x), (x as f64).tanh());
            let ulp = (want as f32).to_bits().abs_diff(got.to_bits());
            assert!(ulp <= 3, "tanh({x}) = {got}, expected {want}, {ulp} units off");
        }
        assert_eq!(Element::tanh(f32::INFINITY), 1.0);
        assert_eq!(Element::tanh(f32::NEG_INFINITY), -1.0);
        assert!(Element::tanh(f32::NAN).is_nan());
    }

    #[test]
    fn fast_ln_is_within_two_units_in_the_last_place() {
        let sizes = (0..2_000_000u32).map(|i| f32::from_bits(1 + i * 1069));
        let near_one = (-300_000..300_000).map(|i| 1.0 + i as f32 * 1e-6);
        for x in sizes.filter(|x| x.is_finite()).chain(near_one) {
            let (got, want) = (Element::fast_ln(x), (x as f64).ln() as f32);
            let ulp = want.to_bits().abs_diff(got.to_bits());
            assert!(ulp <= 2, "fast_ln({x}) = {got}, expected {want}, {ulp} units off");
        }
        assert_eq!(Element::fast_ln(1.0f32), 0.0);
        assert_eq!(Element::fast_ln(0.0f32), f32::NEG_INFINITY);
        assert_eq!(Element::fast_ln(f32::INFINITY), f32::INFINITY);
        assert!(Element::fast_ln(-1.0f32).is_nan() && Element::fast_ln(f32::NAN).is_nan());
    }

    #[test]
    fn exp_of_special_values() {
        assert_eq!(Element::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Element::exp(-1e30f32), 0.0);
        assert_eq!(Element::exp(0.0f32), 1.0);
        assert_eq!(Element::exp(f32::INFINITY), f32::INFINITY);
        assert!(Element::exp(f32::NAN).is_nan());
    }
}
