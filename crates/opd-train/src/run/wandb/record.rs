//! wandb's `Record` message, as far as a run of scalars needs it.
//!
//! ```text
//! Record    { int64 num = 1; History history = 2; Summary summary = 3; RunRecord run = 17;
//!             Exit exit = 18; Header header = 21; }
//! Header    { VersionInfo { string producer = 1; string min_consumer = 2; } version_info = 1; }
//! RunRecord { string run_id = 1, entity = 2, project = 3; Config config = 4;
//!             string run_group = 6, display_name = 8;
//!             Timestamp { int64 seconds = 1; int32 nanos = 2; } start_time = 17; }
//! Config    { repeated Item { string key = 1; string value_json = 16; } update = 1; }
//! History   { repeated Item { repeated string nested_key = 2; string value_json = 16; } item = 1;
//!             Step { int64 num = 1; } step = 2; }
//! Summary   { repeated Item { repeated string nested_key = 2; string value_json = 16; } update = 1; }
//! Exit      { int32 exit_code = 1; int32 runtime = 2; }
//! ```
//!
//! Source: wandb, `proto/wandb_internal.proto`.

use std::time::Duration;

use super::WandbRun;
use crate::run::protobuf::{Held, bytes, fields, integer};

pub(super) const HISTORY: u64 = 2;
pub(super) const SUMMARY: u64 = 3;
pub(super) const RUN: u64 = 17;
const EXIT: u64 = 18;
pub(super) const HEADER: u64 = 21;

/// The oldest wandb core that has to understand the file, as it writes it of itself.
const MIN_CONSUMER: &[u8] = b"0.70.0";

/// What wrote the file.
pub(super) fn header() -> Vec<u8> {
    let mut version = Vec::new();
    bytes(&mut version, 1, concat!("opd-", env!("CARGO_PKG_VERSION")).as_bytes());
    bytes(&mut version, 2, MIN_CONSUMER);
    let mut header = Vec::new();
    bytes(&mut header, 1, &version);
    header
}

/// The run and its configuration, `config` being JSON by key.
pub(super) fn run(run: &WandbRun, id: &str, started: Duration) -> Vec<u8> {
    let mut message = Vec::new();
    bytes(&mut message, 1, id.as_bytes());
    for (field, text) in [(2, &run.entity), (3, &run.project)] {
        if let Some(text) = text {
            bytes(&mut message, field, text.as_bytes());
        }
    }
    let mut config = Vec::new();
    for (key, json) in &run.config {
        let mut item = Vec::new();
        bytes(&mut item, 1, key.as_bytes());
        bytes(&mut item, 16, json.as_bytes());
        bytes(&mut config, 1, &item);
    }
    bytes(&mut message, 4, &config);
    if let Some(group) = &run.group {
        bytes(&mut message, 6, group.as_bytes());
    }
    bytes(&mut message, 8, run.name.as_bytes());
    let mut time = Vec::new();
    integer(&mut time, 1, started.as_secs());
    integer(&mut time, 2, started.subsec_nanos().into());
    bytes(&mut message, 17, &time);
    message
}

/// Values of a step, JSON by key.
pub(super) fn history(step: u64, items: &[(String, String)]) -> Vec<u8> {
    let mut message = updates(items);
    let mut number = Vec::new();
    integer(&mut number, 1, step);
    bytes(&mut message, 2, &number);
    message
}

/// The last known values, JSON by key.
pub(super) fn summary(items: &[(String, String)]) -> Vec<u8> {
    updates(items)
}

/// The run is over and went well.
pub(super) fn exit(seconds: u64) -> (u64, Vec<u8>) {
    let mut message = Vec::new();
    integer(&mut message, 2, seconds);
    (EXIT, message)
}

fn updates(items: &[(String, String)]) -> Vec<u8> {
    let mut message = Vec::new();
    for (key, json) in items {
        let mut item = Vec::new();
        bytes(&mut item, 2, key.as_bytes());
        bytes(&mut item, 16, json.as_bytes());
        bytes(&mut message, 1, &item);
    }
    message
}

/// A record of the kind `kind`.
pub(super) fn record(number: u64, kind: u64, message: &[u8]) -> Vec<u8> {
    let mut record = Vec::new();
    integer(&mut record, 1, number);
    bytes(&mut record, kind, message);
    record
}

/// What a record is: its kind, and the step of a history record.
pub(super) fn kind(record: &[u8]) -> Option<(u64, Option<u64>)> {
    let (kind, message) = fields(record).find_map(|field| match field {
        (kind, Held::Bytes(message)) => Some((kind, message)),
        _ => None,
    })?;
    let step = fields(message).find_map(|field| match field {
        (2, Held::Bytes(step)) if kind == HISTORY => Some(step),
        _ => None,
    });
    let number = step.and_then(|step| {
        fields(step).find_map(|field| match field {
            (1, Held::Integer(number)) => Some(number),
            _ => None,
        })
    });
    // Protocol buffers leave out a number that is 0.
    Some((kind, number.or(step.map(|_| 0))))
}

/// When the run of a run record began, since 1970.
pub(super) fn start_time(record: &[u8]) -> Option<Duration> {
    let within = |message, wanted| {
        fields(message).find_map(move |field| match field {
            (number, Held::Bytes(message)) if number == wanted => Some(message),
            _ => None,
        })
    };
    let time: &[u8] = within(within(record, RUN)?, 17)?;
    let number = |wanted| {
        fields(time).find_map(|field| match field {
            (number, Held::Integer(value)) if number == wanted => Some(value),
            _ => None,
        })
    };
    Some(Duration::new(number(1)?, number(2).unwrap_or(0) as u32))
}
