use candle_core::{DType, Device, Tensor};

use super::{agree, host, ids, matrix};
use crate::{Error, RotaryTable, embedding, rotate_heads, scatter_add_rows, write_rows};

#[test]
fn tables_are_read_and_added_to() {
    for (vocab, width, n) in [(1, 1, 3), (7, 5, 0), (13, 40, 600), (300, 257, 20), (3, 5000, 9)] {
        for dtype in [DType::F64, DType::F32, DType::BF16, DType::F16] {
            let table = matrix(vocab, width, 1, 1.0, dtype);
            let rows = matrix(n, width, 2, 1.0, dtype);
            let ids = ids(n, vocab, 3);
            // The same order of sums, rounded once, and so the same bits.
            agree(0.0, || {
                let sums = table.copy().unwrap();
                scatter_add_rows(&sums, &ids, &rows).unwrap();
                vec![embedding(&table, &ids).unwrap(), sums]
            });
        }
    }
}

#[test]
fn rows_of_a_cache_are_replaced() {
    let fused = matrix(4 * 3, 6, 2, 1.0, DType::F32).reshape((4, 3, 6)).unwrap();
    let source = fused.narrow(1, 1, 2).unwrap();
    for rows in [[0, 4, 2, 3], [1, 1, 3, 1]] {
        agree(0.0, || {
            let cache = matrix(5 * 2, 6, 1, 1.0, DType::F32).reshape((5, 2, 6)).unwrap();
            let cache = cache.copy().unwrap();
            write_rows(&cache, &rows, &source).unwrap();
            vec![cache]
        });
    }
}

#[test]
fn ids_and_positions_outside_are_named() {
    if host::library().is_err() {
        return;
    }
    let table = matrix(4, 2, 1, 1.0, DType::F32);
    let ids = Tensor::new(&[0u32, 3, 4, 5], &Device::Cpu).unwrap();
    let error = host::run(false, || embedding(&table, &ids).unwrap_err());
    assert!(matches!(error, Error::TokenId { position: 2, id: 4, .. }), "{error}");
    let angles = RotaryTable::new(&[1.0], 3, DType::F32, &Device::Cpu).unwrap();
    let heads = crate::Heads { heads: 1, kv_heads: 1, head_dim: 2 };
    let qkv = matrix(4, 6, 1, 1.0, DType::F32);
    let error = host::run(false, || rotate_heads(&qkv, heads, None, &angles, &ids).unwrap_err());
    assert!(matches!(error, Error::Index { index: 1, got: 3, len: 3, .. }), "{error}");
}
