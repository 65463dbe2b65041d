use std::cell::RefCell;

/// A cache line: the unit of the buffer, so that packed strips start at one.
#[derive(Clone, Copy)]
#[repr(align(64))]
#[expect(dead_code, reason = "read as numbers, through a pointer")]
struct Line([u8; Line::BYTES]);

impl Line {
    const BYTES: usize = 64;
}

thread_local! {
    /// Buffers that no call of this thread has now; the last was given back last.
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with memory for `len` values that belongs to this call alone.
///
/// The memory holds whatever an earlier call on this thread left, or 0. A call within `work` gets
/// memory of its own.
pub(crate) fn with_buffer<T: Number, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    let lines = (len * size_of::<T>()).div_ceil(Line::BYTES);
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < lines {
        buffer.resize(lines, Line([0; Line::BYTES]));
    }
    // SAFETY: `buffer` holds at least `len` values of `T`; every one of its bytes is initialised
    // and any bytes make a `Number`; lines are aligned more strictly than numbers; the vector is
    // this call's until it is put back.
    let values = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<T>(), len) };
    let result = work(values);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

/// A float.
///
/// # Safety
///
/// Any bytes make a value, and the alignment is at most that of a cache line.
pub(crate) unsafe trait Number {}

// SAFETY: every bit pattern is a float.
unsafe impl Number for f32 {}
// SAFETY: every bit pattern is a float.
unsafe impl Number for f64 {}

#[cfg(test)]
mod tests {
    use super::with_buffer;

    #[test]
    fn a_call_within_a_call_gets_other_memory() {
        with_buffer(100, |outer: &mut [f32]| {
            outer.fill(1.0);
            with_buffer(100, |inner: &mut [f64]| inner.fill(2.0));
            assert!(outer.iter().all(|&value| value == 1.0));
        });
    }

    #[test]
    fn memory_starts_at_a_cache_line() {
        with_buffer(3, |values: &mut [f32]| {
            assert_eq!((values.len(), values.as_ptr() as usize % 64), (3, 0));
        });
    }
}
