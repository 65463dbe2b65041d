use std::{arch::x86_64::*, mem::transmute};

use super::{
    super::{
        avx512::F32Lanes,
        kernels::{Kernels, table},
        lanes::Lanes,
        pack::{self, Strip},
        tile::{self, Tile},
    },
    pair_lanes,
};

pub(super) static PAIRS: Kernels<f32> = Kernels {
    lanes: PairLanes::COUNT,
    tiles: table!(tile, PairLanes; 1 2 3 4 5 6 7 8 9 10 11 12),
    pack: pack::<PairLanes>,
};

#[target_feature(enable = "avx512f,avx512bf16")]
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

pair_lanes!(PairLanes = F32Lanes, __m512, |a, b, c| {
    // SAFETY: the caller has AVX-512 BF16; both types are 512 bits of which any are a value.
    unsafe {
        _mm512_dpbf16_ps(c, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b))
    }
});
