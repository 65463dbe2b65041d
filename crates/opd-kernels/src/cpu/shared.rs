use std::{marker::PhantomData, ops::Range};

use super::gemm::MatrixMut;

/// A mutable slice that parallel tasks write to in places that never overlap.
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer comes from an exclusive borrow that outlives `self`, `T: Send` lets its
// values be written from other threads, and `slice` obliges callers to keep ranges apart.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as for `Sync`.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(values: &'a mut [T]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), lifetime: PhantomData }
    }

    /// The values in `range`.
    ///
    /// # Safety
    ///
    /// While the result lives, no other call may hand out any value of `range`.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "range outside the slice");
        // SAFETY: the range lies inside the borrowed slice (checked above); the caller keeps
        // ranges apart.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// `rows x cols` values from `start`, rows `row_stride` apart.
    ///
    /// # Safety
    ///
    /// While the result lives, no other call may hand out any value of the matrix.
    #[inline(always)]
    pub(crate) unsafe fn matrix(
        &self,
        start: usize,
        rows: usize,
        cols: usize,
        row_stride: usize,
    ) -> MatrixMut<'_, T> {
        assert!(start <= self.len, "matrix outside the slice");
        // SAFETY: the caller keeps values apart; `from_raw` checks that they are inside.
        unsafe {
            MatrixMut::from_raw(self.start.add(start), self.len - start, rows, cols, row_stride)
        }
    }
}
