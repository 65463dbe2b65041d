//! Causal attention over packed spans, one task per span (or family) and key head.
//!
//! Keys and values of a task are first laid out with the keys along the fast axis, so that
//! scores of neighbouring keys are computed side by side.

mod backward;
mod forward;
mod panel;

pub(crate) use self::{backward::backward, forward::forward};

/// A `[rows, heads, dim]` view with contiguous heads.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) row_stride: usize,
}

impl<'a, T> Strided<'a, T> {
    #[inline(always)]
    fn head(&self, row: usize, head: usize, dim: usize) -> &'a [T] {
        &self.values[row * self.row_stride + head * dim..][..dim]
    }
}
