/// Asserts that `work` gives the same bits on 1, 2 and 4 threads; returns them.
///
/// # Panics
///
/// If it does not, or no threads can be started.
#[track_caller]
pub fn same_on_any_number_of_threads(
    work: impl Fn() -> Vec<Vec<f64>> + Send + Sync,
) -> Vec<Vec<f64>> {
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(&work)
    };
    let bits = |values: &[Vec<f64>]| -> Vec<Vec<u64>> {
        values.iter().map(|values| values.iter().map(|x| x.to_bits()).collect()).collect()
    };
    let one = on(1);
    for threads in [2, 4] {
        assert!(bits(&one) == bits(&on(threads)), "other bits on {threads} threads");
    }
    one
}
