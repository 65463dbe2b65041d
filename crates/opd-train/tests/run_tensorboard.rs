//! Event files, read back by a reader that shares nothing with the writer.
#![allow(clippy::unwrap_used, missing_docs)]

mod wire;

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use opd_train::run::{StepMetrics, TensorBoard};

use crate::wire::{Field, fields};

/// CRC-32C bit by bit, straight from the reversed polynomial 0x82f63b78.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn masked(data: &[u8]) -> u32 {
    let crc = crc32c(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The records of a file; a wrong checksum or a torn record is a panic.
fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(u32_at(file, 8), masked(&file[..8]), "checksum of the length");
        let data = &file[12..12 + length];
        assert_eq!(u32_at(file, 12 + length), masked(data), "checksum of the data");
        records.push(data.to_vec());
        file = &file[16 + length..];
    }
    records
}

#[derive(Debug, PartialEq)]
struct Event {
    wall_time: f64,
    step: u64,
    content: Content,
}

#[derive(Debug, PartialEq)]
enum Content {
    Version(String),
    Scalars(Vec<(String, f32)>),
    SessionStart,
}

fn event(record: &[u8]) -> Event {
    let mut fields = fields(record).into_iter();
    let (Some((1, Field::Fixed64(wall_time))), Some((2, Field::Varint(step)))) =
        (fields.next(), fields.next())
    else {
        panic!("wall time and step come first")
    };
    let content = match fields.next().unwrap() {
        (3, Field::Bytes(version)) => Content::Version(String::from_utf8(version).unwrap()),
        (5, Field::Bytes(summary)) => Content::Scalars(scalars(&summary)),
        (7, Field::Bytes(session)) => {
            assert_eq!(wire::fields(&session), [(1, Field::Varint(1))]);
            Content::SessionStart
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(fields.next(), None);
    Event { wall_time: f64::from_le_bytes(wall_time), step, content }
}

fn scalars(summary: &[u8]) -> Vec<(String, f32)> {
    let values = fields(summary).into_iter().map(|field| match field {
        (1, Field::Bytes(value)) => match fields(&value).as_slice() {
            [(1, Field::Bytes(tag)), (2, Field::Fixed32(value))] => {
                (String::from_utf8(tag.clone()).unwrap(), f32::from_le_bytes(*value))
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    });
    values.collect()
}

fn events(path: &Path) -> Vec<Event> {
    records(&fs::read(path).unwrap()).iter().map(|record| event(record)).collect()
}

fn at(seconds: f64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

#[test]
fn the_test_s_own_crc_fits_the_published_check_value() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn scalars_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("tensorboard");
    let mut board = TensorBoard::create(&dir, at(1_700_000_000.5)).unwrap();
    let metrics = StepMetrics::new(300).with("ratio/mean", 1.5).with("é", -0.1).with("x", f64::NAN);
    board.write(&metrics, at(1_700_000_001.25)).unwrap();
    let name = board.path().file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("events.out.tfevents.1700000000."), "{name}");
    let values = vec![("ratio/mean".to_owned(), 1.5), ("é".to_owned(), -0.1)];
    let version = Content::Version("brain.Event:2".to_owned());
    assert_eq!(
        events(board.path()),
        [
            Event { wall_time: 1_700_000_000.5, step: 0, content: version },
            Event { wall_time: 1_700_000_001.25, step: 300, content: Content::Scalars(values) },
        ]
    );
}

#[test]
fn a_resumed_run_s_file_comes_later_and_purges() {
    let dir = tempfile::tempdir().unwrap();
    let now = at(1_700_000_000.0);
    let first = TensorBoard::create(dir.path(), now).unwrap();
    let second = TensorBoard::resume(dir.path(), 40, now).unwrap();
    let third = TensorBoard::resume(dir.path(), 40, at(1_600_000_000.0)).unwrap();
    assert!(first.path() < second.path() && second.path() < third.path());
    let events = events(second.path());
    assert_eq!((events[1].step, &events[1].content), (41, &Content::SessionStart));
    assert_eq!(events.len(), 2);
}
