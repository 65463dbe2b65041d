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

/// Bytes: `48.0 MiB`, `2.05 GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    match mib < 1023.95 {
        true => format!("{mib:.1} MiB"),
        false => format!("{:.2} GiB", mib / 1024.0),
    }
}

/// The bytes of `16GiB`, `500 MB`, `1.5g` or `1000000`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: Option<f64> = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "kb" => Some(1e3),
        "mb" => Some(1e6),
        "gb" => Some(1e9),
        "k" | "kib" => Some(1024.0),
        "m" | "mib" => Some(1024.0 * 1024.0),
        "g" | "gib" => Some(1024.0 * 1024.0 * 1024.0),
        _ => None,
    };
    let bytes = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let bytes = bytes.filter(|bytes| (1.0..1e18).contains(bytes));
    Ok(bytes.ok_or("it must be a size, e.g. 16GiB")? as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        let read = ["16GiB", "1.5g", "500 MB", "7", "2k"].map(|text| parse_bytes(text).unwrap());
        assert_eq!(read, [16 << 30, 3 << 29, 500_000_000, 7, 2048]);
        for bad in ["", "much", "-1", "3TiBs", "0", "1.2.3g", "9e30"] {
            assert_eq!(parse_bytes(bad), Err("it must be a size, e.g. 16GiB".into()), "{bad}");
        }
        let written = [3 << 20, 1023 << 20, 1024 << 20, 5 << 29].map(bytes);
        assert_eq!(written, ["3.0 MiB", "1023.0 MiB", "1.00 GiB", "2.50 GiB"]);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(percent(0.945_5), "94.55%");
        assert_eq!((count(999), count(1_234_567)), ("999".into(), "1,234,567".into()));
        let durations = [0.04, 99.94, 99.96, 3599.0, 7500.0].map(duration);
        assert_eq!(durations, ["0.0 s", "99.9 s", "1 min 40 s", "59 min 59 s", "2 h 05 min"]);
    }
}
