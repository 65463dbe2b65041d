//! Laws of `Rows` and `Ragged`.
#![allow(clippy::unwrap_used)]

use opd_batch::{Error, Ragged, Rows};
use proptest::{collection::vec, prelude::*};

#[test]
fn an_empty_row_is_a_row() {
    let stream = Ragged::from_rows([vec![1, 2], vec![], vec![3]]);
    assert_eq!(stream.rows().n_rows(), 3);
    assert_eq!(stream.rows().lengths().collect::<Vec<_>>(), [2, 0, 1]);
    assert_eq!(stream.row(1), Some(&[][..]));
    assert_eq!(stream.row(2), Some(&[3][..]));
    assert_eq!(stream.row(3), None);
    assert_eq!(stream.rows().range(1), Some(2..2));
    assert_eq!(stream.rows().range(3), None);
}

#[test]
fn no_rows_at_all() {
    let stream = Ragged::<f32>::from_rows([]);
    assert_eq!((stream.rows().n_rows(), stream.rows().n_tokens()), (0, 0));
    assert_eq!(stream.rows().locate(0), None);
    assert_eq!(stream.iter().len(), 0);
    assert_eq!(stream.row(0), None);
    assert!(stream.check_finite("nothing").is_ok());
}

#[test]
fn zip_with_wants_the_same_rows_and_not_just_as_many_tokens() {
    let left = Ragged::from_rows([vec![1, 2], vec![], vec![3]]);
    let right = Ragged::from_rows([vec![10, 20], vec![], vec![30]]);
    let sum = left.zip_with(&right, "right", |a, b| a + b).unwrap();
    assert_eq!(sum, Ragged::from_rows([vec![11, 22], vec![], vec![33]]));

    for crooked in
        [vec![vec![10], vec![20], vec![30]], vec![vec![10, 20], vec![30]], vec![vec![10, 20, 30]]]
    {
        let crooked = Ragged::from_rows(crooked);
        let error = left.zip_with(&crooked, "right", |a, b| a + b).unwrap_err();
        assert!(matches!(error, Error::Rows { what: "right" }), "{error}");
    }
}

#[test]
fn not_finite_is_found_behind_an_empty_row() {
    let stream = Ragged::from_rows([vec![0.0], vec![], vec![1.0, f32::NEG_INFINITY, f32::NAN]]);
    let error = stream.check_finite("values").unwrap_err();
    assert_eq!(error.to_string(), "values: -inf is not finite at row 2, token 1");
}

fn rows() -> impl Strategy<Value = Vec<Vec<i32>>> {
    vec(vec(-9..9, 0..5), 0..8)
}

proptest! {
    #[test]
    fn packing_and_cutting_are_inverse(rows in rows()) {
        let packed = Ragged::from_rows(rows.clone());
        prop_assert_eq!(packed.iter().map(<[_]>::to_vec).collect::<Vec<_>>(), rows.clone());
        let boundaries = Rows::from_lengths(rows.iter().map(Vec::len));
        let cut = Ragged::new("rows", boundaries, rows.concat()).unwrap();
        prop_assert_eq!(&cut, &packed);
        prop_assert_eq!(cut.into_values(), rows.concat());
    }

    #[test]
    fn locate_is_the_inverse_of_range(rows in rows()) {
        let boundaries = Rows::from_lengths(rows.iter().map(Vec::len));
        for (row, range) in boundaries.ranges().enumerate() {
            for (place, token) in range.enumerate() {
                prop_assert_eq!(boundaries.locate(token), Some((row, place)));
            }
        }
        prop_assert_eq!(boundaries.locate(boundaries.n_tokens()), None);
        prop_assert_eq!(boundaries.locate(usize::MAX), None);
    }

    #[test]
    fn select_takes_rows_in_any_order_and_number(
        (rows, picks) in rows().prop_flat_map(|rows| {
            let n = rows.len().max(1);
            (Just(rows), vec(0..n, 0..6))
        })
    ) {
        let packed = Ragged::from_rows(rows.clone());
        if rows.is_empty() && !picks.is_empty() {
            let is_index = matches!(packed.select(&picks), Err(Error::RowIndex { n_rows: 0, .. }));
            prop_assert!(is_index);
            return Ok(());
        }
        let expected: Vec<_> = picks.iter().map(|&row| rows[row].clone()).collect();
        prop_assert_eq!(packed.select(&picks).unwrap(), Ragged::from_rows(expected));
    }

    #[test]
    fn map_and_zip_with_keep_rows(rows in rows()) {
        let packed = Ragged::from_rows(rows.clone());
        let doubled = packed.map(|value| value * 2);
        let expected = rows.iter().map(|row| row.iter().map(|value| value * 2).collect());
        prop_assert_eq!(&doubled, &Ragged::from_rows(expected.collect::<Vec<Vec<_>>>()));
        let back = doubled.zip_with(&packed, "packed", |a, b| a - b).unwrap();
        prop_assert_eq!(&back, &packed);
        let mut sevens = packed;
        sevens.values_mut().fill(7);
        prop_assert_eq!(&sevens, &Ragged::filled(sevens.rows().clone(), 7));
    }
}
