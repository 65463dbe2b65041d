use crate::assert_close;

/// Step of the differences: their error is about `STEP^2` of the third derivative plus
/// `1e-16 / STEP` of the value.
const STEP: f64 = 1e-5;

/// Asserts that `gradient` is `(f(x + h e_i) - f(x - h e_i)) / 2h` in every entry `i`.
#[track_caller]
pub fn assert_gradient(gradient: &[f64], x: &[f64], tolerance: f64, f: impl Fn(&[f64]) -> f64) {
    let at = |i: usize, step: f64| {
        let mut x = x.to_vec();
        x[i] += step;
        f(&x)
    };
    let slope = |i| (at(i, STEP) - at(i, -STEP)) / (2.0 * STEP);
    let slopes: Vec<f64> = (0..x.len()).map(slope).collect();
    assert_close(gradient, &slopes, tolerance);
}
