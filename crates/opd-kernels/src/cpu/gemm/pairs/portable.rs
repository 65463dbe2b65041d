use super::{
    super::{
        kernels::{Kernels, table},
        lanes::Lanes,
        pack::{self, Strip},
        portable::{Array, MulAdd},
        tile::{self, Tile},
    },
    pair_lanes,
    rounded::halves,
};

pub(super) static PAIRS: Kernels<f32> = Kernels {
    lanes: PairLanes::COUNT,
    tiles: table!(tile, PairLanes; 1 2 3 4),
    pack: pack::<PairLanes>,
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

pair_lanes!(PairLanes = Array<f32>, [f32; 4], |a, b, c| {
    std::array::from_fn(|i| {
        let ((first_a, second_a), (first_b, second_b)) = (halves(a[i]), halves(b[i]));
        first_a.times_plus(first_b, second_a.times_plus(second_b, c[i]))
    })
});
