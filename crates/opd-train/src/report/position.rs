/// Mean reverse KL at one place in the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PositionKl {
    /// Mean over the responses that are long enough, nats.
    pub kl: f64,
    /// How many those are.
    pub responses: u64,
}

/// Mean KL of each place, from the KL of each response's tokens (nats).
///
/// Place 0 is the first response token. NaN stands for a token without a score.
pub fn kl_by_position<'a>(rows: impl IntoIterator<Item = &'a [f32]>) -> Vec<PositionKl> {
    let mut sums: Vec<PositionKl> = Vec::new();
    for row in rows {
        if sums.len() < row.len() {
            sums.resize_with(row.len(), PositionKl::default);
        }
        for (sum, &kl) in sums.iter_mut().zip(row).filter(|(_, kl)| !kl.is_nan()) {
            sum.kl += f64::from(kl);
            sum.responses += 1;
        }
    }
    for PositionKl { kl, responses } in &mut sums {
        *kl /= (*responses).max(1) as f64;
    }
    sums
}

/// Points for a chart: places from 1, at most `limit` of them, each a weighted mean.
pub(super) fn points(positions: &[PositionKl], limit: usize) -> Vec<(f64, f64)> {
    let width = positions.len().div_ceil(limit.max(1)).max(1);
    let buckets = positions.chunks(width).enumerate();
    let points = buckets.filter_map(|(bucket, positions)| {
        let responses: u64 = positions.iter().map(|position| position.responses).sum();
        let sum: f64 = positions.iter().map(|at| at.kl * at.responses as f64).sum();
        let middle = (bucket * width) as f64 + (positions.len() + 1) as f64 / 2.0;
        (responses > 0).then(|| (middle, sum / responses as f64))
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_over_the_responses_that_are_long_enough() {
        let rows: [&[f32]; 4] = [&[1.0, 2.0, 4.0], &[3.0, f32::NAN], &[], &[2.0]];
        let expected = [(2.0, 3), (2.0, 1), (4.0, 1)];
        let got = kl_by_position(rows);
        assert_eq!(got.iter().map(|at| (at.kl, at.responses)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn long_responses_are_cut_into_weighted_means() {
        let at = |kl, responses| PositionKl { kl, responses };
        let positions = [at(1.0, 3), at(5.0, 1), at(2.0, 1), at(9.0, 0), at(3.0, 1)];
        assert_eq!(points(&positions, 3), [(1.5, 2.0), (3.5, 2.0), (5.0, 3.0)]);
        assert_eq!(points(&positions[..2], 9), [(1.0, 1.0), (2.0, 5.0)]);
        assert_eq!(points(&[], 9), []);
    }
}
