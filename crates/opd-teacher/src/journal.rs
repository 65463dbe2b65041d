use std::{
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use opd_batch::{Rows, ScoreRequest, Wanted};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    part::{RowScores, ids_of, k_of},
};

/// Order of writing and scores, by key.
const SCORES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("scores");
/// Keys by order of writing.
const ORDER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("order");
/// Identities whose scores are held, with the number of the last of them.
const IDENTITIES: TableDefinition<'_, &str, u64> = TableDefinition::new("identities");
/// `bytes` held, and the `next` number in order.
const STATE: TableDefinition<'_, &str, u64> = TableDefinition::new("state");

/// What an entry costs beside its scores: key, number, and the pages around them.
const OVERHEAD: u64 = 128;

/// Scores on disk, by what they are scores of.
///
/// The key of a sequence's scores is a SHA-256 of the teacher's identity, the token ids, where
/// the scored part starts, the temperature and what else was wanted: an entry can be found by
/// an equal request only, and never goes stale. Each batch is one transaction of
/// [redb](https://docs.rs/redb): after a crash it is there or it is not. Beyond its limit the
/// oldest entries make room, and a file that has grown much larger is compacted.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// Compaction has it alone.
    database: RwLock<Database>,
    limit: u64,
}

/// The key of a sequence's scores.
pub(crate) type Key = [u8; 32];

impl Journal {
    /// Opens or creates a journal that holds about `limit` bytes at most, in a file of at most
    /// four times as many and 1 MiB: half-filled pages and those that wait to be used again.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if it cannot be opened, is no journal, or another process has it.
    pub fn open(path: impl Into<PathBuf>, limit: u64) -> Result<Self> {
        let path = path.into();
        Self::of(Database::create(&path), path, limit)
    }

    /// Opens a journal that is there, to take scores from.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if it is not there, too.
    pub fn open_existing(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        if !path.exists() {
            let what = "there is no such file; a run with --opd-journal and its teacher makes one";
            return Err(Error::Journal { path, what: what.to_owned() });
        }
        Self::of(Database::open(&path), path, u64::MAX)
    }

    fn of(
        opened: std::result::Result<Database, redb::DatabaseError>,
        path: PathBuf,
        limit: u64,
    ) -> Result<Self> {
        let database = opened.map_err(|error| {
            let what = match error {
                redb::DatabaseError::DatabaseAlreadyOpen => {
                    "another process has it open; give every run a journal of its own".to_owned()
                }
                error => format!("cannot be opened: {error}"),
            };
            Error::Journal { path: path.clone(), what }
        })?;
        let journal = Self { path, database: RwLock::new(database), limit };
        journal.transact(|_, _, _, _| Ok(()))?;
        Ok(journal)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Identities of the teachers whose scores it holds.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if it cannot be read.
    pub fn identities(&self) -> Result<Vec<String>> {
        let read = || -> std::result::Result<Vec<String>, redb::Error> {
            let read = self.database().begin_read()?;
            let table = read.open_table(IDENTITIES)?;
            let mut identities = Vec::new();
            for entry in table.iter()? {
                identities.push(entry?.0.value().to_owned());
            }
            Ok(identities)
        };
        read().map_err(|error| self.bad(&error))
    }

    /// Number of sequences held.
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] if it cannot be read.
    pub fn n_entries(&self) -> Result<u64> {
        use redb::ReadableTableMetadata;
        let read = || -> std::result::Result<u64, redb::Error> {
            Ok(self.database().begin_read()?.open_table(SCORES)?.len()?)
        };
        read().map_err(|error| self.bad(&error))
    }

    pub(crate) fn get(
        &self,
        keys: &[Key],
        lengths: &[usize],
        k: usize,
    ) -> Result<Vec<Option<RowScores>>> {
        let read = || -> std::result::Result<Vec<Option<RowScores>>, redb::Error> {
            let read = self.database().begin_read()?;
            let table = read.open_table(SCORES)?;
            let mut found = Vec::with_capacity(keys.len());
            for (key, &length) in keys.iter().zip(lengths) {
                let entry = table.get(key.as_slice())?;
                found.push(entry.and_then(|entry| decode(entry.value(), length, k)));
            }
            Ok(found)
        };
        read().map_err(|error| self.bad(&error))
    }

    /// Adds scores; those with a gap are left out, as are those that are there.
    pub(crate) fn put(&self, identity: &str, scores: &[(Key, RowScores)]) -> Result<()> {
        self.transact(|entries, order, identities, state| {
            let value =
                |name: &str| state.get(name).map(|held| held.map_or(0, |held| held.value()));
            let (mut bytes, mut next) = (value("bytes")?, value("next")?);
            let mut added = 0;
            for (key, row) in scores {
                let whole = row.logprobs.iter().all(Option::is_some);
                if !whole || entries.get(key.as_slice())?.is_some() {
                    continue;
                }
                let entry = encode(next, row);
                entries.insert(key.as_slice(), entry.as_slice())?;
                order.insert(next, key.as_slice())?;
                bytes += entry.len() as u64 + OVERHEAD;
                (next, added) = (next + 1, added + 1);
            }
            let full = bytes > self.limit;
            while bytes > self.limit {
                let Some((_, oldest)) =
                    order.pop_first()?.map(|(n, key)| (n.value(), key.value().to_vec()))
                else {
                    break;
                };
                if let Some(gone) = entries.remove(oldest.as_slice())? {
                    bytes = bytes.saturating_sub(gone.value().len() as u64 + OVERHEAD);
                }
            }
            if added > 0 {
                identities.insert(identity, next - 1)?;
            }
            if full {
                let first = order.first()?.map_or(next, |(number, _)| number.value());
                identities.retain(|_, last| last >= first)?;
            }
            state.insert("bytes", bytes)?;
            state.insert("next", next)?;
            Ok(())
        })?;
        self.shrink()
    }

    /// Compacts a file that has grown beyond what [`Self::open`] says.
    fn shrink(&self) -> Result<()> {
        let bad = |what: String| Error::Journal { path: self.path.clone(), what };
        let length = std::fs::metadata(&self.path).map_err(|error| bad(error.to_string()))?.len();
        if length <= self.limit.saturating_mul(4).saturating_add(1 << 20) {
            return Ok(());
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        database.compact().map_err(|error| bad(format!("cannot be compacted: {error}")))?;
        Ok(())
    }

    fn database(&self) -> RwLockReadGuard<'_, Database> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes everything or nothing.
    fn transact(
        &self,
        change: impl FnOnce(&mut Scores, &mut Order, &mut Counts, &mut Counts) -> Changed,
    ) -> Result<()> {
        let run = || -> Changed {
            let write = self.database().begin_write()?;
            {
                let mut scores = write.open_table(SCORES)?;
                let mut order = write.open_table(ORDER)?;
                let mut identities = write.open_table(IDENTITIES)?;
                let mut state = write.open_table(STATE)?;
                change(&mut scores, &mut order, &mut identities, &mut state)?;
            }
            Ok(write.commit()?)
        };
        run().map_err(|error| self.bad(&error))
    }

    fn bad(&self, error: &redb::Error) -> Error {
        Error::Journal { path: self.path.clone(), what: error.to_string() }
    }
}

type Scores<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
type Order<'t> = redb::Table<'t, u64, &'static [u8]>;
type Counts<'t> = redb::Table<'t, &'static str, u64>;
type Changed = std::result::Result<(), redb::Error>;

/// Keys of the sequences of a request by a teacher of this identity.
pub(crate) fn keys(identity: &str, request: &ScoreRequest<'_>) -> Vec<Key> {
    let boundaries: Rows = request.rows();
    let form = match request.wanted {
        Wanted::TopK(_) => 1u8,
        Wanted::Ids { .. } => 2,
        _ => 0,
    };
    let mut common = Sha256::new();
    common.update((identity.len() as u64).to_le_bytes());
    common.update(identity.as_bytes());
    common.update(request.temperature.to_bits().to_le_bytes());
    common.update([form]);
    common.update((k_of(request.wanted) as u64).to_le_bytes());
    let key = |(row, sequence): (usize, &opd_batch::ScoredSequence<'_>)| {
        let mut hash = common.clone();
        for tokens in [sequence.prompt, sequence.response, ids_of(request, &boundaries, row)] {
            hash.update((tokens.len() as u64).to_le_bytes());
            for id in tokens {
                hash.update(id.to_le_bytes());
            }
        }
        hash.finalize().into()
    };
    request.sequences.iter().enumerate().map(key).collect()
}

/// Number in order, log-probs, ids, log-probs of these, all little-endian.
fn encode(order: u64, row: &RowScores) -> Vec<u8> {
    let mut bytes = order.to_le_bytes().to_vec();
    let logprobs = row.logprobs.iter().map(|value| value.unwrap_or(f32::NAN).to_bits());
    let top = row.top.iter().map(|value| value.to_bits());
    for word in logprobs.chain(row.ids.iter().copied()).chain(top) {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// `None` if it is not of this size, or holds a log-prob that is none.
fn decode(bytes: &[u8], length: usize, k: usize) -> Option<RowScores> {
    let words = bytes.get(8..)?.chunks_exact(4);
    let words: Vec<u32> = words.map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
    if words.len() != length * (1 + 2 * k) {
        return None;
    }
    let (logprobs, rest) = words.split_at(length);
    let (ids, top) = rest.split_at(length * k);
    let logprobs: Vec<Option<f32>> =
        logprobs.iter().map(|&bits| Some(f32::from_bits(bits))).collect();
    let sound = logprobs.iter().flatten().all(|value| value.is_finite());
    let top = top.iter().map(|&bits| f32::from_bits(bits)).collect();
    sound.then(|| RowScores { logprobs, ids: ids.to_vec(), top, spans: Vec::new() })
}
