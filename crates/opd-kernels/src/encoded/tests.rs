use std::borrow::Cow;

use candle_core::{
    Device,
    quantized::{GgmlDType, QStorage, QTensor},
};
use opd_testkit::numbers;

use super::{EncodedMatrix, row_bytes};

const KINDS: [GgmlDType; 13] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// Bytes of every value, seeded.
fn bytes(n: usize, seed: u64) -> Vec<u8> {
    numbers(n, seed, 128.0).into_iter().map(|x| (x + 128.0) as u8).collect()
}

/// As candle reads the same bytes.
fn by_candle(kind: GgmlDType, bytes: &[u8], n: usize) -> Vec<f32> {
    let stored = QStorage::from_data(Cow::Borrowed(bytes), &Device::Cpu, kind).unwrap();
    QTensor::new(stored, n).unwrap().dequantize(&Device::Cpu).unwrap().to_vec1().unwrap()
}

fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(same, "{what}, value {i}: {got} and {want}");
    }
}

#[test]
fn any_bytes_are_the_values_that_candle_gives_them() {
    let (rows, columns) = (40, 512);
    for (seed, kind) in KINDS.into_iter().enumerate() {
        let bytes = bytes(rows * row_bytes(kind, columns), seed as u64);
        let want = by_candle(kind, &bytes, rows * columns);
        let matrix = EncodedMatrix::new(vec![(kind, bytes)], columns).unwrap();
        let got = matrix.to_tensor().unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_same(&got, &want, &format!("{kind:?}"));
    }
}

#[test]
fn every_f16_is_widened_as_the_half_crate_widens_it() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let matrix = EncodedMatrix::new(vec![(GgmlDType::F16, all)], 1 << 16).unwrap();
    let got: Vec<f32> = matrix.to_tensor().unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let want: Vec<f32> = (0..=u16::MAX).map(|bits| half::f16::from_bits(bits).to_f32()).collect();
    assert_same(&got, &want, "f16");
}

#[test]
fn parts_lie_below_each_other_and_any_tile_is_a_part_of_the_whole() {
    let (columns, kinds) = (768, [GgmlDType::Q6K, GgmlDType::BF16, GgmlDType::Q8_0]);
    let parts = kinds.map(|kind| (kind, bytes(7 * row_bytes(kind, columns), 3)));
    let whole: Vec<f32> =
        parts.iter().flat_map(|(kind, bytes)| by_candle(*kind, bytes, 7 * columns)).collect();
    let matrix = EncodedMatrix::new(parts.to_vec(), columns).unwrap();
    assert_eq!(matrix.dims(), &[21, columns]);
    assert_eq!(matrix.n_bytes(), 7 * (630 + 1536 + 816));
    for (rows, tile) in [(0..21, 0..768), (5..9, 256..512), (13..21, 512..768), (3..3, 0..256)] {
        let mut got = vec![0.0; rows.len() * tile.len()];
        matrix.decode(rows.clone(), tile.clone(), &mut got);
        let want: Vec<f32> =
            rows.flat_map(|row| whole[row * columns..][tile.clone()].to_vec()).collect();
        assert_same(&got, &want, "a tile");
    }
}

#[test]
fn what_is_not_made_of_whole_rows_is_refused() {
    let error = |parts: Vec<(GgmlDType, Vec<u8>)>, columns| {
        EncodedMatrix::new(parts, columns).unwrap_err().to_string()
    };
    let q8 = |n: usize| vec![(GgmlDType::Q8_0, vec![0; n])];
    let rows = "EncodedMatrix::new: bytes must be whole rows of";
    assert_eq!(error(q8(34), 48), format!("{rows} 48 values in blocks of Q8_0, got [34]"));
    assert_eq!(error(q8(35), 32), format!("{rows} 32 values in blocks of Q8_0, got [35]"));
    assert_eq!(error(q8(0), 32), format!("{rows} 32 values in blocks of Q8_0, got [0]"));
    assert_eq!(error(q8(34), 0), format!("{rows} 0 values in blocks of Q8_0, got [34]"));
    assert_eq!(error(vec![], 32), "EncodedMatrix::new: parts must be at least one, got [0]");
    assert_eq!(
        error(vec![(GgmlDType::Q8_1, vec![0; 36])], 32),
        "EncodedMatrix::new: Q8_1 is not read; convert it to f32"
    );
}
