use std::{
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign},
};

use candle_core::{CpuStorage, WithDType};

/// A dtype that the CPU kernels compute in.
///
/// Everything is branch-free and `inline(always)`, so that loops over it become vector code
/// inside [`super::dispatch`].
pub(crate) trait Element:
    WithDType
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
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn is_nan(self) -> bool;
    /// The values of a storage of this dtype, or `None` for another dtype.
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

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

    /// Rounding to the nearest whole power, and a degree-6 polynomial of least relative error in the
    /// rest, fitted by Lawson's method.
    #[inline(always)]
    fn exp2(self) -> Self {
        const MAGIC: f32 = 12_582_912.0;
        let shifted = self + MAGIC;
        let r = self - (shifted - MAGIC);
        let p = 1.535_336_2e-4;
        let p = f32::mul_add(p, r, 1.339_887_4e-3);
        let p = f32::mul_add(p, r, 9.618_438e-3);
        let p = f32::mul_add(p, r, 5.550_332_4e-2);
        let p = f32::mul_add(p, r, 2.402_264_8e-1);
        let p = f32::mul_add(p, r, 6.931_472e-1);
        let p = f32::mul_add(p, r, 1.0);
        p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(f32::to_bits(1.0)))
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        f32::mul_add(self, factor, term)
    }

    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }

    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        match storage {
            CpuStorage::F32(values) => Some(values),
            _ => None,
        }
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
    fn ln(self) -> Self {
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

    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        match storage {
            CpuStorage::F64(values) => Some(values),
            _ => None,
        }
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
    fn exp_of_special_values() {
        assert_eq!(Element::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Element::exp(-1e30f32), 0.0);
        assert_eq!(Element::exp(0.0f32), 1.0);
        assert_eq!(Element::exp(f32::INFINITY), f32::INFINITY);
        assert!(Element::exp(f32::NAN).is_nan());
    }
}
