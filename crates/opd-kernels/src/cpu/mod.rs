//! What the CPU kernels share: element types, slices of tensors, SIMD dispatch, threads.

pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod columns;
pub(crate) mod divergence_rows;
mod element;
pub(crate) mod gemm;
mod inplace;
pub(crate) mod likeliest;
mod measure;
mod parallel;
pub(crate) mod part;
mod powers;
pub(crate) mod projection;
pub(crate) mod score_rows;
mod shared;
mod simd;
mod slices;
pub(crate) mod soft_cap;
pub(crate) mod softmax;
mod stored;
pub(crate) mod token_gradient;
pub(crate) mod token_rows;
pub(crate) mod vector;

pub(crate) use self::{
    element::Element,
    inplace::update,
    parallel::{CHUNK_VALUES, for_rows, for_rows_of_two, map_chunks, map_rows, sum_in_order},
    simd::dispatch,
    slices::{View, check_ids, of_storage, strided_view, tensor, view},
    stored::{Stored, rounded, rounded_sums, widened, with_rooms},
};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Evaluates `$body` with the type `$t` standing for the dtype of `$tensor`.
macro_rules! by_dtype {
    ($op:expr, $tensor:expr, $t:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            got => Err($crate::Error::DType {
                op: $op,
                what: stringify!($tensor),
                got,
                remedy: "convert it to f32",
            }),
        }
    };
}
pub(crate) use by_dtype;

/// As [`by_dtype`], with the narrower dtypes too: `$s` is [`Stored`].
macro_rules! by_stored {
    ($op:expr, $tensor:expr, $s:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::BF16 => {
                type $s = half::bf16;
                $body
            }
            candle_core::DType::F16 => {
                type $s = half::f16;
                $body
            }
            _ => $crate::cpu::by_dtype!($op, $tensor, $s => $body),
        }
    };
}
pub(crate) use by_stored;

/// As [`by_stored`], with what the values are computed in: `$t` is [`Element`].
macro_rules! by_computed {
    ($op:expr, $tensor:expr, $t:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::BF16 | candle_core::DType::F16 => {
                type $t = f32;
                $body
            }
            _ => $crate::cpu::by_dtype!($op, $tensor, $t => $body),
        }
    };
}
pub(crate) use by_computed;
