use std::{
    ops::{Deref, DerefMut},
    ptr::NonNull,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use memmap2::{MmapMut, MmapRaw};

use super::buffer::Number;

/// Bytes from which values are worth pages of their own.
const LARGE: usize = 1 << 20;

/// Bytes of a region that matrices share, so that most of it is in large pages, which Linux has; one of half
/// as many has a region to itself.
const REGION: usize = 64 << 20;

/// What a part of a region is a multiple of: a page of any system, so that no two parts share one.
const PAGE: usize = 64 << 10;

/// The region from which parts are taken, and how much of it is.
static OPEN: Mutex<(Weak<MmapRaw>, usize)> = Mutex::new((Weak::new(), 0));

/// Numbers of which those that are held for long are in memory of the system's own: an allocator rounds large
/// ones up to one of its sizes, by a twentieth or more of all weights.
pub(crate) struct Pages<T>(Memory<T>);

enum Memory<T> {
    Allocated(Vec<T>),
    Mapped(Part<T>),
}

/// Values in a part of a region that belongs to them alone.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
struct Part<T> {
    region: Arc<MmapRaw>,
    start: usize,
    values: NonNull<[T]>,
}

// SAFETY: a part owns its values as a vector does, and a region may be unmapped by any thread.
unsafe impl<T: Send> Send for Part<T> {}
// SAFETY: a shared part lends its values to be read, as a vector does.
unsafe impl<T: Sync> Sync for Part<T> {}

impl<T: Number + Copy + Default> Pages<T> {
    /// So many zeros that are freed soon, of the allocator, which has a use for their memory then.
    pub(super) fn passing(len: usize) -> Self {
        Self(Memory::Allocated(vec![T::default(); len]))
    }

    /// So many zeros that are held for long.
    pub(super) fn held(len: usize) -> Self {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes >= LARGE);
        let part = bytes.and_then(take).and_then(|(region, start)| {
            let first = region.as_mut_ptr().wrapping_add(start).cast();
            let values = NonNull::new(std::ptr::slice_from_raw_parts_mut(first, len))?;
            Some(Part { region, start, values })
        });
        part.map_or_else(|| Self::passing(len), |part| Self(Memory::Mapped(part)))
    }
}

/// A part of a region that nobody has had before, zeros; `None` if the system has no room.
fn take(bytes: usize) -> Option<(Arc<MmapRaw>, usize)> {
    let bytes = bytes.checked_next_multiple_of(PAGE)?;
    if bytes >= REGION / 2 || cfg!(not(target_os = "linux")) {
        return Some((map(bytes)?, 0));
    }
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let (region, used) = match (open.0.upgrade(), open.1) {
        (Some(region), used) if bytes <= REGION - used => (region, used),
        _ => (map(REGION)?, 0),
    };
    *open = (Arc::downgrade(&region), used + bytes);
    Some((region, used))
}

fn map(bytes: usize) -> Option<Arc<MmapRaw>> {
    let map = MmapRaw::from(MmapMut::map_anon(bytes).ok()?);
    // A hint, which a kernel without large pages does not know.
    #[cfg(target_os = "linux")]
    drop(map.advise(memmap2::Advice::HugePage));
    Some(Arc::new(map))
}

#[cfg(target_os = "linux")]
impl<T> Drop for Part<T> {
    /// Gives its pages back, though others may still be in the region.
    fn drop(&mut self) {
        use memmap2::UncheckedAdvice::DontNeed;
        let bytes = (self.values.len() * size_of::<T>()).next_multiple_of(PAGE);
        // SAFETY: these bytes are this part's alone, and nobody reads them again.
        drop(unsafe { self.region.unchecked_advise_range(DontNeed, self.start, bytes) });
    }
}

impl<T: Number> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.0 {
            Memory::Allocated(values) => values,
            // SAFETY: the values are inside the region, which lives as long as the part, start at a page
            // and belong to the part alone; any bytes make a number.
            Memory::Mapped(part) => unsafe { part.values.as_ref() },
        }
    }
}

impl<T: Number> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Memory::Allocated(values) => values,
            // SAFETY: as above; the part is borrowed for as long as the values are.
            Memory::Mapped(part) => unsafe { part.values.as_mut() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LARGE, Memory, Pages, REGION};

    #[test]
    fn few_and_many_are_zeros_that_can_be_written() {
        for (len, maps) in [(0, false), (LARGE / 8 - 1, false), (LARGE / 8, true), (LARGE, true)] {
            let mut values = Pages::<f64>::held(len);
            assert_eq!(matches!(values.0, Memory::Mapped(..)), maps, "{len}");
            assert!(values.len() == len && values.iter().all(|&value| value == 0.0));
            values.fill(1.5);
            assert!(values.iter().all(|&value| value == 1.5));
        }
    }

    #[test]
    fn parts_of_regions_are_apart_and_outlive_each_other() {
        // Some share a region, some fill one, one has its own.
        let sizes = [LARGE + 4, REGION / 3, REGION / 3, REGION / 3, LARGE + 400, REGION / 2 + 4];
        let mut held: Vec<Pages<f32>> = Vec::new();
        for (i, bytes) in sizes.into_iter().cycle().take(3 * sizes.len()).enumerate() {
            let mut values = Pages::<f32>::held(bytes / 4);
            assert!(values.iter().all(|&value| value == 0.0), "{i}");
            values.fill(1.0 + i as f32);
            held.push(values);
            if i % 4 == 3 {
                held.remove(held.len() / 2);
            }
            for values in &held {
                let first = values[0];
                assert!(first > 0.0 && values.iter().all(|&value| value == first), "{i}");
            }
        }
    }
}
