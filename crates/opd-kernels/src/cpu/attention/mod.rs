//! Causal attention over packed spans, one task per span (or family) and key head.
//!
//! A task takes blocks of query rows: scores, softmax and weighted values are small matrix
//! products whose every element is one chain in order of the keys, so a row's result does not
//! depend on the rows beside it.

mod backward;
mod forward;
mod keys;
mod rows;

pub(crate) use self::{backward::backward, forward::forward};

/// A `[rows, heads, dim]` view with contiguous heads.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) row_stride: usize,
}
