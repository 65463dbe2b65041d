/// Asserts that two lists are equal within an absolute tolerance.
#[track_caller]
pub fn assert_close(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "lengths differ");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let near = (got - expected).abs() <= tolerance;
        assert!(near, "entry {i}: got {got}, expected {expected} within {tolerance}");
    }
}
