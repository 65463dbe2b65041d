use candle_core::{CpuStorage, WithDType};
use half::{bf16, f16, slice::HalfFloatSliceExt};

use super::{
    Element,
    gemm::{Gemm, nearest_bf16, with_buffer},
    sum_in_order,
};

/// A dtype of tensors: one that is computed in, or a narrower one whose values are widened where they
/// are read and rounded once where they are written.
pub(crate) trait Stored: WithDType + Default {
    /// What its values are computed in.
    type Wide: Gemm + Stored<Wide = Self::Wide>;

    /// The same values, where they are computed in their own dtype.
    fn wide(values: &[Self]) -> Option<&[Self::Wide]>;

    /// As [`Stored::wide`].
    fn wide_mut(values: &mut [Self]) -> Option<&mut [Self::Wide]>;

    /// Exact copies; both are of one length.
    fn widen(from: &[Self], to: &mut [Self::Wide]);

    /// The nearest values, ties to even; both are of one length.
    fn narrow(from: &[Self::Wide], to: &mut [Self]);

    /// The values of a storage of this dtype, or `None` for another dtype.
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;

    /// Room that the other functions need for `n` values.
    #[inline(always)]
    fn room(n: usize) -> usize {
        if Self::wide(&[]).is_some() { 0 } else { n }
    }

    /// The values as they are computed with: where they are, or at the start of `room`.
    #[inline(always)]
    fn read<'a>(values: &'a [Self], room: &'a mut [Self::Wide]) -> &'a [Self::Wide] {
        if let Some(wide) = Self::wide(values) {
            return wide;
        }
        let room = &mut room[..values.len()];
        Self::widen(values, room);
        room
    }

    /// Lets `body` write the values as they are computed; it finds any.
    #[inline(always)]
    fn write<R>(
        values: &mut [Self],
        room: &mut [Self::Wide],
        body: impl FnOnce(&mut [Self::Wide]) -> R,
    ) -> R {
        if let Some(wide) = Self::wide_mut(values) {
            return body(wide);
        }
        let room = &mut room[..values.len()];
        let result = body(room);
        Self::narrow(room, values);
        result
    }

    /// Lets `body` change the values.
    #[inline(always)]
    fn update<R>(
        values: &mut [Self],
        room: &mut [Self::Wide],
        body: impl FnOnce(&mut [Self::Wide]) -> R,
    ) -> R {
        if Self::wide(values).is_none() {
            Self::widen(values, &mut room[..values.len()]);
        }
        Self::write(values, room, body)
    }
}

/// Calls `work` with rooms for `N` rows of `width` values.
pub(crate) fn with_rooms<S: Stored, const N: usize, R>(
    width: usize,
    work: impl FnOnce([&mut [S::Wide]; N]) -> R,
) -> R {
    let len = S::room(width);
    with_buffer(N * len, |mut rest: &mut [S::Wide]| {
        work(std::array::from_fn(|_| {
            let (room, after) = std::mem::take(&mut rest).split_at_mut(len);
            rest = after;
            room
        }))
    })
}

/// A copy of `values` as they are computed with.
pub(crate) fn widened<S: Stored>(values: &[S]) -> Vec<S::Wide> {
    let mut wide = vec![S::Wide::ZERO; values.len()];
    S::widen(values, &mut wide);
    wide
}

/// A copy of `values`, each rounded once.
pub(crate) fn rounded<S: Stored>(values: &[S::Wide]) -> Vec<S> {
    let mut narrow = vec![S::default(); values.len()];
    S::narrow(values, &mut narrow);
    narrow
}

/// Sums of vectors of `width` values, first to last, each rounded to what is computed in and to `S`.
pub(crate) fn rounded_sums<S: Stored>(parts: Vec<Vec<f64>>, width: usize) -> Vec<S> {
    let wide: Vec<S::Wide> = sum_in_order(parts, width).into_iter().map(S::Wide::of).collect();
    rounded(&wide)
}

/// [`Stored`] of a dtype that is computed in.
macro_rules! computed_in {
    ($t:ty, $storage:ident) => {
        impl Stored for $t {
            type Wide = $t;

            #[inline(always)]
            fn wide(values: &[$t]) -> Option<&[$t]> {
                Some(values)
            }

            #[inline(always)]
            fn wide_mut(values: &mut [$t]) -> Option<&mut [$t]> {
                Some(values)
            }

            fn widen(from: &[$t], to: &mut [$t]) {
                to.copy_from_slice(from);
            }

            fn narrow(from: &[$t], to: &mut [$t]) {
                to.copy_from_slice(from);
            }

            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [$t]> {
                match storage {
                    CpuStorage::$storage(values) => Some(values),
                    _ => None,
                }
            }
        }
    };
}

computed_in!(f32, F32);
computed_in!(f64, F64);

impl Stored for bf16 {
    type Wide = f32;

    #[inline(always)]
    fn wide(_: &[bf16]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn wide_mut(_: &mut [bf16]) -> Option<&mut [f32]> {
        None
    }

    /// Without the detour of [`bf16::to_f32`] for NaN, which vector code cannot take.
    #[inline(always)]
    fn widen(from: &[bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = f32::from_bits(u32::from(from.to_bits()) << 16);
        }
    }

    #[inline(always)]
    fn narrow(from: &[f32], to: &mut [bf16]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = nearest_bf16(*from);
        }
    }

    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [bf16]> {
        match storage {
            CpuStorage::BF16(values) => Some(values),
            _ => None,
        }
    }
}

impl Stored for f16 {
    type Wide = f32;

    #[inline(always)]
    fn wide(_: &[f16]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn wide_mut(_: &mut [f16]) -> Option<&mut [f32]> {
        None
    }

    fn widen(from: &[f16], to: &mut [f32]) {
        from.convert_to_f32_slice(to);
    }

    fn narrow(from: &[f32], to: &mut [f16]) {
        to.convert_from_f32_slice(from);
    }

    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [f16]> {
        match storage {
            CpuStorage::F16(values) => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::{Stored, with_rooms};

    /// Whether `to_f32` and back by the half crate is what [`Stored`] does.
    fn check<S: Stored<Wide = f32>>(
        value: f32,
        nearest: impl Fn(f32) -> S,
        exact: impl Fn(S) -> f32,
    ) -> Result<(), TestCaseError> {
        let mut to = [S::default()];
        S::narrow(&[value], &mut to);
        let want = nearest(value);
        let mut wide = [0.0];
        S::widen(&to, &mut wide);
        let same = exact(to[0]).to_bits() == exact(want).to_bits();
        prop_assert!(same || value.is_nan() && wide[0].is_nan(), "{value}: {}", wide[0]);
        prop_assert!(value.is_nan() || wide[0].to_bits() == exact(want).to_bits());
        Ok(())
    }

    proptest! {
        #[test]
        fn every_f32_rounds_as_the_half_crate_rounds_it(bits: u32) {
            let value = f32::from_bits(bits);
            check(value, bf16::from_f32, bf16::to_f32)?;
            check(value, f16::from_f32, f16::to_f32)?;
            check(value % 1e5, f16::from_f32, f16::to_f32)?;
        }
    }

    #[test]
    fn rooms_are_apart_and_only_as_large_as_they_must() {
        with_rooms::<bf16, 2, _>(3, |[a, b]| {
            a.fill(1.0);
            b.fill(2.0);
            assert_eq!((&*a, &*b), (&[1.0; 3][..], &[2.0; 3][..]));
        });
        with_rooms::<f32, 2, _>(3, |[a, b]| assert!(a.is_empty() && b.is_empty()));
    }

    #[test]
    fn changes_are_rounded_once() {
        let (mut values, mut room) = ([bf16::ONE; 2], [0.0; 2]);
        bf16::update(&mut values, &mut room, |wide| {
            // Each is less than half a unit in the last place of 1; both together are more.
            wide[0] += 3.0 / 1024.0;
            wide[0] += 3.0 / 1024.0;
        });
        assert_eq!(values.map(bf16::to_f32), [1.0 + 1.0 / 128.0, 1.0]);
    }
}
