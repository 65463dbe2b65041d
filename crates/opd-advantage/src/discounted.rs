use opd_batch::{Rows, ScoredBatch};

/// Replaces every value by itself plus `discount` times the sum after it, within its row.
///
/// ```text
/// D_t = x_t + discount * D_{t+1},   D = 0 after the last token
/// ```
pub(crate) fn discounted_sums(rows: &Rows, values: &mut [f64], discount: f64) {
    sums(rows, values, discount, |_| true);
}

/// As [`discounted_sums`] over what the teacher scored as one: each token of a span has the
/// span's `D`.
pub(crate) fn discounted_spans(batch: &ScoredBatch<'_>, values: &mut [f64], discount: f64) {
    sums(batch.rollouts().rows(), values, discount, |token| batch.ends_span(token));
}

fn sums(rows: &Rows, values: &mut [f64], discount: f64, ends: impl Fn(usize) -> bool) {
    for range in rows.ranges() {
        let (mut sum, mut after) = (0.0, 0.0);
        for token in range.rev() {
            if ends(token) {
                after = sum;
            }
            sum = values[token] + discount * after;
            values[token] = sum;
        }
    }
}
