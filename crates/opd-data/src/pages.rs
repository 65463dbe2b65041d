//! Pages of columns, held against what a page may have; those compressed with Zstandard by a decoder
//! in Rust, as the `parquet` crate's own is in C.

use std::{fs::File, io::Read, sync::Arc};

use parquet::{
    basic::{Compression, Encoding},
    bloom_filter::Sbbf,
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::{
        metadata::RowGroupMetaData, reader::RowGroupReader, serialized_reader::SerializedPageReader,
    },
    record::reader::RowIter,
    schema::types::Type,
};

use crate::page_source::{LONGEST, PageSource, varint};

/// Most values of a page of lists, whose rows may have any number of them.
const MOST_LISTED: u32 = 16 << 20;

/// Bytes that a value of a dictionary takes beside its own.
const ENTRY: u64 = 32;

/// A row group whose pages are checked.
pub(crate) struct Group<'a> {
    inner: Box<dyn RowGroupReader + 'a>,
    source: Arc<File>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(inner: Box<dyn RowGroupReader + 'a>, source: Arc<File>) -> Self {
        Self { inner, source }
    }
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.inner.metadata()
    }

    fn num_columns(&self) -> usize {
        self.inner.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let mut column = self.metadata().column(i).clone();
        let zstd = matches!(column.compression(), Compression::ZSTD(_));
        if zstd {
            // As uncompressed, pages come as they lie in the file.
            let builder = column.into_builder().set_compression(Compression::UNCOMPRESSED);
            column = builder.build()?;
        }
        let described = column.column_descr();
        let levels = [described.max_rep_level(), described.max_def_level()].map(|most| most > 0);
        let rows = usize::try_from(self.metadata().num_rows())?;
        let source = Arc::new(PageSource(self.source.clone()));
        let inner = SerializedPageReader::new(source, &column, rows, None)?;
        Ok(Box::new(Pages { inner, zstd, levels }))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Pages of a column, one by one.
struct Pages {
    inner: SerializedPageReader<PageSource>,
    zstd: bool,
    /// Whether there are levels of repetition, and of definition.
    levels: [bool; 2],
}

impl Pages {
    /// Decompresses a page.
    fn decompress(page: &mut Page) -> Result<()> {
        match page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = decompressed(&[], buf)?.into();
            }
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                if *is_compressed {
                    let levels = (*def_levels_byte_len as usize) + (*rep_levels_byte_len as usize);
                    let short = || bad("a page ends within its levels");
                    let (levels, values) = buf.split_at_checked(levels).ok_or_else(short)?;
                    *buf = decompressed(levels, values)?.into();
                    *is_compressed = false;
                }
            }
        }
        Ok(())
    }

    /// Refuses numbers of values that the bytes of a page cannot hold, or a row should not.
    fn check(&self, page: &Page) -> Result<()> {
        let (length, values) = (page.buffer().len() as u64, page.num_values());
        if let Page::DictionaryPage { .. } = page {
            let fits = u64::from(values) <= length && u64::from(values) * ENTRY <= 2 * LONGEST;
            return if fits { Ok(()) } else { Err(bad("a dictionary has more values than bytes")) };
        }
        if self.levels[0] && values > MOST_LISTED {
            let what =
                format!("a page of lists has {values} values, at most {MOST_LISTED} are read");
            return Err(bad(&what));
        }
        let lengths = [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY];
        if lengths.contains(&page.encoding()) {
            let stated = self.lengths(page).ok_or_else(|| bad("a page ends within its levels"))?;
            if stated > u64::from(values) {
                return Err(bad("a page has more lengths than values"));
            }
        }
        Ok(())
    }

    /// How many lengths a page says that it has: the third number behind its levels.
    fn lengths(&self, page: &Page) -> Option<u64> {
        let mut rest: &[u8] = page.buffer();
        match page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                rest =
                    rest.get((*def_levels_byte_len as usize) + (*rep_levels_byte_len as usize)..)?;
            }
            _ => {
                for _ in self.levels.iter().filter(|has| **has) {
                    let (length, behind) = rest.split_first_chunk()?;
                    rest = behind.get(u32::from_le_bytes(*length) as usize..)?;
                }
            }
        }
        let mut number = 0;
        for _ in 0..3 {
            if rest.is_empty() {
                return Some(0);
            }
            let length;
            (number, length) = varint(rest)?;
            rest = &rest[length..];
        }
        Some(number)
    }
}

fn bad(what: &str) -> ParquetError {
    ParquetError::General(what.to_owned())
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.inner.get_next_page()? else { return Ok(None) };
        if self.zstd {
            Self::decompress(&mut page)?;
        }
        self.check(&page)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// `before`, and behind it what `compressed` holds.
fn decompressed(before: &[u8], compressed: &[u8]) -> Result<Vec<u8>> {
    let mut out = before.to_vec();
    if compressed.is_empty() {
        return Ok(out);
    }
    let bad = |error: String| ParquetError::General(format!("Zstandard: {error}"));
    let decoder = ruzstd::decoding::StreamingDecoder::new(compressed);
    let decoder = decoder.map_err(|error| bad(error.to_string()))?;
    let read = decoder.take(LONGEST).read_to_end(&mut out).map_err(|e| bad(e.to_string()))?;
    match read as u64 == LONGEST {
        true => Err(bad(format!("a page is longer than {LONGEST} bytes"))),
        false => Ok(out),
    }
}
