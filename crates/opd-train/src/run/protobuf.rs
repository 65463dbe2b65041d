//! The wire format of protocol buffers, as far as the logs of a run need it.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// A whole number of at least 0.
pub(super) fn integer(to: &mut Vec<u8>, field: u64, value: u64) {
    key(to, field, VARINT);
    varint(to, value);
}

/// Text, bytes, or a message within the message.
pub(super) fn bytes(to: &mut Vec<u8>, field: u64, content: &[u8]) {
    key(to, field, BYTES);
    varint(to, content.len() as u64);
    to.extend_from_slice(content);
}

/// A `double`.
pub(super) fn double(to: &mut Vec<u8>, field: u64, value: f64) {
    key(to, field, FIXED_64);
    to.extend_from_slice(&value.to_le_bytes());
}

/// A `float`.
pub(super) fn float(to: &mut Vec<u8>, field: u64, value: f32) {
    key(to, field, FIXED_32);
    to.extend_from_slice(&value.to_le_bytes());
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

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Held<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, up to the first that is malformed.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Held<'_>)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let key = read_varint(&mut rest)?;
        let held = match key & 7 {
            VARINT => Held::Integer(read_varint(&mut rest)?),
            BYTES => {
                let length = usize::try_from(read_varint(&mut rest)?).ok()?;
                Held::Bytes(take(&mut rest, length)?)
            }
            FIXED_64 => take(&mut rest, 8).map(|_| Held::Other)?,
            FIXED_32 => take(&mut rest, 4).map(|_| Held::Other)?,
            _ => return None,
        };
        Some((key >> 3, held))
    })
}

fn read_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(n)?;
    *rest = left;
    Some(taken)
}
