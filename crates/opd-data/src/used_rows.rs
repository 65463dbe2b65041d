use crate::DataPath;

/// Which rows of a file a set uses, told from others by their number and what they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedRows {
    /// The file and its slice.
    pub path: DataPath,
    /// How many: those that are good, and that no check dropped.
    pub rows: u64,
    /// CRC-32C of these rows as JSON, each with the end of its line.
    pub crc32c: u32,
}

impl UsedRows {
    pub(crate) fn of(path: &DataPath) -> Self {
        Self { path: path.clone(), rows: 0, crc32c: 0 }
    }

    /// One more row.
    pub(crate) fn add(&mut self, text: &str) {
        self.rows += 1;
        self.crc32c = crc32c::crc32c_append(self.crc32c, text.as_bytes());
        self.crc32c = crc32c::crc32c_append(self.crc32c, b"\n");
    }
}
