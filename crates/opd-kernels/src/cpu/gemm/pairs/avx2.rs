use std::arch::x86_64::*;

use super::{
    super::{
        avx2::F32Lanes,
        kernels::{Kernels, table},
        lanes::Lanes,
        pack::{self, Strip},
        tile::{self, Tile},
    },
    pair_lanes,
};

pub(super) static PAIRS: Kernels<f32> = Kernels {
    lanes: PairLanes::COUNT,
    tiles: table!(tile, PairLanes; 1 2 3 4),
    pack: pack::<PairLanes>,
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

pair_lanes!(PairLanes = F32Lanes, __m256, |a, b, c| {
    // SAFETY: the caller has AVX2 and FMA.
    unsafe {
        let high_half = _mm256_castsi256_ps(_mm256_set1_epi32(-0x1_0000));
        let first =
            |pairs| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs)));
        let second = |pairs| _mm256_and_ps(pairs, high_half);
        let sums = _mm256_fmadd_ps(second(a), second(b), c);
        _mm256_fmadd_ps(first(a), first(b), sums)
    }
});
