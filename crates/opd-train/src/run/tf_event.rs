//! TensorFlow's `Event` message, of which event files are made, encoded by hand.
//!
//! ```text
//! Event      { double wall_time = 1; int64 step = 2;
//!              string file_version = 3; Summary summary = 5; SessionLog session_log = 7; }
//! Summary    { repeated Value value = 1; }
//! Value      { string tag = 1; float simple_value = 2; }
//! SessionLog { SessionStatus status = 1; }   START = 1
//! ```
//!
//! Source: TensorFlow, `core/util/event.proto` and `core/framework/summary.proto`.

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// The first record of every event file.
pub(super) fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = event(wall_time, 0);
    bytes(&mut event, 3, b"brain.Event:2");
    event
}

/// Says that a run goes on: a reader forgets what it knows of `step` and later ones.
pub(super) fn session_start(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = event(wall_time, step);
    let mut session = Vec::new();
    key(&mut session, 1, VARINT);
    varint(&mut session, 1);
    bytes(&mut event, 7, &session);
    event
}

/// Numbers of one step.
pub(super) fn scalars<'a>(
    wall_time: f64,
    step: u64,
    values: impl IntoIterator<Item = (&'a str, f64)>,
) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, scalar) in values {
        let mut value = Vec::new();
        bytes(&mut value, 1, tag.as_bytes());
        key(&mut value, 2, FIXED_32);
        value.extend_from_slice(&(scalar as f32).to_le_bytes());
        bytes(&mut summary, 1, &value);
    }
    let mut event = event(wall_time, step);
    bytes(&mut event, 5, &summary);
    event
}

fn event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, FIXED_64);
    event.extend_from_slice(&wall_time.to_le_bytes());
    key(&mut event, 2, VARINT);
    varint(&mut event, step);
    event
}

fn bytes(to: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(to, field, BYTES);
    varint(to, content.len() as u64);
    to.extend_from_slice(content);
}

fn key(to: &mut Vec<u8>, field: u64, wire_type: u64) {
    varint(to, field << 3 | wire_type);
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
