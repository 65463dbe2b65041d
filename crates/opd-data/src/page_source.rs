//! A Parquet file whose pages may not claim more than a page has.

use std::{
    fs::File,
    io::{BufReader, Read},
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    errors::{ParquetError, Result},
    file::reader::{ChunkReader, Length},
};

/// Longest page after decompression, in bytes.
pub(crate) const LONGEST: u64 = 128 << 20;

/// A file of which each header of a page is looked at before its page is decompressed: what is
/// decompressed goes into as many bytes as the header says.
pub(crate) struct PageSource(pub(crate) Arc<File>);

impl Length for PageSource {
    fn len(&self) -> u64 {
        self.0.len()
    }
}

impl ChunkReader for PageSource {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut header = Vec::new();
        self.0.get_read(start)?.take(32).read_to_end(&mut header)?;
        match uncompressed(&header) {
            Some(size) if u64::try_from(size).is_ok_and(|size| size <= LONGEST) => {
                self.0.get_read(start)
            }
            Some(size) => Err(ParquetError::General(format!(
                "the page at byte {start} says that it has {size} bytes, at most {LONGEST} are read"
            ))),
            None => Err(ParquetError::General(format!("no page begins at byte {start}"))),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// The second field of a page's header, its size without compression: Thrift's compact protocol, two
/// integers, each behind a byte for its number and kind.
fn uncompressed(header: &[u8]) -> Option<i64> {
    const INTEGER: u8 = 0x15;
    let mut rest = header;
    let mut field = || {
        let (kind, value) = rest.split_first()?;
        let (number, length) = varint(value)?;
        rest = &value[length..];
        (*kind == INTEGER).then_some((number >> 1) as i64 ^ -((number & 1) as i64))
    };
    field()?;
    field()
}

/// An unsigned number of seven bits a byte, the lowest first, and its bytes.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (i, byte) in bytes.iter().take(9).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((number, i + 1));
        }
    }
    None
}
