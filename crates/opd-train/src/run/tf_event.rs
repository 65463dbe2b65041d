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

use crate::run::protobuf::{bytes, double, float, integer};

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
    integer(&mut session, 1, 1);
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
        float(&mut value, 2, scalar as f32);
        bytes(&mut summary, 1, &value);
    }
    let mut event = event(wall_time, step);
    bytes(&mut event, 5, &summary);
    event
}

fn event(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    double(&mut event, 1, wall_time);
    integer(&mut event, 2, step);
    event
}
