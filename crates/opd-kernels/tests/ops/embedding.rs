use candle_core::DType;
use opd_kernels::{embedding, scatter_add_rows};
use opd_testkit::{assert_close, assert_gradient, host, numbers, tensor};

use super::{ids, t64, weighted};

#[test]
fn rows_are_those_of_the_table() {
    let table = t64(&numbers(7 * 3, 1, 1.0), (7, 3));
    let ids = ids(&[6, 0, 6, 2]);
    let want = host(&table.index_select(&ids, 0).unwrap());
    assert_eq!(host(&embedding(&table, &ids).unwrap()), want);
}

#[test]
fn the_gradient_is_central_differences_and_is_added() {
    let (table, dy) = (numbers(7 * 3, 1, 1.0), numbers(5 * 3, 2, 1.0));
    let ids = ids(&[6, 0, 6, 2, 6]);
    let before = numbers(7 * 3, 3, 1.0);
    let sums = t64(&before, (7, 3));
    scatter_add_rows(&sums, &ids, &t64(&dy, (5, 3))).unwrap();
    let added: Vec<f64> = host(&sums).iter().zip(&before).map(|(after, b)| after - b).collect();
    assert_gradient(&added, &table, 1e-9, |table| {
        weighted(&embedding(&t64(table, (7, 3)), &ids).unwrap(), &dy)
    });
}

#[test]
fn rows_are_added_in_order() {
    let sums = tensor(&[0.0; 2], (2, 1), DType::F32);
    // 1 + 1e9 is 1e9 in f32: which of the two results comes out tells the order.
    scatter_add_rows(&sums, &ids(&[1, 1, 1]), &tensor(&[1.0, 1e9, -1e9], (3, 1), DType::F32))
        .unwrap();
    assert_close(&host(&sums), &[0.0, 0.0], 0.0);
    scatter_add_rows(&sums, &ids(&[1, 1, 1]), &tensor(&[1e9, -1e9, 1.0], (3, 1), DType::F32))
        .unwrap();
    assert_close(&host(&sums), &[0.0, 1.0], 0.0);
}
