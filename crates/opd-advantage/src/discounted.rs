use opd_batch::Rows;

/// Replaces every value by itself plus `discount` times the sum after it, within its row.
///
/// ```text
/// D_t = x_t + discount * D_{t+1},   D = 0 after the last token
/// ```
pub(crate) fn discounted_sums(rows: &Rows, values: &mut [f64], discount: f64) {
    for range in rows.ranges() {
        let mut sum = 0.0;
        for value in values[range].iter_mut().rev() {
            sum = *value + discount * sum;
            *value = sum;
        }
    }
}
