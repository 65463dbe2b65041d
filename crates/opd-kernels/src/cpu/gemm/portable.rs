use std::marker::PhantomData;

use super::{
    kernels::{Kernels, table},
    lanes::Lanes,
    pack::{self, Strip},
    tile::{self, Tile},
};
use crate::cpu::Element;

pub(super) static F32: Kernels<f32> = Kernels {
    lanes: Array::<f32>::COUNT,
    tiles: table!(tile, Array<f32>; 1 2 3 4),
    pack: pack::<Array<f32>>,
};

pub(super) static F64: Kernels<f64> = Kernels {
    lanes: Array::<f64>::COUNT,
    tiles: table!(tile, Array<f64>; 1 2 3 4),
    pack: pack::<Array<f64>>,
};

unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize, const BY_ROW: bool>(
    tile: &Tile<L::Scalar>,
) {
    // SAFETY: the caller's promise is that of `tile::tile`.
    unsafe { tile::tile::<L, ROWS, VECTORS, BY_ROW>(tile) }
}

unsafe fn pack<L: Lanes>(strip: &Strip<L::Scalar>, to: *mut L::Scalar) {
    // SAFETY: the caller's promise is that of `pack::pack`.
    unsafe { pack::pack::<L>(strip, to) }
}

/// Four scalars, for the compiler to put into whatever vectors the target has.
pub(super) struct Array<T>(PhantomData<T>);

// SAFETY of every block below: the caller's pointers cover what `Lanes` says.
impl<T: Element + MulAdd> Lanes for Array<T> {
    type Scalar = T;
    type Vector = [T; 4];
    const COUNT: usize = 4;
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> [T; 4] {
        [T::ZERO; 4]
    }

    #[inline(always)]
    unsafe fn splat(from: *const T) -> [T; 4] {
        // SAFETY: see above.
        unsafe { [*from; 4] }
    }

    #[inline(always)]
    unsafe fn load(from: *const T) -> [T; 4] {
        // SAFETY: see above; an array of 4 has the alignment of one.
        unsafe { *from.cast::<[T; 4]>() }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const T, n: usize) -> [T; 4] {
        // SAFETY: see above; nothing at or after `n` is read.
        std::array::from_fn(|i| if i < n { unsafe { *from.add(i) } } else { T::ZERO })
    }

    #[inline(always)]
    unsafe fn store(to: *mut T, values: [T; 4]) {
        // SAFETY: see above; an array of 4 has the alignment of one.
        unsafe { *to.cast::<[T; 4]>() = values }
    }

    #[inline(always)]
    unsafe fn store_head(to: *mut T, n: usize, values: [T; 4]) {
        for (i, value) in values.into_iter().enumerate().take(n) {
            // SAFETY: see above; nothing at or after `n` is written.
            unsafe { *to.add(i) = value }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(_: *mut T) {}

    #[inline(always)]
    unsafe fn prefetch_ahead(_: *const T) {}

    #[inline(always)]
    unsafe fn add(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn mul_add(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i].times_plus(b[i], c[i]))
    }

    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const T, to: *mut T, to_stride: usize) {
        for g in 0..4 {
            for i in 0..4 {
                // SAFETY: see above.
                unsafe { *to.add(g * to_stride + i) = *row(i).add(g) }
            }
        }
    }
}

/// Whether the target surely has a fused multiply-add; in software it takes a hundred times as
/// long as the two operations.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

pub(super) trait MulAdd {
    fn times_plus(self, b: Self, c: Self) -> Self;
}

impl MulAdd for f32 {
    #[inline(always)]
    fn times_plus(self, b: f32, c: f32) -> f32 {
        if FUSED { self.mul_add(b, c) } else { self * b + c }
    }
}

impl MulAdd for f64 {
    #[inline(always)]
    fn times_plus(self, b: f64, c: f64) -> f64 {
        if FUSED { self.mul_add(b, c) } else { self * b + c }
    }
}
