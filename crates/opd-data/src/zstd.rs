//! Columns compressed with Zstandard, by a decoder in Rust: the `parquet` crate's own is in C.

use std::{fs::File, io::Read, sync::Arc};

use parquet::{
    basic::Compression,
    bloom_filter::Sbbf,
    column::page::{Page, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::{
        metadata::RowGroupMetaData, reader::RowGroupReader, serialized_reader::SerializedPageReader,
    },
    record::reader::RowIter,
    schema::types::Type,
};

/// Longest page after decompression, in bytes.
const LONGEST: u64 = 512 << 20;

/// A row group whose columns may be compressed with Zstandard.
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
        let column = self.metadata().column(i);
        if !matches!(column.compression(), Compression::ZSTD(_)) {
            return self.inner.get_column_page_reader(i);
        }
        // As uncompressed, pages come as they lie in the file.
        let column = column.clone().into_builder().set_compression(Compression::UNCOMPRESSED);
        let rows = usize::try_from(self.metadata().num_rows())?;
        let pages = SerializedPageReader::new(self.source.clone(), &column.build()?, rows, None)?;
        Ok(Box::new(Pages(pages)))
    }

    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(i)
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// Pages of a column, decompressed one by one.
struct Pages(SerializedPageReader<File>);

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.0.get_next_page()? else { return Ok(None) };
        match &mut page {
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
                    let short = || ParquetError::General("a page ends within its levels".into());
                    let (levels, values) = buf.split_at_checked(levels).ok_or_else(short)?;
                    *buf = decompressed(levels, values)?.into();
                    *is_compressed = false;
                }
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.0.at_record_boundary()
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
        true => Err(bad("a page is longer than 512 MiB".to_owned())),
        false => Ok(out),
    }
}
