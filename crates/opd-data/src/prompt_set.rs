use std::path::Path;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

use crate::{
    BadRow, BadRows, DataPath, Error, Example, Fields, Result, UsedRows, jsonl, parquet, row,
    spool::{Place, Spool},
};

/// Bad rows whose fault is kept; further ones are only counted.
const REPORTED: usize = 100;

/// The rows of prompt files, one file after another, handed out by step.
///
/// Rows stay on the disk: 24 bytes of each are in memory. A file is taken for Parquet by its first
/// bytes, and for JSONL otherwise: one object a line. The rows of a Parquet file are decoded row
/// group by row group, once, into a temporary file.
#[derive(Debug)]
pub struct PromptSet {
    spools: Vec<Spool>,
    places: Vec<Place>,
    files: Vec<UsedRows>,
    fields: Fields,
    bad: Vec<BadRow>,
    n_bad: u64,
    n_dropped: u64,
}

impl PromptSet {
    /// Reads every row of files, or slices of files, in their order; each row has to be good, or is
    /// left out, as `policy` says.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Parquet`], [`Error::Row`] naming file and line, and
    /// [`Error::NoPrompts`].
    pub fn open<P: AsRef<Path>>(paths: &[P], fields: &Fields, policy: BadRows) -> Result<Self> {
        Self::open_and(paths, fields, policy, |_| Ok(true))
    }

    /// The same, with a check of each example, which drops a row by `false` and makes it a bad one by
    /// saying what is wrong.
    ///
    /// # Errors
    ///
    /// Those of [`Self::open`].
    pub fn open_and<P: AsRef<Path>>(
        paths: &[P],
        fields: &Fields,
        policy: BadRows,
        mut check: impl FnMut(&Example) -> std::result::Result<bool, String>,
    ) -> Result<Self> {
        let mut set = Self {
            spools: Vec::new(),
            places: Vec::new(),
            files: Vec::new(),
            fields: fields.clone(),
            bad: Vec::new(),
            n_bad: 0,
            n_dropped: 0,
        };
        for path in paths {
            set.add(&DataPath::of(path.as_ref()), policy, &mut check)?;
        }
        Ok(set)
    }

    fn add(
        &mut self,
        path: &DataPath,
        policy: BadRows,
        check: &mut dyn FnMut(&Example) -> std::result::Result<bool, String>,
    ) -> Result<()> {
        let file = self.spools.len() as u32;
        let io = |source| Error::Io { path: path.file.clone(), source };
        let is_parquet = parquet::is_parquet(&path.file).map_err(io)?;
        // A slice counts every row of the file, the bad ones too; those of JSONL are counted by reading.
        let wanted = match is_parquet || path.counts_from_the_end() {
            true => path.rows(n_rows(&path.file, is_parquet)?),
            false => path.rows(u64::MAX),
        };
        let (mut good, mut used, before) = (Vec::new(), UsedRows::of(path), self.n_bad);
        let mut row = |index: u64, place: Place, text: std::result::Result<&str, String>| {
            if index < wanted.start || index >= wanted.end {
                return Ok(index < wanted.end);
            }
            let checked = text.and_then(|text| {
                let example = row::read(text, &self.fields)?;
                Ok(check(&example)?.then_some(text))
            });
            match checked {
                Ok(Some(text)) => {
                    used.add(text);
                    good.push(place);
                }
                Ok(None) => self.n_dropped += 1,
                Err(what) => {
                    let bad = BadRow { path: path.file.clone(), row: place.row, what };
                    if policy == BadRows::Fail {
                        let BadRow { path, row, what } = bad;
                        return Err(Error::Row { path, row, what });
                    }
                    self.n_bad += 1;
                    if self.bad.len() < REPORTED {
                        self.bad.push(bad);
                    }
                }
            }
            Ok(true)
        };
        let opened = match is_parquet {
            true => parquet::scan(&path.file, file, &self.fields, &wanted, &mut row)?,
            false => jsonl::scan(&path.file, file, &mut row)?,
        };
        if good.is_empty() {
            return Err(Error::NoPrompts { path: path.clone(), bad: self.n_bad - before });
        }
        self.spools.push(Spool::new(&path.file, opened));
        self.places.extend(good);
        self.files.push(used);
        Ok(())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Which rows of each file are used, in the order of the files.
    pub fn files(&self) -> &[UsedRows] {
        &self.files
    }

    /// Where a row stands: its file, and its line or row from 1; `None` beyond the last.
    pub fn place(&self, index: usize) -> Option<(&Path, u64)> {
        let place = self.places.get(index)?;
        Some((&self.spools.get(place.file as usize)?.path, place.row))
    }

    /// How many bad rows were left out.
    pub fn n_bad(&self) -> u64 {
        self.n_bad
    }

    /// How many rows the check dropped.
    pub fn n_dropped(&self) -> u64 {
        self.n_dropped
    }

    /// The first of the bad rows, and what is wrong with each.
    pub fn bad(&self) -> &[BadRow] {
        &self.bad
    }

    /// A row, read anew; `None` beyond the last.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] if the file is no longer what it was.
    pub fn get(&self, index: usize) -> Result<Option<Example>> {
        let Some(&place) = self.places.get(index) else { return Ok(None) };
        let Some(spool) = self.spools.get(place.file as usize) else { return Ok(None) };
        let text = spool.read(place)?;
        let example = row::read(&text, &self.fields);
        example.map(Some).map_err(|what| spool.changed(place, what))
    }

    /// Indices of the `n` examples of step `step` (from 0): epochs in a shuffled order of their own,
    /// a function of `seed` and the position alone, so that a resumed run goes on exactly.
    pub fn batch(&self, seed: u64, step: u64, n: usize) -> Vec<usize> {
        let len = self.places.len() as u64;
        let first = step * n as u64;
        let mut batch = Vec::with_capacity(n);
        let mut epoch = None;
        for position in first..first + n as u64 {
            let wanted = position / len;
            let order = match epoch.take() {
                Some((number, order)) if number == wanted => order,
                _ => self.order(seed, wanted),
            };
            batch.push(order[(position % len) as usize]);
            epoch = Some((wanted, order));
        }
        batch
    }

    /// The same in the order of the rows, file after file, over and over.
    pub fn in_order(&self, step: u64, n: usize) -> Vec<usize> {
        let (first, len) = (step * n as u64, self.places.len() as u64);
        (first..first + n as u64).map(|position| (position % len) as usize).collect()
    }

    /// A permutation of the examples (Fisher and Yates).
    fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(epoch);
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        for i in (1..order.len()).rev() {
            let j = (u128::from(rng.next_u64()) * (i as u128 + 1)) >> 64;
            order.swap(i, j as usize);
        }
        order
    }
}

/// Rows of a file, or of a slice `FILE@[a:b]` of it, the bad ones too.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Parquet`].
pub fn count_rows(path: &Path) -> Result<u64> {
    let path = DataPath::of(path);
    let io = |source| Error::Io { path: path.file.clone(), source };
    let is_parquet = parquet::is_parquet(&path.file).map_err(io)?;
    let rows = path.rows(n_rows(&path.file, is_parquet)?);
    Ok(rows.end - rows.start)
}

/// Rows of a whole file, the bad ones too.
fn n_rows(file: &Path, is_parquet: bool) -> Result<u64> {
    if is_parquet {
        return parquet::n_rows(file);
    }
    let mut n = 0;
    jsonl::scan(file, 0, |_, _, _| {
        n += 1;
        Ok(true)
    })?;
    Ok(n)
}
