//! The loops in f32 with the instructions for exponents that the compiler does not choose.

use std::arch::x86_64::*;

use super::{LANES, Powers, total};
use crate::cpu::{Element, element::EXP2, softmax::BLOCK};

const WIDTH: usize = 16;

#[inline(always)]
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// `2^e`, rounded as [`Element::exp2`] does it.
#[inline(always)]
unsafe fn exp2(e: __m512) -> __m512 {
    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    // SAFETY: the caller has AVX-512F.
    unsafe {
        let whole = _mm512_roundscale_ps::<NEAREST>(e);
        let r = _mm512_sub_ps(e, whole);
        let [last, rest @ ..] = EXP2;
        let mut value = _mm512_set1_ps(last);
        for coefficient in rest {
            value = _mm512_fmadd_ps(value, r, _mm512_set1_ps(coefficient));
        }
        _mm512_scalef_ps(value, whole)
    }
}

/// What all loops hold in registers.
#[derive(Clone, Copy)]
struct Constants {
    scale: __m512,
    shift: __m512,
    least: __m512,
}

impl Constants {
    #[inline(always)]
    unsafe fn new(powers: Powers<f32>) -> Self {
        // SAFETY: the caller has AVX-512F.
        unsafe {
            Self {
                scale: _mm512_set1_ps(powers.scale),
                shift: _mm512_set1_ps(powers.shift),
                least: _mm512_set1_ps(f32::LEAST_POWER),
            }
        }
    }

    #[inline(always)]
    unsafe fn exponent(self, x: __m512) -> __m512 {
        // SAFETY: the caller has AVX-512F.
        unsafe { _mm512_fmsub_ps(x, self.scale, self.shift) }
    }
}

/// The first `n` lanes; all for more than there are.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    if n >= WIDTH { !0 } else { (1 << n) - 1 }
}

/// # Safety
///
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn sums<const TIES: bool, const WEIGHTED: bool>(
    powers: Powers<f32>,
    block: &[f32],
    max: f32,
) -> [f64; 3] {
    const PARTS: usize = LANES / WIDTH;
    let mut lanes = [[0.0f32; LANES]; 3];
    // SAFETY: the caller's promise; loads are of values inside `block`, stores inside `lanes`, and
    // a hint reads nothing.
    unsafe {
        let constants = Constants::new(powers);
        let (max, one) = (_mm512_set1_ps(max), _mm512_set1_ps(1.0));
        let mut sums = [[_mm512_setzero_ps(); PARTS]; 3];
        let mut add = |part: usize, x: __m512, here: __mmask16| {
            let e = _mm512_max_ps(constants.least, constants.exponent(x));
            let power = exp2(e);
            let mut counted = here;
            if TIES {
                let ties = _mm512_mask_cmp_ps_mask::<_CMP_EQ_OQ>(here, x, max);
                sums[0][part] = _mm512_mask_add_ps(sums[0][part], ties, sums[0][part], one);
                counted &= !ties;
            }
            sums[1][part] = _mm512_mask_add_ps(sums[1][part], counted, sums[1][part], power);
            if WEIGHTED {
                sums[2][part] = _mm512_mask3_fmadd_ps(power, e, sums[2][part], counted);
            }
        };
        let (whole, rest) = block.as_chunks::<LANES>();
        for chunk in whole {
            for part in 0..PARTS {
                let at = chunk.as_ptr().add(part * WIDTH);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(BLOCK).cast());
                add(part, _mm512_loadu_ps(at), !0);
            }
        }
        for part in 0..rest.len().div_ceil(WIDTH) {
            let here = first(rest.len() - part * WIDTH);
            add(part, _mm512_maskz_loadu_ps(here, rest.as_ptr().add(part * WIDTH)), here);
        }
        for (lanes, sums) in lanes.iter_mut().zip(sums) {
            for (part, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(lanes.as_mut_ptr().add(part * WIDTH), sum);
            }
        }
    }
    lanes.map(total)
}

/// Calls `value` with each vector of logits and a mask of those that exist.
#[inline(always)]
unsafe fn replace(out: &mut [f32], logits: Option<&[f32]>, value: impl Fn(__m512) -> __m512) {
    let n = logits.map_or(out.len(), |logits| logits.len().min(out.len()));
    let to = out.as_mut_ptr();
    let from = logits.map_or(to.cast_const(), <[f32]>::as_ptr);
    let whole = n - n % WIDTH;
    // SAFETY: the caller has AVX-512F; all places are below `n`, which both slices reach.
    unsafe {
        for i in (0..whole).step_by(WIDTH) {
            _mm512_storeu_ps(to.add(i), value(_mm512_loadu_ps(from.add(i))));
        }
        if whole < n {
            let here = first(n - whole);
            let x = _mm512_maskz_loadu_ps(here, from.add(whole));
            _mm512_mask_storeu_ps(to.add(whole), here, value(x));
        }
    }
}

/// # Safety
///
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn gradient(
    powers: Powers<f32>,
    out: &mut [f32],
    logits: Option<&[f32]>,
    factor: f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (constants, factor) = (Constants::new(powers), _mm512_set1_ps(factor));
        replace(out, logits, |x| {
            let e = constants.exponent(x);
            let possible = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(e, constants.least);
            let power = exp2(e);
            _mm512_maskz_mul_ps(possible, power, factor)
        });
    }
}

/// # Safety
///
/// The machine has AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn sloped_gradient(
    powers: Powers<f32>,
    out: &mut [f32],
    logits: Option<&[f32]>,
    line: [f32; 3],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let constants = Constants::new(powers);
        let [factor, slope, constant] = line.map(|value| _mm512_set1_ps(value));
        replace(out, logits, |x| {
            let e = constants.exponent(x);
            let possible = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(e, constants.least);
            let power = _mm512_mul_ps(exp2(e), factor);
            _mm512_maskz_mul_ps(possible, power, _mm512_fmadd_ps(slope, e, constant))
        });
    }
}
