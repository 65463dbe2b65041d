//! Matrices as their files have them, or as products read them: products, heads and embeddings have
//! the bits of those with their values in f32.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use candle_core::{
    DType, Device, Tensor, Var,
    quantized::{GgmlDType, QStorage, QTensor},
};
use opd_kernels::{
    Divergence, EncodedMatrix, Head, Products, Projection, RowQuery, embedding, linear_divergence,
    linear_packed, linear_row_logprobs, linear_row_loss, linear_support_logprobs,
    linear_token_logprobs,
};
use opd_testkit::{host, numbers};
use proptest::prelude::*;

const BOTH: [Products; 2] = [Products::Full, Products::Bf16];

/// Blocks of 1, 32 and 256 values.
const KINDS: [GgmlDType; 12] = [
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

fn tensor(rows: usize, columns: usize, seed: u64) -> Tensor {
    let values: Vec<f32> =
        numbers(rows * columns, seed, 1.0).into_iter().map(|x| x as f32).collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
}

/// Bytes of every value, seeded.
fn any_bytes(n: usize, seed: u64) -> Vec<u8> {
    numbers(n, seed, 128.0).into_iter().map(|x| (x + 128.0) as u8).collect()
}

/// Bytes of an encoding that are finite numbers: random ones with small halves as scales.
fn bytes(kind: GgmlDType, values: usize, seed: u64) -> Vec<u8> {
    let n = values / kind.block_size() * kind.type_size();
    let mut bytes = any_bytes(n, seed);
    let scales: &[usize] = match kind {
        GgmlDType::F16 | GgmlDType::BF16 => &[0],
        GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q4K | GgmlDType::Q5K => &[0, 2],
        GgmlDType::Q2K => &[80, 82],
        GgmlDType::Q3K => &[108],
        GgmlDType::Q6K => &[208],
        _ => &[0],
    };
    for block in bytes.chunks_mut(kind.type_size()) {
        for &at in scales {
            // An exponent below 1, of either sign.
            block[at + 1] = block[at + 1] & 0x83 | 0x28;
        }
    }
    bytes
}

fn matrix(kind: GgmlDType, rows: usize, columns: usize, seed: u64) -> EncodedMatrix {
    EncodedMatrix::new(vec![(kind, bytes(kind, rows * columns, seed))], columns).unwrap()
}

/// Two encodings below each other.
fn two(rows: usize, columns: usize) -> EncodedMatrix {
    let part = |kind, rows, seed| (kind, bytes(kind, rows * columns, seed));
    let parts = vec![part(GgmlDType::Q8_0, rows / 3, 5), part(GgmlDType::BF16, rows - rows / 3, 6)];
    EncodedMatrix::new(parts, columns).unwrap()
}

/// Products with a matrix and with its values.
fn assert_products(w: &EncodedMatrix, rows: usize, what: &str) {
    let (&[n, k], values) = (w.dims(), w.to_tensor().unwrap());
    let (x, dy) = (tensor(rows, k, 1), tensor(rows, n, 2));
    for products in BOTH {
        let want = host(&products.linear(&x, &values).unwrap());
        assert!(want.iter().all(|x| x.is_finite()), "{what}");
        assert!(host(&products.linear(&x, w).unwrap()) == want, "{what} {products:?}: x W^T");
        let packed = products.pack(w).unwrap();
        assert!(host(&linear_packed(&x, &packed).unwrap()) == want, "{what} {products:?}: packed");
        let want = host(&products.grad_input(&dy, &values).unwrap());
        assert!(host(&products.grad_input(&dy, w).unwrap()) == want, "{what} {products:?}: dy W");
    }
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
    for (seed, kind) in KINDS.into_iter().chain([GgmlDType::F32]).enumerate() {
        let n = rows * columns / kind.block_size() * kind.type_size();
        let bytes = any_bytes(n, seed as u64);
        let want = by_candle(kind, &bytes, rows * columns);
        let matrix = EncodedMatrix::new(vec![(kind, bytes)], columns).unwrap();
        assert_eq!(matrix.n_bytes(), n);
        let got: Vec<f32> = matrix.to_tensor().unwrap().flatten_all().unwrap().to_vec1().unwrap();
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

#[test]
fn products_with_every_encoding_have_the_bits_of_those_with_its_values() {
    for (seed, kind) in KINDS.into_iter().enumerate() {
        assert_products(&matrix(kind, 300, 768, seed as u64), 37, &format!("{kind:?}"));
    }
    // Enough work for several parts, and several tiles in each.
    assert_products(&matrix(GgmlDType::Q4_1, 2600, 576, 7), 150, "many parts");
    assert_products(&two(700, 1120), 3, "two encodings");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn products_of_any_size_have_the_bits_of_those_with_the_values(
        rows in 1usize..40, n in 1usize..230, k in 1usize..1100, blocks in 1usize..36,
    ) {
        assert_products(&matrix(GgmlDType::BF16, n, k, 3), rows, "bf16");
        for products in BOTH {
            let packed = EncodedMatrix::packed(products, &tensor(n, k, 6)).unwrap();
            assert_products(&packed, rows, &format!("{packed:?}"));
        }
        assert_products(&matrix(GgmlDType::Q4_0, n, 32 * blocks, 3), rows, "q4_0");
    }
}

#[test]
fn rows_of_a_table_are_its_values() {
    let table = two(60, 96);
    let ids = Tensor::new(&[59u32, 0, 19, 20, 0], &Device::Cpu).unwrap();
    let want = embedding(&table.to_tensor().unwrap(), &ids).unwrap();
    assert_eq!(host(&embedding(&table, &ids).unwrap()), host(&want));
    let ids = Tensor::new(&[60u32], &Device::Cpu).unwrap();
    let error = embedding(&table, &ids).unwrap_err().to_string();
    assert_eq!(error, "embedding: token id 60 at position 0 is outside the vocabulary of 60");
}

#[test]
fn a_packed_matrix_holds_what_its_products_read() {
    // Strips and blocks of depths that are whole, and that are not.
    for (rows, columns) in [(1, 1), (67, 255), (64, 512), (70, 513), (300, 1030)] {
        let values = tensor(rows, columns, 3);
        let full = EncodedMatrix::packed(Products::Full, &values).unwrap();
        assert_eq!(host(&full.to_tensor().unwrap()), host(&values), "{full:?}");
        let half = EncodedMatrix::packed(Products::Bf16, &values).unwrap();
        let rounded = values.to_dtype(DType::BF16).unwrap();
        assert_eq!(host(&half.to_tensor().unwrap()), host(&rounded), "{half:?}");
        // Whole vectors of rows, and whole pairs of columns.
        let most = |columns: usize| rows.next_multiple_of(16) * columns * 4;
        assert!(full.n_bytes() >= 4 * full.elem_count() && full.n_bytes() <= most(columns));
        assert!(half.n_bytes() >= 2 * half.elem_count());
        assert!(half.n_bytes() <= most(columns.div_ceil(2)));
    }
    // Of a tensor with strides, and unlike a tensor it does not change.
    let values = tensor(40, 30, 1);
    let transposed = EncodedMatrix::packed(Products::Full, &values.t().unwrap()).unwrap();
    let want = host(&values.t().unwrap());
    values.slice_set(&values.zeros_like().unwrap(), 0, 0).unwrap();
    assert_eq!(host(&transposed.to_tensor().unwrap()), want);

    let error =
        |tensor: &Tensor| EncodedMatrix::packed(Products::Full, tensor).unwrap_err().to_string();
    let name = "EncodedMatrix::packed: weight";
    let flat = tensor(2, 3, 1).flatten_all().unwrap();
    assert_eq!(error(&flat), format!("{name} must be a matrix, got [6]"));
    let none = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(error(&none), format!("{name} must be at least one value, got [0, 3]"));
    let wide = tensor(2, 3, 1).to_dtype(DType::F64).unwrap();
    assert_eq!(
        error(&wide),
        format!("{name} is F64; an encoded weight meets f32: convert it to f32")
    );
}

/// Hidden states and targets of 150 rows over a vocabulary with several chunks.
fn states(head: EncodedMatrix) -> (Var, EncodedMatrix, Tensor, Tensor) {
    let (rows, &[vocab, width]) = (150, head.dims());
    let values = head.to_tensor().unwrap();
    let ids: Vec<u32> = (0..rows as u32).map(|i| i * 911 % vocab as u32).collect();
    let ids = Tensor::from_vec(ids, rows, &Device::Cpu).unwrap();
    (Var::from_tensor(&tensor(rows, width, 4)).unwrap(), head, values, ids)
}

/// Of a sum with unequal weights, for the hidden states.
fn gradient(of: &Tensor, hidden: &Var) -> Vec<f64> {
    let n = of.elem_count();
    let weights: Vec<f32> = numbers(n, 8, 1.0).into_iter().map(|x| x as f32).collect();
    let weights = Tensor::from_vec(weights, n, &Device::Cpu).unwrap();
    let sum = (of.flatten_all().unwrap() * weights).unwrap().sum_all().unwrap();
    host(&sum.backward().unwrap().remove(hidden).unwrap())
}

#[test]
fn heads_have_the_bits_of_those_with_the_values() {
    heads_have_the_bits_of_those_with_values(matrix(GgmlDType::Q8_0, 50_000, 32, 9));
}

#[test]
fn packed_heads_have_the_bits_of_those_with_the_values() {
    for products in BOTH {
        let head = EncodedMatrix::packed(products, &tensor(50_000, 32, 9)).unwrap();
        heads_have_the_bits_of_those_with_values(head);
    }
}

fn heads_have_the_bits_of_those_with_values(head: EncodedMatrix) {
    let (hidden, head, values, ids) = states(head);
    for products in BOTH {
        let heads = [Head::new(&head, products), Head::new(&values, products)];
        let of = |head: Head<'_>| {
            let scores = linear_token_logprobs(&hidden, head, &ids, 0.8).unwrap();
            let loss = linear_row_loss(&hidden, head, &ids, 0.8, |_, tokens| {
                tokens.logprobs.sum_all()? + tokens.entropy.sum_all()?
            });
            let loss = loss.unwrap();
            let own = Projection::new(&hidden, head);
            let theirs = tensor(150, 32, 5);
            let jsd = linear_divergence(
                own,
                Projection::new(&theirs, head),
                &ids,
                Divergence::Jsd { beta: 0.4 },
                0.8,
            );
            let support = ids.unsqueeze(1).unwrap();
            let support = linear_support_logprobs(&hidden, head, &support, 0.8).unwrap();
            let query = RowQuery { temperature: 0.8, ids: &[7], top: 3, rank: true };
            let rows = linear_row_logprobs(&hidden, head, &[query; 150]).unwrap();
            let jsd = jsd.unwrap().divergence;
            let parts = [&scores.logprobs, &scores.entropy, &loss.loss, &jsd, &support.logprobs];
            let values: Vec<Vec<f64>> = parts.map(host).into();
            let gradients = parts.map(|part| gradient(part, &hidden));
            let top: Vec<_> =
                rows.into_iter().map(|row| (row.logprobs, row.top, row.rank)).collect();
            (values, gradients, host(&loss.hidden_gradient.unwrap()), top)
        };
        let [got, want] = heads.map(of);
        assert!(got == want, "{products:?}");
    }
}

#[test]
fn what_is_no_f32_on_the_cpu_or_has_another_width_is_refused() {
    let w = matrix(GgmlDType::Q8_0, 8, 64, 1);
    let x = tensor(2, 64, 1);
    let wide = x.to_dtype(DType::F64).unwrap();
    let error = Products::Full.linear(&wide, &w).unwrap_err().to_string();
    let f32 = "an encoded weight meets f32: convert it to f32";
    assert_eq!(error, format!("linear: x is F64; {f32}"));
    let error = Products::Full.linear(&tensor(2, 32, 1), &w).unwrap_err().to_string();
    assert_eq!(error, "linear: x must be [T, 64], got [2, 32]");
    let error = Products::Full.grad_input(&x, &w).unwrap_err().to_string();
    assert_eq!(error, "linear_grad_input: dy must be [T, 8], got [2, 64]");
    let ids = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
    let error = linear_token_logprobs(&wide, &w, &ids, 1.0).unwrap_err().to_string();
    assert_eq!(error, format!("linear_token_logprobs: hidden is F64; {f32}"));
    let error = linear_token_logprobs(&tensor(2, 32, 1), &w, &ids, 1.0).unwrap_err().to_string();
    assert_eq!(
        error,
        "linear_token_logprobs: head must be [V, 32], as wide as hidden, got [8, 64]"
    );
}
