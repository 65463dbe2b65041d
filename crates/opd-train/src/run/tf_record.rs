//! The record framing of TensorFlow's event files.

use std::io::{self, Write};

/// One record in its frame, all integers little-endian:
///
/// ```text
/// u64 length, u32 mask(crc32c(length bytes)), data, u32 mask(crc32c(data))
/// ```
///
/// Source: TensorFlow, `lib/io/record_writer.h`.
pub(super) fn framed(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked_crc32c(&length).to_le_bytes());
    record.extend_from_slice(data);
    record.extend_from_slice(&masked_crc32c(data).to_le_bytes());
    record
}

/// Writes one record in one call, so that a kill tears the last record at most.
pub(super) fn write(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    to.write_all(&framed(data))
}

/// ```text
/// mask(crc) = rotate_right(crc, 15) + 0xa282ead8
/// ```
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    /// RFC 3720, appendix B.4, and the check value of CRC-32C in the Rocksoft catalogue.
    #[test]
    fn crc32c_is_castagnoli() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let cases: [(&[u8], u32); 5] = [
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
        ];
        for (data, expected) in cases {
            assert_eq!(crc32c::crc32c(data), expected, "{data:?}");
        }
    }
}
