use super::{lanes::Lanes, packed::ROWS_IN_STEP};
use crate::cpu::LINE;

/// How far ahead of what is copied memory is asked for: strips where the lanes are rows in memory.
const STRIPS_AHEAD: usize = 2;

/// The same, in depths, where the depths are.
const DEPTHS_AHEAD: usize = 2 * ROWS_IN_STEP;

/// A strip of a matrix that is to be packed: `lanes` adjacent rows of `a`, or columns of `b`.
pub(super) struct Strip<T> {
    /// Element `(k, lane)` is at `k * depth_stride + lane * lane_stride`.
    pub(super) from: *const T,
    pub(super) depth_stride: usize,
    pub(super) lane_stride: usize,
    pub(super) depth: usize,
    /// At least 1, at most `width`.
    pub(super) lanes: usize,
    /// Distance of two depths in the packed strip; a multiple of the vector length.
    pub(super) width: usize,
}

/// Copies a strip to `to`, lane by lane within each depth: `(k, lane)` goes to `k * width + lane`.
///
/// Lanes from `lanes` to `width` get some value of the strip or 0; no output depends on them.
///
/// # Safety
///
/// `from` covers the strip, `to` covers `depth * width` values that nobody else touches
/// meanwhile; the machine has the instruction set.
#[inline(always)]
pub(super) unsafe fn pack<L: Lanes>(strip: &Strip<L::Scalar>, to: *mut L::Scalar) {
    let &Strip { from, depth_stride, lane_stride, depth, lanes, width } = strip;
    // SAFETY: reads are at k < depth and a lane clamped below `lanes`, writes below
    // `depth * width`, all of which the caller vouches for.
    unsafe {
        if lane_stride == 1 {
            for k in 0..depth {
                let (from, to) = (from.add(k * depth_stride), to.add(k * width));
                L::prefetch_ahead(from.wrapping_add(DEPTHS_AHEAD * depth_stride));
                for lane in (0..width).step_by(L::COUNT) {
                    let n = lanes.saturating_sub(lane);
                    let values = if n >= L::COUNT {
                        L::load(from.add(lane))
                    } else if n > 0 {
                        L::load_head(from.add(lane), n)
                    } else {
                        L::zero()
                    };
                    L::store(to.add(lane), values);
                }
            }
            return;
        }
        let groups = if depth_stride == 1 { depth - depth % L::GROUP } else { 0 };
        for lane in (0..width).step_by(L::COUNT) {
            let (first, to) = (from.add(lane.min(lanes - 1) * lane_stride), to.add(lane));
            let last = (lanes - 1).saturating_sub(lane);
            for k in (0..groups).step_by(L::GROUP) {
                if k.is_multiple_of(LINE / size_of::<L::Scalar>()) {
                    for i in 0..L::COUNT {
                        let row = (i + STRIPS_AHEAD * lanes) * lane_stride;
                        L::prefetch_ahead(first.wrapping_add(row + k));
                    }
                }
                // The first alternative has cheaper addresses.
                if last >= L::COUNT - 1 {
                    L::transpose(|i| first.add(i * lane_stride + k), to.add(k * width), width);
                } else {
                    let row = |i: usize| first.add(i.min(last) * lane_stride + k);
                    L::transpose(row, to.add(k * width), width);
                }
            }
            for k in groups..depth {
                for i in 0..L::COUNT {
                    let from = first.add(i.min(last) * lane_stride + k * depth_stride);
                    *to.add(k * width + i) = *from;
                }
            }
        }
    }
}
