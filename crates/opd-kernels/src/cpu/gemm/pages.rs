use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use memmap2::MmapMut;

use super::buffer::Number;

/// Bytes from which values are worth pages of their own.
const LARGE: usize = 1 << 20;

/// Numbers that are held for long. Large ones are in memory of the system's own: an allocator rounds them up
/// to one of its sizes, by a twentieth or more of all weights.
pub(crate) struct Pages<T> {
    memory: Memory<T>,
    len: usize,
}

enum Memory<T> {
    Allocated(Vec<T>),
    Mapped(MmapMut, PhantomData<T>),
}

impl<T: Number + Copy + Default> Pages<T> {
    /// So many zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        let mapped = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes >= LARGE).and_then(map);
        let memory = match mapped {
            Some(map) => Memory::Mapped(map, PhantomData),
            None => Memory::Allocated(vec![T::default(); len]),
        };
        Self { memory, len }
    }
}

/// Pages of zeros, if the system has them.
fn map(bytes: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(bytes).ok()?;
    // A hint, which a kernel without large pages does not know.
    #[cfg(target_os = "linux")]
    drop(map.advise(memmap2::Advice::HugePage));
    Some(map)
}

impl<T: Number> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Allocated(values) => values,
            // SAFETY: the map has `len` values, starts at a page, and any bytes make a number.
            Memory::Mapped(map, _) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast(), self.len)
            },
        }
    }
}

impl<T: Number> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.memory {
            Memory::Allocated(values) => values,
            // SAFETY: as above; the map is borrowed for as long as the values are.
            Memory::Mapped(map, _) => unsafe {
                std::slice::from_raw_parts_mut(map.as_mut_ptr().cast(), self.len)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGE, Memory, Pages};

    #[test]
    fn few_and_many_are_zeros_that_can_be_written() {
        for (len, maps) in [(0, false), (LARGE / 8 - 1, false), (LARGE / 8, true), (LARGE, true)] {
            let mut values = Pages::<f64>::zeros(len);
            assert_eq!(matches!(values.memory, Memory::Mapped(..)), maps, "{len}");
            assert!(values.len() == len && values.iter().all(|&value| value == 0.0));
            values.fill(1.5);
            assert!(values.iter().all(|&value| value == 1.5));
        }
    }
}
