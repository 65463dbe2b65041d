//! The transaction log of Weights & Biases: LevelDB's log format behind a header of its own.
//!
//! ```text
//! file   := ":W&B" u16 0xbee1 u8 0, then blocks of 32768 bytes; the first holds that header
//! block  := record*, and zeros where less than 7 bytes are left
//! record := u32 crc32(type, data), u16 length, u8 type, data        little-endian
//! type   := 1 whole, 2 first, 3 middle, 4 last part
//! ```
//!
//! Source: LevelDB, `doc/log_format.md`; wandb, `sdk/internal/datastore.py` (release 0.19). The
//! checksum is the CRC-32 of zip files, not LevelDB's.

pub(super) const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];

const BLOCK: u64 = 32_768;
const FRAME: u64 = 7;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// `data` in its frames, for a file that has `at` bytes.
pub(super) fn framed(data: &[u8], at: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 64);
    let mut rest = data;
    let mut first = true;
    loop {
        let left = BLOCK - (at + out.len() as u64) % BLOCK;
        if left < FRAME {
            out.resize(out.len() + left as usize, 0);
            continue;
        }
        let (part, after) = rest.split_at(rest.len().min((left - FRAME) as usize));
        let kind = match (first, after.is_empty()) {
            (true, true) => WHOLE,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        out.extend_from_slice(&checksum(kind, part).to_le_bytes());
        out.extend_from_slice(&(part.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(part);
        if after.is_empty() {
            return out;
        }
        (rest, first) = (after, false);
    }
}

/// The records of a file, each with the place behind it, up to the first that is torn or damaged.
pub(super) fn records(file: &[u8]) -> Vec<(Vec<u8>, u64)> {
    let mut records = Vec::new();
    if !file.starts_with(&HEADER) {
        return records;
    }
    let mut at = HEADER.len();
    while let Some((record, end)) = record(file, at) {
        records.push((record, end as u64));
        at = end;
    }
    records
}

fn record(file: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut begun) = (Vec::new(), false);
    loop {
        let left = BLOCK as usize - at % BLOCK as usize;
        if left < FRAME as usize {
            at += left;
        }
        let frame = file.get(at..at + FRAME as usize)?;
        let (crc, length, kind) = (frame[..4].try_into().ok()?, [frame[4], frame[5]], frame[6]);
        let start = at + FRAME as usize;
        let end = start + usize::from(u16::from_le_bytes(length));
        let part = file.get(start..end)?;
        let begins = matches!(kind, WHOLE | FIRST);
        if checksum(kind, part) != u32::from_le_bytes(crc) || begins == begun {
            return None;
        }
        data.extend_from_slice(part);
        (at, begun) = (end, true);
        if matches!(kind, WHOLE | LAST) {
            return Some((data, at));
        }
    }
}

fn checksum(kind: u8, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(data);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Around the ends of blocks, too: what is written is read, wherever the file is cut.
        #[test]
        fn records_survive_and_torn_ones_do_not(
            sizes in prop::collection::vec(prop_oneof![1..40_usize, 32_700..32_800_usize, 65_500..65_600_usize], 1..6),
            cut in 0.0..1.0_f64,
        ) {
            let written: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, &n)| vec![i as u8 + 1; n]).collect();
            let mut file = HEADER.to_vec();
            let mut ends = Vec::new();
            for data in &written {
                let frames = framed(data, file.len() as u64);
                file.extend_from_slice(&frames);
                ends.push(file.len() as u64);
            }
            let read = records(&file);
            prop_assert_eq!(read.iter().map(|(data, _)| data).collect::<Vec<_>>(), written.iter().collect::<Vec<_>>());
            prop_assert_eq!(read.iter().map(|&(_, end)| end).collect::<Vec<_>>(), ends.clone());
            let cut = (cut * file.len() as f64) as usize;
            let whole = ends.iter().filter(|&&end| end <= cut as u64).count();
            prop_assert_eq!(records(&file[..cut]).len(), whole);
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_log() {
        let mut file = HEADER.to_vec();
        file.extend(framed(b"one", file.len() as u64));
        file.extend(framed(b"two", file.len() as u64));
        let last = file.len() - 1;
        file[last] ^= 1;
        assert_eq!(records(&file).len(), 1);
    }
}
