use super::{
    buffer::Number,
    pack::Strip,
    portable,
    tile::{LeftBy, Tile},
};
use crate::cpu::Element;

/// Computes one tile; see [`super::tile::tile`] for what it asks for.
pub(super) type TileFn<T> = unsafe fn(&Tile<T>);

/// Packs one strip; see [`super::pack::pack`] for what it asks for.
pub(super) type PackFn<T> = unsafe fn(&Strip<T>, *mut T);

/// The inner loops of one dtype on one instruction set.
pub(crate) struct Kernels<T: 'static> {
    /// Scalars per vector register.
    pub(super) lanes: usize,
    /// By rows less 1, vectors less 1, and whether the left operand is [`LeftBy::Row`].
    pub(super) tiles: &'static [[[TileFn<T>; 2]; 2]],
    pub(super) pack: PackFn<T>,
}

impl<T> Kernels<T> {
    /// Most rows of a tile.
    pub(super) fn max_rows(&self) -> usize {
        self.tiles.len()
    }

    /// Columns of a full tile.
    pub(super) fn max_cols(&self) -> usize {
        2 * self.lanes
    }

    /// The kernel for a tile of `rows` rows and enough vectors for `cols` columns.
    pub(super) fn tile(&self, rows: usize, cols: usize, left: LeftBy) -> TileFn<T> {
        let vectors = usize::from(cols > self.lanes);
        self.tiles[rows - 1][vectors][usize::from(left == LeftBy::Row)]
    }
}

/// The kernels of one instruction set for tiles of up to these many rows.
macro_rules! table {
    ($tile:ident, $lanes:ty; $($rows:literal)*) => {
        &[$([
            [$tile::<$lanes, $rows, 1, false>, $tile::<$lanes, $rows, 1, true>],
            [$tile::<$lanes, $rows, 2, false>, $tile::<$lanes, $rows, 2, true>],
        ]),*]
    };
}
pub(super) use table;

/// An instruction set that has kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Level {
    /// What this machine has, widest first.
    pub(crate) fn available() -> impl Iterator<Item = Level> {
        [
            #[cfg(target_arch = "x86_64")]
            is_x86_feature_detected!("avx512f").then_some(Level::Avx512),
            #[cfg(target_arch = "x86_64")]
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"))
                .then_some(Level::Avx2),
            Some(Level::Portable),
        ]
        .into_iter()
        .flatten()
    }

    /// The widest that this machine has.
    pub(super) fn best() -> Level {
        Level::available().next().unwrap_or(Level::Portable)
    }
}

/// A dtype that has matrix product kernels.
pub(crate) trait Gemm: Element + Number {
    /// The kernels of an instruction set, which the machine must have to call them.
    fn kernels(level: Level) -> &'static Kernels<Self>;

    /// The kernels of the widest instruction set that this machine has.
    fn best() -> &'static Kernels<Self> {
        Self::kernels(Level::best())
    }

    /// The values, if they are f32: only those have products of bf16.
    fn as_f32(values: &[Self]) -> Option<&[f32]>;

    /// As [`Gemm::as_f32`].
    fn as_f32_mut(values: &mut [Self]) -> Option<&mut [f32]>;
}

impl Gemm for f32 {
    fn kernels(level: Level) -> &'static Kernels<f32> {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &super::avx512::F32,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &super::avx2::F32,
            Level::Portable => &portable::F32,
        }
    }

    fn as_f32(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }

    fn as_f32_mut(values: &mut [f32]) -> Option<&mut [f32]> {
        Some(values)
    }
}

impl Gemm for f64 {
    fn kernels(level: Level) -> &'static Kernels<f64> {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &super::avx512::F64,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &super::avx2::F64,
            Level::Portable => &portable::F64,
        }
    }

    fn as_f32(_: &[f64]) -> Option<&[f32]> {
        None
    }

    fn as_f32_mut(_: &mut [f64]) -> Option<&mut [f32]> {
        None
    }
}
