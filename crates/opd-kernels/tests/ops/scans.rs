use candle_core::{DType, Device, Tensor};
use opd_kernels::{advantages_and_returns, discounted_sums};
use opd_testkit::{assert_close, host, numbers, tensor};

/// Rows of no, one, and many tokens.
const STARTS: [usize; 6] = [0, 0, 1, 34, 34, 130];

/// Each sum written out.
fn sums(x: &[f64], discount: f64) -> Vec<f64> {
    let rows = STARTS.windows(2).map(|row| row[0]..row[1]);
    let of_row = |row: std::ops::Range<usize>| {
        let end = row.end;
        row.map(move |t| (t..end).map(|s| discount.powi((s - t) as i32) * x[s]).sum())
    };
    rows.flat_map(of_row).collect()
}

#[test]
fn discounted_sums_are_those_written_out() {
    let x = numbers(130, 1, 2.0);
    for discount in [0.0, 0.9, 1.0] {
        for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let got = discounted_sums(&tensor(&x, 130, dtype), &STARTS, discount).unwrap();
            assert_close(&host(&got), &sums(&x, discount), tolerance);
        }
    }
}

#[test]
fn advantages_are_sums_of_temporal_differences() {
    let (r, v) = (numbers(130, 1, 2.0), numbers(130, 2, 1.0));
    let mut delta = vec![0.0; 130];
    for row in STARTS.windows(2) {
        for t in row[0]..row[1] {
            delta[t] = r[t] + if t + 1 < row[1] { 0.97 * v[t + 1] } else { 0.0 } - v[t];
        }
    }
    let want = sums(&delta, 0.97 * 0.9);
    let [rewards, values] = [&r, &v].map(|x| tensor(x, 130, DType::F64));
    let (got, returns) = advantages_and_returns(&rewards, &values, &STARTS, 0.97, 0.9).unwrap();
    assert_close(&host(&got), &want, 1e-12);
    let want: Vec<f64> = want.iter().zip(&v).map(|(a, v)| a + v).collect();
    assert_close(&host(&returns), &want, 1e-12);
}

#[test]
fn rows_that_do_not_cover_the_values_are_refused() {
    let x = tensor(&[1.0; 5], 5, DType::F32);
    for starts in [&[][..], &[0], &[0, 4], &[1, 5], &[0, 6, 5]] {
        let said = discounted_sums(&x, starts, 1.0).unwrap_err().to_string();
        assert!(said.contains("discounted_sums: end of the last row"), "{said}");
    }
    let none = Tensor::zeros(0, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(discounted_sums(&none, &[0], 1.0).unwrap().dims(), [0]);
}
