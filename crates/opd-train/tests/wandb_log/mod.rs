//! Logs of Weights & Biases, read by their definition: shares nothing with the writer.

use std::collections::BTreeMap;

use crate::wire::{Field, fields};

/// CRC-32 bit by bit, straight from the reversed polynomial 0xedb88320.
fn crc32(data: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// The records of a log; anything out of order is a panic.
pub(crate) fn records(file: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(file[..7], *b":W&B\xe1\xbe\0");
    let (mut records, mut open, mut at) = (Vec::new(), None::<Vec<u8>>, 7);
    while at < file.len() {
        let left = 32_768 - at % 32_768;
        if left < 7 {
            assert!(file[at..at + left].iter().all(|&byte| byte == 0), "padding");
            at += left;
            continue;
        }
        let crc = u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let length = usize::from(u16::from_le_bytes(file[at + 4..at + 6].try_into().unwrap()));
        assert!(7 + length <= left, "a record crosses its block");
        assert_eq!(crc, crc32(&file[at + 6..at + 7 + length]), "checksum");
        let part = &file[at + 7..at + 7 + length];
        match (file[at + 6], &mut open) {
            (1, None) => records.push(part.to_vec()),
            (2, None) => open = Some(part.to_vec()),
            (3, Some(held)) => held.extend_from_slice(part),
            (4, Some(held)) => {
                held.extend_from_slice(part);
                records.extend(open.take());
            }
            other => panic!("{other:?}"),
        }
        at += 7 + length;
    }
    assert_eq!(open, None);
    records
}

fn message(of: &[u8], wanted: u64) -> Option<Vec<u8>> {
    fields(of).into_iter().find_map(|field| match field {
        (number, Field::Bytes(bytes)) if number == wanted => Some(bytes),
        _ => None,
    })
}

fn text(of: &[u8], wanted: u64) -> Option<String> {
    message(of, wanted).map(|bytes| String::from_utf8(bytes).unwrap())
}

fn integer(of: &[u8], wanted: u64) -> Option<u64> {
    fields(of).into_iter().find_map(|field| match field {
        (number, Field::Varint(value)) if number == wanted => Some(value),
        _ => None,
    })
}

/// Values of the items in field `list`, by the name in field `key`, without those of the clock.
fn items(of: &[u8], list: u64, key: u64) -> BTreeMap<String, f64> {
    let items = fields(of).into_iter().filter_map(|field| match field {
        (number, Field::Bytes(item)) if number == list => Some(item),
        _ => None,
    });
    let items = items.map(|item| (text(&item, key).unwrap(), text(&item, 16).unwrap()));
    let items =
        items.filter(|(name, _)| !["_timestamp", "_runtime", "_wandb"].contains(&name.as_str()));
    items.map(|(name, json)| (name, serde_json::from_str(&json).unwrap())).collect()
}

#[derive(Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) config: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Log {
    pub(crate) run: Option<Run>,
    pub(crate) history: Vec<(u64, BTreeMap<String, f64>)>,
    pub(crate) summary: BTreeMap<String, f64>,
    pub(crate) exits: usize,
}

pub(crate) fn read(file: &[u8]) -> Log {
    let mut log = Log::default();
    for (number, record) in (1..).zip(records(file)) {
        assert_eq!(integer(&record, 1), Some(number), "records are numbered");
        if let Some(run) = message(&record, 17) {
            let config = message(&run, 4).unwrap();
            let config = fields(&config).into_iter().filter_map(|field| match field {
                (1, Field::Bytes(item)) => Some((text(&item, 1)?, text(&item, 16)?)),
                _ => None,
            });
            let config = config.filter(|(key, _)| key != "_wandb");
            log.run = Some(Run {
                id: text(&run, 1).unwrap(),
                entity: text(&run, 2).unwrap_or_default(),
                project: text(&run, 3).unwrap_or_default(),
                group: text(&run, 6).unwrap_or_default(),
                name: text(&run, 8).unwrap(),
                config: config.map(|(k, v)| (k, serde_json::from_str(&v).unwrap())).collect(),
            });
            let time = message(&run, 17).unwrap();
            assert!(integer(&time, 1).unwrap() > 1_700_000_000, "when it began");
        } else if let Some(history) = message(&record, 2) {
            let step = integer(&message(&history, 2).unwrap(), 1).unwrap_or(0);
            log.history.push((step, items(&history, 1, 2)));
        } else if let Some(summary) = message(&record, 3) {
            let nested = fields(&summary).into_iter().all(|field| match field {
                (1, Field::Bytes(item)) => fields(&item).iter().filter(|f| f.0 == 2).count() == 1,
                _ => true,
            });
            if nested {
                log.summary.extend(items(&summary, 1, 2));
            }
        } else if message(&record, 18).is_some() {
            log.exits += 1;
        }
    }
    log
}
