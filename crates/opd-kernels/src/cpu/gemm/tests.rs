use proptest::prelude::*;

use super::{
    Gemm, Matrix, MatrixMut, Packed, Update, kernels::Level, matrix, multiply, packed::BLOCK,
    pages::Pages, product::Right, tile::CHAIN,
};

/// Numbers in `-1..1` that differ in size.
fn numbers<T: Gemm>(n: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..n).map(|_| T::of((next() * 2.0 - 1.0) * (next() * 6.0 - 5.0).exp2())).collect()
}

/// A matrix in the middle of NaN: whoever reads beside it spoils its sums.
struct Strided<T> {
    values: Vec<T>,
    rows: usize,
    cols: usize,
    strides: (usize, usize),
}

impl<T: Gemm> Strided<T> {
    fn new(rows: usize, cols: usize, layout: Layout, seed: u64) -> Self {
        let strides = match layout {
            Layout::RowMajor => (cols + 3, 1),
            Layout::ColumnMajor => (1, rows + 5),
            Layout::Scattered => (2 * cols + 1, 2),
        };
        let extent = rows * strides.0 + cols * strides.1;
        let mut values = vec![T::of(f64::NAN); extent];
        let inner = numbers(rows * cols, seed);
        for i in 0..rows {
            for j in 0..cols {
                values[i * strides.0 + j * strides.1] = inner[i * cols + j];
            }
        }
        Self { values, rows, cols, strides }
    }

    fn view(&self) -> Matrix<'_, T> {
        Matrix::new(&self.values, self.rows, self.cols, self.strides.0, self.strides.1)
    }

    fn at(&self, i: usize, j: usize) -> T {
        self.values[i * self.strides.0 + j * self.strides.1]
    }
}

#[derive(Clone, Copy, Debug)]
enum Layout {
    RowMajor,
    ColumnMajor,
    Scattered,
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![Just(Layout::RowMajor), Just(Layout::ColumnMajor), Just(Layout::Scattered)]
}

fn run<T: Gemm>(level: Level, threads: usize, a: Matrix<'_, T>, b: Matrix<'_, T>) -> Vec<T> {
    matrix::collect(a.rows(), b.cols(), |c| {
        multiply(T::kernels(level), threads, c, a, Right::Strided(b), Update::Set);
    })
}

/// Largest error in units of `epsilon * sum |a| |b|`, against sums in f64; `base` is added.
fn worst<T: Gemm>(c: &[T], a: &Strided<T>, b: &Strided<T>, base: f64, epsilon: f64) -> f64 {
    let mut worst = 0.0f64;
    for i in 0..a.rows {
        for j in 0..b.cols {
            let terms = (0..a.cols).map(|k| a.at(i, k).as_f64() * b.at(k, j).as_f64());
            let (sum, size) = terms.fold((base, base.abs()), |(s, m), t| (s + t, m + t.abs()));
            let error = (c[i * b.cols + j].as_f64() - sum).abs();
            let unit = epsilon * size + f64::MIN_POSITIVE;
            worst = worst.max(if error.is_nan() { f64::INFINITY } else { error / unit });
        }
    }
    worst
}

fn check_against_f64<T: Gemm>(
    (m, k, n): (usize, usize, usize),
    (left, right): (Layout, Layout),
    threads: usize,
    epsilon: f64,
    bound: f64,
) -> Result<(), TestCaseError> {
    let a = Strided::<T>::new(m, k, left, 1);
    let b = Strided::<T>::new(k, n, right, 2);
    for level in Level::available() {
        let c = run(level, threads, a.view(), b.view());
        let error = worst(&c, &a, &b, 0.0, epsilon);
        prop_assert!(error <= bound, "{level:?} set: {error} units");
        let packed = Packed::of(T::kernels(level), b.view(), Pages::passing);
        let from_packed = matrix::collect(m, n, |c| {
            multiply(T::kernels(level), threads, c, a.view(), Right::Packed(&packed), Update::Set);
        });
        prop_assert!(from_packed == c, "{level:?} packed");

        let stride = n + 2;
        let mut c = vec![T::of(0.5); m * stride];
        let view = MatrixMut::new(&mut c, m, n, stride);
        multiply(T::kernels(level), threads, view, a.view(), Right::Strided(b.view()), Update::Add);
        let (mut sums, mut gaps) = (vec![], vec![]);
        for row in c.chunks(stride) {
            sums.extend_from_slice(&row[..n]);
            gaps.extend_from_slice(&row[n..]);
        }
        let error = worst(&sums, &a, &b, 0.5, epsilon);
        prop_assert!(error <= bound, "{level:?} add: {error} units");
        prop_assert!(gaps.iter().all(|&gap| gap == T::of(0.5)), "{level:?} wrote between rows");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn f32_agrees_with_sums_in_f64(
        m in 1usize..70, k in 1usize..600, n in 1usize..110,
        left in layouts(), right in layouts(), threads in 1usize..4,
    ) {
        let bound = k as f64 + 2.0;
        let epsilon = f32::EPSILON as f64;
        check_against_f64::<f32>((m, k, n), (left, right), threads, epsilon, bound)?;
    }

    #[test]
    fn f64_agrees_with_sums_in_f64(
        m in 1usize..40, k in 1usize..300, n in 1usize..60,
        left in layouts(), right in layouts(), threads in 1usize..4,
    ) {
        let bound = 2.0 * k as f64 + 2.0;
        check_against_f64::<f64>((m, k, n), (left, right), threads, f64::EPSILON, bound)?;
    }
}

/// The definition in words: chains of multiply-adds, summed per block, blocks in order.
fn by_definition(a: &Strided<f32>, b: &Strided<f32>, i: usize, j: usize) -> f32 {
    let mut total = None;
    for first in (0..a.cols).step_by(BLOCK) {
        let end = (first + BLOCK).min(a.cols);
        let chains = (first..end).step_by(CHAIN).map(|first| {
            let depths = first..(first + CHAIN).min(end);
            depths.fold(0.0, |sum, k| a.at(i, k).mul_add(b.at(k, j), sum))
        });
        let block = chains.reduce(|a, b| a + b).unwrap_or(0.0);
        total = Some(total.map_or(block, |total: f32| total + block));
    }
    total.unwrap_or(0.0)
}

#[test]
fn vector_levels_give_the_defined_bits() {
    for (left, right) in [
        (Layout::RowMajor, Layout::ColumnMajor),
        (Layout::RowMajor, Layout::RowMajor),
        (Layout::ColumnMajor, Layout::RowMajor),
    ] {
        for (m, k, n) in [(1, 600, 50), (29, 513, 49), (13, 256, 16), (64, 7, 33), (5, 1, 1)] {
            let a = Strided::new(m, k, left, 3);
            let b = Strided::new(k, n, right, 4);
            for level in Level::available().filter(|&level| level != Level::Portable) {
                let c = run(level, 3, a.view(), b.view());
                for i in 0..m {
                    for j in 0..n {
                        let want = by_definition(&a, &b, i, j);
                        let got = c[i * n + j];
                        assert_eq!(got.to_bits(), want.to_bits(), "{level:?} at {i}, {j}");
                    }
                }
            }
        }
    }
}

fn check_rows_do_not_see_each_other<T: Gemm>() {
    let (rows, depth, cols) = (300, 700, 77);
    for layout in [Layout::RowMajor, Layout::ColumnMajor] {
        let a = Strided::<T>::new(rows, depth, layout, 5);
        for right in [Layout::RowMajor, Layout::ColumnMajor] {
            let b = Strided::<T>::new(depth, cols, right, 6);
            for level in Level::available() {
                let all = run(level, 1, a.view(), b.view());
                for batch in [1, 2, 7, 12, 13, 299] {
                    let first = rows - batch;
                    let (row, col) = a.strides;
                    let part = Matrix::new(&a.values[first * row..], batch, depth, row, col);
                    let got = run(level, 1, part, b.view());
                    assert!(got == all[first * cols..], "{level:?} {layout:?} batch of {batch}");
                }
            }
        }
    }
}

#[test]
fn rows_do_not_see_each_other() {
    check_rows_do_not_see_each_other::<f32>();
    check_rows_do_not_see_each_other::<f64>();
}

#[test]
fn columns_do_not_see_each_other() {
    let (rows, depth, cols) = (20, 300, 200);
    let a = Strided::<f32>::new(rows, depth, Layout::RowMajor, 7);
    let b = Strided::<f32>::new(depth, cols, Layout::RowMajor, 8);
    for level in Level::available() {
        let all = run(level, 1, a.view(), b.view());
        for (first, n) in [(0, 1), (5, 13), (31, 33), (100, 100)] {
            let part = Matrix::new(&b.values[first..], depth, n, b.strides.0, 1);
            let got = run(level, 1, a.view(), part);
            for i in 0..rows {
                assert_eq!(got[i * n..][..n], all[i * cols + first..][..n], "{level:?} row {i}");
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    for (m, k, n) in [(500, 300, 90), (64, 2000, 130), (3, 400, 3000), (1000, 40, 13)] {
        let a = Strided::<f32>::new(m, k, Layout::RowMajor, 9);
        let b = Strided::<f32>::new(k, n, Layout::ColumnMajor, 10);
        let serial = run(Level::best(), 1, a.view(), b.view());
        for threads in [1, 2, 4] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| super::product(a.view(), b.view())), serial, "{threads}");
        }
        assert_eq!(run(Level::best(), 64, a.view(), b.view()), serial);
    }
}

#[test]
fn nan_and_infinity_propagate() {
    let (m, k, n) = (14, 300, 35);
    for level in Level::available() {
        for special in [f32::NAN, f32::INFINITY] {
            let mut a = vec![1.0f32; m * k];
            let mut b = vec![1.0f32; k * n];
            a[3 * k + 270] = special;
            b[270 * n + 34] = 0.0;
            let (a, b) = (Matrix::row_major(&a, m, k), Matrix::row_major(&b, k, n));
            let c = run(level, 1, a, b);
            for i in 0..m {
                for j in 0..n {
                    let got = c[i * n + j];
                    match (i, j) {
                        (3, 34) => assert!(got.is_nan(), "{level:?}: {special} * 0 = {got}"),
                        (3, _) => assert_eq!(got.is_nan(), special.is_nan(), "{level:?}"),
                        (_, 34) => assert_eq!(got, 299.0),
                        _ => assert_eq!(got, 300.0),
                    }
                }
            }
        }
    }
}

#[test]
fn a_sum_of_nothing_is_zero() {
    let (a, b) = (Matrix::row_major(&[], 3, 0), Matrix::row_major(&[], 0, 2));
    let mut c = [1.0f32; 6];
    super::gemm(MatrixMut::row_major(&mut c, 3, 2), a, b, Update::Add);
    assert_eq!(c, [1.0; 6]);
    super::gemm(MatrixMut::row_major(&mut c, 3, 2), a, b, Update::Set);
    assert_eq!(c, [0.0; 6]);
}

#[test]
fn empty_outputs_are_left_alone() {
    let b = [1.0f32; 6];
    let a = Matrix::row_major(&[], 0, 3);
    let (tall, wide) = (Matrix::row_major(&b, 3, 2), Matrix::row_major(&b, 2, 3));
    assert!(super::product(a, tall).is_empty());
    assert!(super::product_packed(a, &Packed::new(tall)).is_empty());
    assert!(super::product(wide, Matrix::row_major(&[], 3, 0)).is_empty());
}

#[test]
#[should_panic(expected = "shapes")]
fn shapes_that_do_not_agree_are_refused() {
    let values = [1.0f32; 6];
    super::product(Matrix::row_major(&values, 2, 3), Matrix::row_major(&values, 2, 3));
}
