use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opd_models::KvRows;

use super::families::in_common;
use crate::Result;

/// Fewest tokens that are worth a look-up and a copy.
const SHORTEST: usize = 16;

/// Keys and values of beginnings that were computed before, as many as fit; those that were not
/// asked for the longest time go first.
#[derive(Debug)]
pub(crate) struct Kept {
    inside: Mutex<Inside>,
    capacity: usize,
}

/// No beginning is the beginning of another.
#[derive(Debug, Default)]
struct Inside {
    by_tokens: BTreeMap<Vec<u32>, Entry>,
    bytes: usize,
    /// Counts uses.
    now: u64,
}

#[derive(Debug)]
struct Entry {
    rows: Arc<KvRows>,
    used: u64,
}

/// The first `n` of `rows` are those of the tokens that were looked up.
#[derive(Clone, Debug)]
pub(crate) struct Recalled {
    pub(crate) rows: Arc<KvRows>,
    pub(crate) n: usize,
}

impl Kept {
    /// Keeps at most `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { inside: Mutex::default(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest beginning of `tokens` that is kept.
    pub(crate) fn recall(&self, tokens: &[u32]) -> Option<Recalled> {
        if self.capacity == 0 || tokens.len() < SHORTEST {
            return None;
        }
        let mut inside = self.lock();
        inside.now += 1;
        let now = inside.now;
        // What begins most alike stands next to it in the order of the tokens.
        let (n, key) = inside
            .neighbours(tokens)
            .into_iter()
            .flatten()
            .map(|key| (in_common(key, tokens), key.clone()))
            .max_by_key(|(n, _)| *n)?;
        if n < SHORTEST {
            return None;
        }
        let entry = inside.by_tokens.get_mut(&key)?;
        entry.used = now;
        Some(Recalled { rows: entry.rows.clone(), n })
    }

    /// Keeps `rows` for `tokens`, unless they are kept already or too large.
    pub(crate) fn keep(&self, tokens: &[u32], rows: impl FnOnce() -> Result<KvRows>) -> Result<()> {
        if self.capacity == 0 || tokens.len() < SHORTEST || self.lock().covers(tokens) {
            return Ok(());
        }
        let rows = Arc::new(rows()?);
        if rows.bytes() > self.capacity {
            return Ok(());
        }
        let mut inside = self.lock();
        inside.now += 1;
        let entry = Entry { rows, used: inside.now };
        inside.insert(tokens, entry, self.capacity);
        Ok(())
    }

    /// Forgets all of it.
    pub(crate) fn clear(&self) {
        *self.lock() = Inside::default();
    }

    /// Bytes that are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl Inside {
    /// What stands before (or at) and behind `tokens`.
    fn neighbours(&self, tokens: &[u32]) -> [Option<&Vec<u32>>; 2] {
        let before = self.by_tokens.range::<[u32], _>((Unbounded, Included(tokens))).next_back();
        let behind = self.by_tokens.range::<[u32], _>((Excluded(tokens), Unbounded)).next();
        [before.map(|(key, _)| key), behind.map(|(key, _)| key)]
    }

    /// Whether `tokens` are kept, as such or as a beginning.
    fn covers(&self, tokens: &[u32]) -> bool {
        self.neighbours(tokens).into_iter().flatten().any(|key| key.starts_with(tokens))
    }

    fn insert(&mut self, tokens: &[u32], entry: Entry, capacity: usize) {
        if self.covers(tokens) {
            return;
        }
        let [before, _] = self.neighbours(tokens);
        if let Some(within) = before.filter(|key| tokens.starts_with(key)).cloned() {
            self.remove(&within);
        }
        self.bytes += entry.rows.bytes();
        self.by_tokens.insert(tokens.to_vec(), entry);
        while self.bytes > capacity {
            let oldest = self.by_tokens.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &[u32]) {
        if let Some(entry) = self.by_tokens.remove(key) {
            self.bytes -= entry.rows.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use opd_models::{KvCache, KvRows, ModelConfig};
    use opd_testkit::GoldenModel;

    use super::{Kept, SHORTEST};

    fn rows(n: usize) -> KvRows {
        let config = ModelConfig::load(&GoldenModel::load("qwen3_tied").dir).unwrap();
        let cache = KvCache::new(&config, n, DType::F32, &Device::Cpu).unwrap();
        cache.copy_rows(0..n).unwrap()
    }

    fn tokens(n: usize, own: &[u32]) -> Vec<u32> {
        (0..n as u32).chain(own.iter().copied()).collect()
    }

    #[test]
    fn the_longest_beginning_is_recalled() {
        let kept = Kept::new(usize::MAX);
        let recalled = |tokens: &[u32]| kept.recall(tokens).map(|recalled| recalled.n);
        for own in [[500, 501], [300, 301], [400, 401]] {
            kept.keep(&tokens(30, &own), || Ok(rows(32))).unwrap();
        }
        assert_eq!(recalled(&tokens(30, &[300, 301, 7])), Some(32));
        assert_eq!(recalled(&tokens(30, &[400, 9])), Some(31));
        assert_eq!(recalled(&tokens(30, &[999])), Some(30));
        assert_eq!(recalled(&tokens(20, &[])), Some(20));
        assert_eq!(recalled(&tokens(SHORTEST - 1, &[999, 999])), None);
        assert_eq!(recalled(&[7; 40]), None);
    }

    #[test]
    fn what_is_part_of_another_is_not_kept_twice() {
        let kept = Kept::new(usize::MAX);
        let one = rows(40).bytes() / 40;
        for (n, expected) in [(20, 20), (40, 40), (30, 40)] {
            kept.keep(&tokens(n, &[]), || Ok(rows(n))).unwrap();
            assert_eq!(kept.bytes(), expected * one);
        }
    }

    #[test]
    fn what_was_not_asked_for_goes_first() {
        let one = rows(20).bytes();
        let kept = Kept::new(2 * one);
        let begin = |first: u32| vec![first; 20];
        for first in [1, 2] {
            kept.keep(&begin(first), || Ok(rows(20))).unwrap();
        }
        assert!(kept.recall(&begin(1)).is_some());
        kept.keep(&begin(3), || Ok(rows(20))).unwrap();
        assert_eq!(
            [1, 2, 3].map(|first| kept.recall(&begin(first)).is_some()),
            [true, false, true]
        );
        assert_eq!(kept.bytes(), 2 * one);
        kept.keep(&tokens(60, &[]), || Ok(rows(60))).unwrap();
        assert_eq!(kept.bytes(), 2 * one, "too large for all of it");
        let none = Kept::new(0);
        none.keep(&begin(1), || Ok(rows(20))).unwrap();
        assert!(none.recall(&begin(1)).is_none());
    }
}
