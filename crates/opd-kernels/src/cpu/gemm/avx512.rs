use std::arch::x86_64::*;

use super::{
    kernels::{Kernels, table},
    lanes::Lanes,
    pack::{self, Strip},
    tile::{self, Tile},
};

pub(super) static F32: Kernels<f32> = Kernels {
    lanes: F32Lanes::COUNT,
    tiles: table!(tile, F32Lanes; 1 2 3 4 5 6 7 8 9 10 11 12),
    pack: pack::<F32Lanes>,
};

pub(super) static F64: Kernels<f64> = Kernels {
    lanes: F64Lanes::COUNT,
    tiles: table!(tile, F64Lanes; 1 2 3 4 5 6 7 8 9 10 11 12),
    pack: pack::<F64Lanes>,
};

#[target_feature(enable = "avx512f")]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize, const BY_ROW: bool>(
    tile: &Tile<L::Scalar>,
) {
    // SAFETY: the caller's promise is that of `tile::tile`.
    unsafe { tile::tile::<L, ROWS, VECTORS, BY_ROW>(tile) }
}

#[target_feature(enable = "avx512f")]
unsafe fn pack<L: Lanes>(strip: &Strip<L::Scalar>, to: *mut L::Scalar) {
    // SAFETY: the caller's promise is that of `pack::pack`.
    unsafe { pack::pack::<L>(strip, to) }
}

pub(super) struct F32Lanes;

// SAFETY of every block below: the caller has AVX-512F and pointers that cover what `Lanes` says.
impl Lanes for F32Lanes {
    type Scalar = f32;
    type Vector = __m512;
    const COUNT: usize = 16;
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const f32, n: usize) -> __m512 {
        // SAFETY: see above; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_ps((1 << n) - 1, from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, values: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_ps(to, values) }
    }

    #[inline(always)]
    unsafe fn store_head(to: *mut f32, n: usize, values: __m512) {
        // SAFETY: see above; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to, (1 << n) - 1, values) }
    }

    #[inline(always)]
    unsafe fn prefetch(to: *mut f32) {
        // SAFETY: see above.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(to.cast_const().cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_ahead(from: *const f32) {
        // SAFETY: see above; a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    /// Quarter `q` of a register holds rows `4q..4q + 4` once all four are unpacked.
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, to: *mut f32, to_stride: usize) {
        // SAFETY: see above.
        unsafe {
            let part = |i| _mm_loadu_ps(row(i));
            let rows = |i| {
                let all = _mm512_castps128_ps512(part(i));
                let all = _mm512_insertf32x4::<1>(all, part(i + 4));
                let all = _mm512_insertf32x4::<2>(all, part(i + 8));
                _mm512_castps_pd(_mm512_insertf32x4::<3>(all, part(i + 12)))
            };
            let (r0, r1, r2, r3) = (rows(0), rows(1), rows(2), rows(3));
            let low = |a, b| {
                _mm512_castps_pd(_mm512_unpacklo_ps(_mm512_castpd_ps(a), _mm512_castpd_ps(b)))
            };
            let high = |a, b| {
                _mm512_castps_pd(_mm512_unpackhi_ps(_mm512_castpd_ps(a), _mm512_castpd_ps(b)))
            };
            let (low01, low23) = (low(r0, r1), low(r2, r3));
            let (high01, high23) = (high(r0, r1), high(r2, r3));
            let columns = [
                _mm512_unpacklo_pd(low01, low23),
                _mm512_unpackhi_pd(low01, low23),
                _mm512_unpacklo_pd(high01, high23),
                _mm512_unpackhi_pd(high01, high23),
            ];
            for (g, column) in columns.into_iter().enumerate() {
                _mm512_storeu_ps(to.add(g * to_stride), _mm512_castpd_ps(column));
            }
        }
    }
}

struct F64Lanes;

// SAFETY of every block below: the caller has AVX-512F and pointers that cover what `Lanes` says.
impl Lanes for F64Lanes {
    type Scalar = f64;
    type Vector = __m512d;
    const COUNT: usize = 8;
    const GROUP: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> __m512d {
        // SAFETY: see above.
        unsafe { _mm512_setzero_pd() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f64) -> __m512d {
        // SAFETY: see above.
        unsafe { _mm512_set1_pd(*from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> __m512d {
        // SAFETY: see above.
        unsafe { _mm512_loadu_pd(from) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const f64, n: usize) -> __m512d {
        // SAFETY: see above; masked lanes are not read.
        unsafe { _mm512_maskz_loadu_pd((1 << n) - 1, from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f64, values: __m512d) {
        // SAFETY: see above.
        unsafe { _mm512_storeu_pd(to, values) }
    }

    #[inline(always)]
    unsafe fn store_head(to: *mut f64, n: usize, values: __m512d) {
        // SAFETY: see above; masked lanes are not written.
        unsafe { _mm512_mask_storeu_pd(to, (1 << n) - 1, values) }
    }

    #[inline(always)]
    unsafe fn prefetch(to: *mut f64) {
        // SAFETY: see above.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(to.cast_const().cast()) }
    }

    #[inline(always)]
    unsafe fn prefetch_ahead(from: *const f64) {
        // SAFETY: see above; a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512d, b: __m512d) -> __m512d {
        // SAFETY: see above.
        unsafe { _mm512_add_pd(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m512d, b: __m512d, c: __m512d) -> __m512d {
        // SAFETY: see above.
        unsafe { _mm512_fmadd_pd(a, b, c) }
    }

    /// Quarter `q` of a register holds rows `2q` and `2q + 1` once both are unpacked.
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f64, to: *mut f64, to_stride: usize) {
        // SAFETY: see above.
        unsafe {
            let part = |i| _mm_loadu_ps(row(i).cast());
            let rows = |i| {
                let all = _mm512_castps128_ps512(part(i));
                let all = _mm512_insertf32x4::<1>(all, part(i + 2));
                let all = _mm512_insertf32x4::<2>(all, part(i + 4));
                _mm512_castps_pd(_mm512_insertf32x4::<3>(all, part(i + 6)))
            };
            let (r0, r1) = (rows(0), rows(1));
            _mm512_storeu_pd(to, _mm512_unpacklo_pd(r0, r1));
            _mm512_storeu_pd(to.add(to_stride), _mm512_unpackhi_pd(r0, r1));
        }
    }
}
