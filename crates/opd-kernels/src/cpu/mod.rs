//! What the CPU kernels share: element types, slices of tensors, SIMD dispatch, threads.

mod element;
mod parallel;
mod simd;
mod slices;

pub(crate) use self::{
    element::Element,
    parallel::{for_each_chunk, CHUNK_ROWS},
    simd::dispatch,
    slices::{check_ids, tensor, view},
};
