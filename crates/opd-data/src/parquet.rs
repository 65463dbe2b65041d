//! The rows of a Parquet file as JSON, row group by row group.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use parquet::{
    file::{
        metadata::ParquetMetaData,
        reader::{FileReader, RowGroupReader},
        serialized_reader::SerializedFileReader,
    },
    record::{Field, Row, reader::RowIter},
    schema::types::Type,
};

use crate::{
    Error, Fields, Result, fields::reaches_into, jsonl::LONGEST, pages::Group, spool::Place,
};

/// What a Parquet file starts and ends with.
const MAGIC: &[u8; 4] = b"PAR1";

pub(crate) fn is_parquet(path: &Path) -> io::Result<bool> {
    let mut start = [0; 4];
    match File::open(path)?.read_exact(&mut start) {
        Ok(()) => Ok(start == *MAGIC),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn n_rows(path: &Path) -> Result<u64> {
    let (_, reader) = open(path)?;
    rows_of(path, reader.metadata())
}

/// Calls `row` with the index (from 0), the place and the text of every row of `wanted`, until it
/// says to stop; the file that holds the texts.
pub(crate) fn scan(
    path: &Path,
    file: u32,
    fields: &Fields,
    wanted: &Range<u64>,
    row: &mut impl FnMut(u64, Place, std::result::Result<&str, String>) -> Result<bool>,
) -> Result<File> {
    let io = |source| Error::Io { path: path.into(), source };
    let (source, reader) = open(path)?;
    rows_of(path, reader.metadata())?;
    let schema = reader.metadata().file_metadata().schema();
    let projection = projection(path, schema, fields)?;
    let mut spool = BufWriter::new(tempfile::tempfile().map_err(io)?);
    let (mut first, mut offset) = (0, 0);
    for group in 0..reader.num_row_groups() {
        let n = u64::try_from(reader.metadata().row_group(group).num_rows()).unwrap_or(0);
        let rows = first..first + n;
        first = rows.end;
        if rows.end <= wanted.start || rows.start >= wanted.end {
            continue;
        }
        let inner = guarded(path, || reader.get_row_group(group))?;
        let inner = Group::new(inner, source.clone());
        let mut iter = guarded(path, || {
            RowIter::from_row_group(Some(projection.clone()), &inner as &dyn RowGroupReader)
        })?;
        for index in rows {
            let next = guarded(path, || iter.next().transpose())?;
            let Some(next) = next else {
                let what = format!("row group {group} ends before row {}", index + 1);
                return Err(Error::Parquet { path: path.into(), what });
            };
            if !wanted.contains(&index) {
                continue;
            }
            let mut text = Vec::new();
            object(&next, &mut text).map_err(io)?;
            let length = text.len();
            let place = Place { file, length: length as u32, offset, row: index + 1 };
            let text = match std::str::from_utf8(&text) {
                Ok(_) if length > LONGEST => {
                    Err(format!("the row has {length} bytes as JSON, at most {LONGEST} are read"))
                }
                Ok(text) => Ok(text),
                Err(error) => Err(error.to_string()),
            };
            if let Ok(text) = text {
                spool.write_all(text.as_bytes()).map_err(io)?;
                offset += length as u64;
            }
            if !row(index, place, text)? {
                break;
            }
        }
    }
    spool.into_inner().map_err(|error| io(error.into_error()))
}

fn open(path: &Path) -> Result<(Arc<File>, SerializedFileReader<File>)> {
    let io = |source| Error::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let source = Arc::new(file.try_clone().map_err(io)?);
    Ok((source, guarded(path, || SerializedFileReader::new(file))?))
}

/// Rows of all groups, which the file also states.
fn rows_of(path: &Path, metadata: &ParquetMetaData) -> Result<u64> {
    let groups = metadata.row_groups().iter();
    let mut counted = groups.map(|group| u64::try_from(group.num_rows()).ok());
    let counted = counted.try_fold(0_u64, |sum, n| sum.checked_add(n?));
    let stated = metadata.file_metadata().num_rows();
    match counted {
        Some(n) if i64::try_from(n) == Ok(stated) => Ok(n),
        _ => {
            let what = format!("it states {stated} rows, and its row groups have others");
            Err(Error::Parquet { path: path.into(), what })
        }
    }
}

/// The columns that are read.
fn projection(path: &Path, schema: &Type, fields: &Fields) -> Result<Type> {
    let columns = schema.get_fields();
    let has = columns.iter().any(|column| reaches_into(&fields.input, column.name()));
    if !has {
        let known: Vec<&str> = columns.iter().take(20).map(|column| column.name()).collect();
        let what = format!(
            "column `{}` is missing (there are: {}); name it with --input-key",
            fields.input,
            known.join(", ")
        );
        return Err(Error::Parquet { path: path.into(), what });
    }
    let read = columns.iter().filter(|column| fields.reads(column.name())).cloned().collect();
    let built = Type::group_type_builder(schema.name()).with_fields(read).build();
    built.map_err(|error| Error::Parquet { path: path.into(), what: error.to_string() })
}

/// Runs the decoder, whose panics on damaged files become errors.
fn guarded<T>(path: &Path, decode: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    let bad = |what: String| Error::Parquet { path: path.into(), what };
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| bad(error.to_string())),
        Err(_) => Err(bad("it is damaged".to_owned())),
    }
}

/// Writes a row as JSON, its fields in their order.
fn object(row: &Row, out: &mut Vec<u8>) -> io::Result<()> {
    listed(*b"{}", row.get_column_iter(), out, |(name, field), out| {
        serde_json::to_writer(&mut *out, name)?;
        out.push(b':');
        value(field, out)
    })
}

/// Writes items with commas between them, in brackets.
fn listed<T>(
    [open, close]: [u8; 2],
    items: impl IntoIterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    out.push(open);
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(close);
    Ok(())
}

fn value(field: &Field, out: &mut Vec<u8>) -> io::Result<()> {
    match field {
        Field::Null => out.extend(b"null"),
        Field::Bool(value) => serde_json::to_writer(out, value)?,
        Field::Byte(value) => serde_json::to_writer(out, value)?,
        Field::Short(value) => serde_json::to_writer(out, value)?,
        Field::Int(value) => serde_json::to_writer(out, value)?,
        Field::Long(value) => serde_json::to_writer(out, value)?,
        Field::UByte(value) => serde_json::to_writer(out, value)?,
        Field::UShort(value) => serde_json::to_writer(out, value)?,
        Field::UInt(value) => serde_json::to_writer(out, value)?,
        Field::ULong(value) => serde_json::to_writer(out, value)?,
        Field::Float(value) => serde_json::to_writer(out, value)?,
        Field::Double(value) => serde_json::to_writer(out, value)?,
        Field::Str(text) => serde_json::to_writer(out, text)?,
        // Texts of writers that do not mark them as such.
        Field::Bytes(bytes) => serde_json::to_writer(out, &String::from_utf8_lossy(bytes.data()))?,
        Field::Group(row) => object(row, out)?,
        Field::ListInternal(list) => listed(*b"[]", list.elements(), out, value)?,
        Field::MapInternal(map) => listed(*b"{}", map.entries(), out, |(key, held), out| {
            match key {
                Field::Str(key) => serde_json::to_writer(&mut *out, key)?,
                key => serde_json::to_writer(&mut *out, &key.to_string())?,
            }
            out.push(b':');
            value(held, out)
        })?,
        other => serde_json::to_writer(out, &other.to_string())?,
    }
    Ok(())
}
