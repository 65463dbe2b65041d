/// A number for a reader: four significant digits, no trailing zeros.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0".to_owned() } else { value.to_string() };
    }
    let magnitude = value.abs().log10().floor() as i32;
    if (-3..6).contains(&magnitude) {
        let decimals = (3 - magnitude).max(0) as usize;
        return trimmed(&format!("{value:.decimals$}"));
    }
    scientific(value)
}

/// A number with an exponent: four significant digits, no trailing zeros.
pub(super) fn scientific(value: f64) -> String {
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => format!("{}e{exponent}", trimmed(mantissa)),
        None => text,
    }
}

/// A fraction as per cent with this many decimals.
pub(super) fn percent(fraction: f64, decimals: usize) -> String {
    format!("{:.decimals$}%", 100.0 * fraction)
}

/// A count with its thousands set apart: `12,345`.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration: seconds to a tenth below two minutes, else minutes and hours.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let minutes = (seconds / 60.0).round() as u64;
    match minutes / 60 {
        0 => format!("{minutes} min"),
        hours => format!("{hours} h {:02} min", minutes % 60),
    }
}

fn trimmed(decimal: &str) -> String {
    if !decimal.contains('.') {
        return decimal.to_owned();
    }
    decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1.0, "1"),
            (-0.25, "-0.25"),
            (0.012_345_6, "0.01235"),
            (123_456.7, "123457"),
            (1_234_567.0, "1.235e6"),
            (0.000_3, "3e-4"),
            (f64::INFINITY, "inf"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!((count(999), count(1000)), ("999".to_owned(), "1,000".to_owned()));
        assert_eq!(percent(0.9455, 1), "94.5%");
        assert_eq!((duration(41.52), duration(150.0)), ("41.5 s".into(), "3 min".into()));
        assert_eq!(duration(3720.0), "1 h 02 min");
    }
}
