//! Numbers for a reader.

pub(crate) use opd_train::report::count;

/// A fraction as per cent: `94.55%`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.2}%", 100.0 * fraction)
}

/// A duration: `41.5 s`, `3 min 20 s`, `2 h 05 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 99.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(percent(0.945_5), "94.55%");
        assert_eq!((count(999), count(1_234_567)), ("999".into(), "1,234,567".into()));
        let durations = [0.04, 99.94, 99.96, 3599.0, 7500.0].map(duration);
        assert_eq!(durations, ["0.0 s", "99.9 s", "1 min 40 s", "59 min 59 s", "2 h 05 min"]);
    }
}
