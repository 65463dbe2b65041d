/// At most `2 * buckets` points that keep every peak and trough of the curve.
///
/// Each of `buckets` equal runs of points keeps its least and its greatest value, in order.
/// NaN breaks the curve: a run without any number stays as one NaN.
pub(super) fn thinned(points: &[(f64, f64)], buckets: usize) -> Vec<(f64, f64)> {
    if points.len() <= 2 * buckets {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * buckets);
    for run in runs(points, buckets) {
        let finite = run.iter().filter(|point| point.1.is_finite());
        let least = finite.clone().min_by(|a, b| a.1.total_cmp(&b.1));
        let greatest = finite.max_by(|a, b| a.1.total_cmp(&b.1));
        match (least, greatest) {
            (Some(&least), Some(&greatest)) if least.0 < greatest.0 => {
                kept.extend([least, greatest]);
            }
            (Some(&least), Some(&greatest)) if greatest.0 < least.0 => {
                kept.extend([greatest, least]);
            }
            (Some(&only), _) => kept.push(only),
            _ => kept.push((run[0].0, f64::NAN)),
        }
    }
    kept
}

/// The mean of each of `buckets` equal runs of points: for sums that must stay sums.
pub(super) fn averaged(points: &[(f64, f64)], buckets: usize) -> Vec<(f64, f64)> {
    if points.len() <= buckets {
        return points.to_vec();
    }
    let means = runs(points, buckets).map(|run| {
        let n = run.len() as f64;
        let sum = run.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / n, sum.1 / n)
    });
    means.collect()
}

/// The mean of each point and `half` neighbours on either side, as far as there are any.
pub(super) fn smoothed(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let means = points.iter().enumerate().map(|(index, &(x, _))| {
        let around = index.saturating_sub(half)..(index + half + 1).min(points.len());
        let finite = points[around].iter().map(|point| point.1).filter(|y| y.is_finite());
        let (n, sum) = finite.fold((0, 0.0), |(n, sum), y| (n + 1, sum + y));
        (x, if n == 0 { f64::NAN } else { sum / f64::from(n) })
    });
    means.collect()
}

fn runs(points: &[(f64, f64)], buckets: usize) -> impl Iterator<Item = &[(f64, f64)]> {
    let at = move |bucket: usize| bucket * points.len() / buckets;
    (0..buckets).map(move |bucket| &points[at(bucket)..at(bucket + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: impl IntoIterator<Item = f64>) -> Vec<(f64, f64)> {
        values.into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect()
    }

    #[test]
    fn a_single_peak_among_thousands_of_points_stays() {
        let mut points = curve((0..5000).map(|x| f64::from(x).sin()));
        points[3217].1 = 40.0;
        let kept = thinned(&points, 200);
        assert!(kept.len() <= 400);
        assert!(kept.contains(&(3217.0, 40.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thinned(&points[..400], 200), points[..400]);
    }

    #[test]
    fn a_stretch_without_numbers_stays_a_gap() {
        let points = curve((0..1000).map(|x| if (300..400).contains(&x) { f64::NAN } else { 1.0 }));
        let kept = thinned(&points, 100);
        assert_eq!(kept.iter().filter(|point| point.1.is_nan()).count(), 10);
    }

    #[test]
    fn averages_keep_the_sum() {
        let points = curve((0..1000).map(f64::from));
        let kept = averaged(&points, 100);
        assert_eq!(kept.len(), 100);
        assert_eq!(10.0 * kept.iter().map(|point| point.1).sum::<f64>(), 499_500.0);
        assert_eq!(kept[0], (4.5, 4.5));
    }

    #[test]
    fn smoothing_is_a_mean_over_what_there_is() {
        let points = curve([1.0, 2.0, 6.0, f64::NAN]);
        assert_eq!(smoothed(&points, 1), curve([1.5, 3.0, 4.0, 6.0]));
    }
}
