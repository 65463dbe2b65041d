use std::arch::x86_64::*;

use super::{
    kernels::{Kernels, table},
    lanes::Lanes,
    pack::{self, Strip},
    tile::{self, Tile},
};

pub(super) static F32: Kernels<f32> = Kernels {
    lanes: F32Lanes::COUNT,
    tiles: table!(tile, F32Lanes; 1 2 3 4 5 6),
    pack: pack::<F32Lanes>,
};

pub(super) static F64: Kernels<f64> = Kernels {
    lanes: F64Lanes::COUNT,
    tiles: table!(tile, F64Lanes; 1 2 3 4 5 6),
    pack: pack::<F64Lanes>,
};

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<L: Lanes, const ROWS: usize, const VECTORS: usize, const BY_ROW: bool>(
    tile: &Tile<L::Scalar>,
) {
    // SAFETY: the caller's promise is that of `tile::tile`.
    unsafe { tile::tile::<L, ROWS, VECTORS, BY_ROW>(tile) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn pack<L: Lanes>(strip: &Strip<L::Scalar>, to: *mut L::Scalar) {
    // SAFETY: the caller's promise is that of `pack::pack`.
    unsafe { pack::pack::<L>(strip, to) }
}

/// A load mask for the first `n` of 8 lanes starts at `8 - n`.
static HEAD_F32: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// A load mask for the first `n` of 4 lanes starts at `4 - n`.
static HEAD_F64: [i64; 8] = [-1, -1, -1, -1, 0, 0, 0, 0];

pub(super) struct F32Lanes;

// SAFETY of every block below: the caller has AVX2 and FMA, and pointers that cover what `Lanes`
// says.
impl Lanes for F32Lanes {
    type Scalar = f32;
    type Vector = __m256;
    const COUNT: usize = 8;
    const GROUP: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_set1_ps(*from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const f32, n: usize) -> __m256 {
        // SAFETY: see above; `8 - n..16 - n` is inside the mask, masked lanes are not read.
        unsafe {
            let mask = _mm256_loadu_si256(HEAD_F32.as_ptr().add(8 - n).cast());
            _mm256_maskload_ps(from, mask)
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, values: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_ps(to, values) }
    }

    #[inline(always)]
    unsafe fn store_head(to: *mut f32, n: usize, values: __m256) {
        // SAFETY: see above; `8 - n..16 - n` is inside the mask, masked lanes are not written.
        unsafe {
            let mask = _mm256_loadu_si256(HEAD_F32.as_ptr().add(8 - n).cast());
            _mm256_maskstore_ps(to, mask, values)
        }
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
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    /// Half `h` of a register holds rows `4h..4h + 4` once all four are unpacked.
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f32, to: *mut f32, to_stride: usize) {
        // SAFETY: see above.
        unsafe {
            let rows = |i| {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(row(i)));
                _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(row(i + 4)))
            };
            let (r0, r1, r2, r3) = (rows(0), rows(1), rows(2), rows(3));
            let low = |a, b| _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
            let high = |a, b| _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
            let (low01, low23) = (low(r0, r1), low(r2, r3));
            let (high01, high23) = (high(r0, r1), high(r2, r3));
            let columns = [
                _mm256_unpacklo_pd(low01, low23),
                _mm256_unpackhi_pd(low01, low23),
                _mm256_unpacklo_pd(high01, high23),
                _mm256_unpackhi_pd(high01, high23),
            ];
            for (g, column) in columns.into_iter().enumerate() {
                _mm256_storeu_ps(to.add(g * to_stride), _mm256_castpd_ps(column));
            }
        }
    }
}

struct F64Lanes;

// SAFETY of every block below: the caller has AVX2 and FMA, and pointers that cover what `Lanes`
// says.
impl Lanes for F64Lanes {
    type Scalar = f64;
    type Vector = __m256d;
    const COUNT: usize = 4;
    const GROUP: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> __m256d {
        // SAFETY: see above.
        unsafe { _mm256_setzero_pd() }
    }

    #[inline(always)]
    unsafe fn splat(from: *const f64) -> __m256d {
        // SAFETY: see above.
        unsafe { _mm256_set1_pd(*from) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f64) -> __m256d {
        // SAFETY: see above.
        unsafe { _mm256_loadu_pd(from) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const f64, n: usize) -> __m256d {
        // SAFETY: see above; `4 - n..8 - n` is inside the mask, masked lanes are not read.
        unsafe {
            let mask = _mm256_loadu_si256(HEAD_F64.as_ptr().add(4 - n).cast());
            _mm256_maskload_pd(from, mask)
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f64, values: __m256d) {
        // SAFETY: see above.
        unsafe { _mm256_storeu_pd(to, values) }
    }

    #[inline(always)]
    unsafe fn store_head(to: *mut f64, n: usize, values: __m256d) {
        // SAFETY: see above; `4 - n..8 - n` is inside the mask, masked lanes are not written.
        unsafe {
            let mask = _mm256_loadu_si256(HEAD_F64.as_ptr().add(4 - n).cast());
            _mm256_maskstore_pd(to, mask, values)
        }
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
    unsafe fn add(a: __m256d, b: __m256d) -> __m256d {
        // SAFETY: see above.
        unsafe { _mm256_add_pd(a, b) }
    }

    #[inline(always)]
    unsafe fn mul_add(a: __m256d, b: __m256d, c: __m256d) -> __m256d {
        // SAFETY: see above.
        unsafe { _mm256_fmadd_pd(a, b, c) }
    }

    /// Half `h` of a register holds rows `2h` and `2h + 1` once both are unpacked.
    #[inline(always)]
    unsafe fn transpose(row: impl Fn(usize) -> *const f64, to: *mut f64, to_stride: usize) {
        // SAFETY: see above.
        unsafe {
            let rows = |i| {
                let low = _mm256_castpd128_pd256(_mm_loadu_pd(row(i)));
                _mm256_insertf128_pd::<1>(low, _mm_loadu_pd(row(i + 2)))
            };
            let (r0, r1) = (rows(0), rows(1));
            _mm256_storeu_pd(to, _mm256_unpacklo_pd(r0, r1));
            _mm256_storeu_pd(to.add(to_stride), _mm256_unpackhi_pd(r0, r1));
        }
    }
}
