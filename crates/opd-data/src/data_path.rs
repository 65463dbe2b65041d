use std::{
    convert::Infallible,
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A file of rows, or `FILE@[a:b]`: its rows `a` (from 0) up to `b`, as Python cuts a list.
///
/// ```
/// use opd_data::DataPath;
///
/// let path: DataPath = "train.jsonl@[-100:]".parse()?;
/// assert_eq!(path.rows(1000), 900..1000);
/// # Ok::<(), std::convert::Infallible>(())
/// ```
///
/// Source: slime's `--prompt-data`, `slime/utils/data.py` (commit 624b824a8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DataPath {
    /// The file.
    pub file: PathBuf,
    /// Where its rows begin and end; counted from the end where negative.
    pub slice: [Option<i64>; 2],
}

impl DataPath {
    /// Reads a path in this form from one that may hold a slice.
    pub fn of(path: &Path) -> Self {
        match path.to_str().and_then(sliced) {
            Some((file, slice)) => Self { file: file.into(), slice },
            None => Self { file: path.into(), slice: [None, None] },
        }
    }

    /// The rows that are taken of `n`.
    pub fn rows(&self, n: u64) -> Range<u64> {
        let place = |at: i64| match u64::try_from(at) {
            Ok(at) => at.min(n),
            Err(_) => n.saturating_sub(at.unsigned_abs()),
        };
        let start = self.slice[0].map_or(0, place);
        start..self.slice[1].map_or(n, place).max(start)
    }

    /// At most the first `n` of these rows; all of them where they are counted from the end.
    #[must_use]
    pub fn first(mut self, n: u64) -> Self {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        if !self.counts_from_the_end() {
            let end = self.slice[0].unwrap_or(0).saturating_add(n);
            self.slice[1] = Some(self.slice[1].map_or(end, |held| held.min(end)));
        }
        self
    }

    /// Whether the number of rows must be known to know which are taken.
    pub(crate) fn counts_from_the_end(&self) -> bool {
        self.slice.iter().flatten().any(|at| *at < 0)
    }
}

impl FromStr for DataPath {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::of(Path::new(text)))
    }
}

impl fmt::Display for DataPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.slice == [None, None] {
            return Ok(());
        }
        let [start, end] = self.slice.map(|at| at.map(|at| at.to_string()).unwrap_or_default());
        write!(f, "@[{start}:{end}]")
    }
}

fn sliced(text: &str) -> Option<(&str, [Option<i64>; 2])> {
    let (file, slice) = text.strip_suffix(']')?.rsplit_once("@[")?;
    let (start, end) = slice.split_once(':')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    };
    Some((file, [number(start)?, number(end)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_pythons() {
        // list(range(10))[a:b], run once in Python.
        for (text, expected) in [
            ("f", 0..10),
            ("f@[2:5]", 2..5),
            ("f@[:3]", 0..3),
            ("f@[7:]", 7..10),
            ("f@[-3:]", 7..10),
            ("f@[:-4]", 0..6),
            ("f@[-20:4]", 0..4),
            ("f@[5:2]", 5..5),
            ("f@[8:99]", 8..10),
            ("f@[:]", 0..10),
        ] {
            let path = DataPath::of(Path::new(text));
            assert_eq!(path.rows(10), expected, "{text}");
            assert_eq!(path.file, Path::new("f"));
        }
    }

    #[test]
    fn the_first_rows_are_a_slice() {
        for (text, expected) in [
            ("f", "f@[:3]"),
            ("f@[2:]", "f@[2:5]"),
            ("f@[2:4]", "f@[2:4]"),
            ("f@[:9]", "f@[:3]"),
            ("f@[-5:]", "f@[-5:]"),
            ("f@[1:-1]", "f@[1:-1]"),
        ] {
            assert_eq!(DataPath::of(Path::new(text)).first(3).to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_slice_is_part_of_the_name() {
        for text in ["a@b.jsonl", "a@[1].jsonl", "a@[x:1]", "a[1:2]", "a@[1:2:3]"] {
            let path = DataPath::of(Path::new(text));
            assert_eq!((path.file.to_str(), path.slice), (Some(text), [None, None]));
        }
        assert_eq!(DataPath::of(Path::new("a@[-1:]")).to_string(), "a@[-1:]");
    }
}
