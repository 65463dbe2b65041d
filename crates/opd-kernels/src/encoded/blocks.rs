// Indices say where the bits of a value lie.
#![allow(clippy::needless_range_loop)]

use candle_core::quantized::GgmlDType::{
    self, BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0,
};

/// Whether [`decode`] knows an encoding.
pub(super) fn is_read(kind: GgmlDType) -> bool {
    matches!(
        kind,
        F32 | F16 | BF16 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q2K | Q3K | Q4K | Q5K | Q6K
    )
}

/// Values of whole blocks: those of candle's `GgmlType::to_float`, operation by operation, in loops
/// that vector code is made of.
#[inline(always)]
pub(super) fn decode(kind: GgmlDType, bytes: &[u8], out: &mut [f32]) {
    match kind {
        F32 => each(bytes, out, |b: &[u8; 4], out: &mut [f32; 1]| out[0] = f32::from_le_bytes(*b)),
        F16 => each(bytes, out, |b: &[u8; 2], out: &mut [f32; 1]| out[0] = half(b)),
        BF16 => each(bytes, out, |b: &[u8; 2], out: &mut [f32; 1]| {
            out[0] = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
        }),
        Q4_0 => each(bytes, out, q4_0),
        Q4_1 => each(bytes, out, q4_1),
        Q5_0 => each(bytes, out, q5_0),
        Q5_1 => each(bytes, out, q5_1),
        Q8_0 => each(bytes, out, q8_0),
        Q2K => each(bytes, out, q2_k),
        Q3K => each(bytes, out, q3_k),
        Q4K => each(bytes, out, q4_k),
        Q5K => each(bytes, out, q5_k),
        Q6K => each(bytes, out, q6_k),
        _ => {}
    }
}

/// Calls `block` with each block of `B` bytes and the `V` values that it stands for.
#[inline(always)]
fn each<const B: usize, const V: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; B], &mut [f32; V]),
) {
    let (blocks, values) = (bytes.as_chunks::<B>().0, out.as_chunks_mut::<V>().0);
    for (bytes, out) in blocks.iter().zip(values) {
        block(bytes, out);
    }
}

/// The value of an f16, without the branches of the `half` crate.
#[inline(always)]
fn half(bytes: &[u8; 2]) -> f32 {
    /// 2^112, the distance of the two exponents; the product is exact.
    const RESCALE: f32 = f32::from_bits(0x7780_0000);
    let bits = u32::from(u16::from_le_bytes(*bytes));
    let magnitude = (bits & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * RESCALE).to_bits();
    let value = if bits & 0x7c00 == 0x7c00 { magnitude | 0x7f80_0000 } else { finite };
    f32::from_bits(value | (bits & 0x8000) << 16)
}

/// The f16 at a place of a block.
#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    half(&[block[at], block[at + 1]])
}

#[inline(always)]
fn low(byte: u8) -> i32 {
    i32::from(byte & 15)
}

#[inline(always)]
fn high(byte: u8) -> i32 {
    i32::from(byte >> 4)
}

#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let (scale, quants) = (half_at(block, 0), &block[2..]);
    for i in 0..16 {
        out[i] = (low(quants[i]) - 8) as f32 * scale;
    }
    for i in 0..16 {
        out[16 + i] = (high(quants[i]) - 8) as f32 * scale;
    }
}

#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (scale, least, quants) = (half_at(block, 0), half_at(block, 2), &block[4..]);
    for i in 0..16 {
        out[i] = low(quants[i]) as f32 * scale + least;
    }
    for i in 0..16 {
        out[16 + i] = high(quants[i]) as f32 * scale + least;
    }
}

/// The fifth bits of a block's two halves, in place.
#[inline(always)]
fn fifths(bits: &[u8], i: usize) -> [i32; 2] {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    [(bits >> i & 1) << 4, (bits >> (i + 16) & 1) << 4].map(|bit| bit as i32)
}

#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let (scale, bits, quants) = (half_at(block, 0), &block[2..6], &block[6..]);
    for i in 0..16 {
        let [first, second] = fifths(bits, i);
        out[i] = ((low(quants[i]) | first) - 16) as f32 * scale;
        out[16 + i] = ((high(quants[i]) | second) - 16) as f32 * scale;
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let (bits, quants) = (&block[4..8], &block[8..]);
    for i in 0..16 {
        let [first, second] = fifths(bits, i);
        out[i] = (low(quants[i]) | first) as f32 * scale + least;
        out[16 + i] = (high(quants[i]) | second) as f32 * scale + least;
    }
}

#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let (scale, quants) = (half_at(block, 0), &block[2..]);
    for i in 0..32 {
        out[i] = f32::from(quants[i] as i8) * scale;
    }
}

/// 16 groups of 16, each with a scale and a minimum of 4 bits.
#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (scale, least) = (half_at(block, 80), half_at(block, 82));
    for group in 0..16 {
        let (chunk, shift, side) = (group / 8, group % 8 / 2 * 2, group % 2);
        let own = scale * (scales[group] & 15) as f32;
        let least = least * (scales[group] >> 4) as f32;
        let quants = &quants[32 * chunk + 16 * side..][..16];
        let out = &mut out[16 * group..][..16];
        for i in 0..16 {
            out[i] = own * (quants[i] >> shift & 3) as f32 - least;
        }
    }
}

/// 16 groups of 16, each with a scale of 6 bits; the third bits of quants lie apart.
#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (thirds, quants, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let scale = half_at(block, 108);
    for group in 0..16 {
        let (chunk, shift, side) = (group / 8, group % 8 / 2 * 2, group % 2);
        let four = if group < 8 { scales[group] & 15 } else { scales[group - 8] >> 4 };
        let two = scales[8 + group % 4] >> (2 * (group / 4)) & 3;
        let own = scale * ((four | two << 4) as f32 - 32.0);
        let quants = &quants[32 * chunk + 16 * side..][..16];
        let thirds = &thirds[16 * side..][..16];
        let out = &mut out[16 * group..][..16];
        for i in 0..16 {
            let third = i32::from(thirds[i] >> (group / 2) & 1) << 2;
            out[i] = own * (i32::from(quants[i] >> shift & 3) + third - 4) as f32;
        }
    }
}

/// Scale and minimum, of 6 bits each, of one of 8 groups.
#[inline(always)]
fn scale_and_least(group: usize, packed: &[u8]) -> [f32; 2] {
    let [scale, least] = match group {
        ..4 => [packed[group] & 63, packed[group + 4] & 63],
        _ => [
            packed[group + 4] & 15 | packed[group - 4] >> 6 << 4,
            packed[group + 4] >> 4 | packed[group] >> 6 << 4,
        ],
    };
    [scale as f32, least as f32]
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let (scales, quants) = (&block[4..16], &block[16..]);
    for group in 0..8 {
        let [own, own_least] = scale_and_least(group, scales);
        let (own, own_least) = (scale * own, least * own_least);
        let quants = &quants[32 * (group / 2)..][..32];
        let out = &mut out[32 * group..][..32];
        let shift = 4 * (group % 2);
        for i in 0..32 {
            out[i] = own * (quants[i] >> shift & 15) as f32 - own_least;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (scale, least) = (half_at(block, 0), half_at(block, 2));
    let (scales, fifths, quants) = (&block[4..16], &block[16..48], &block[48..]);
    for group in 0..8 {
        let [own, own_least] = scale_and_least(group, scales);
        let (own, own_least) = (scale * own, least * own_least);
        let quants = &quants[32 * (group / 2)..][..32];
        let out = &mut out[32 * group..][..32];
        let shift = 4 * (group % 2);
        for i in 0..32 {
            let quant = quants[i] >> shift & 15 | (fifths[i] >> group & 1) << 4;
            out[i] = own * quant as f32 - own_least;
        }
    }
}

/// 16 groups of 16, each with a signed scale; the upper two bits of quants lie apart.
#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (lows, highs, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let scale = half_at(block, 208);
    for group in 0..16 {
        let (chunk, quarter, side) = (group / 8, group % 8 / 2, group % 2);
        let own = scale * f32::from(scales[group] as i8);
        let lows = &lows[64 * chunk + 32 * (quarter % 2) + 16 * side..][..16];
        let highs = &highs[32 * chunk + 16 * side..][..16];
        let out = &mut out[16 * group..][..16];
        let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
        for i in 0..16 {
            let quant = lows[i] >> low_shift & 15 | (highs[i] >> high_shift & 3) << 4;
            out[i] = own * (i32::from(quant) - 32) as f32;
        }
    }
}
