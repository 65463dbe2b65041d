/// `20261123_074914` of seconds since 1970, UTC.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms",
/// <https://howardhinnant.github.io/date_algorithms.html>.
pub(super) fn stamp(seconds: u64) -> String {
    let (days, within) = (seconds / 86_400, seconds % 86_400);
    // Years from March on, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (within / 3_600, within / 60 % 60, within % 60);
    format!("{year:04}{month:02}{day:02}_{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::stamp;

    /// Of `date -u -d @SECONDS +%Y%m%d_%H%M%S`.
    #[test]
    fn days_are_those_of_the_calendar() {
        let cases = [
            (0, "19700101_000000"),
            (951_782_399, "20000228_235959"),
            (951_782_400, "20000229_000000"),
            (951_868_800, "20000301_000000"),
            (1_709_164_800, "20240229_000000"),
            (1_795_420_154, "20261123_074914"),
            (4_107_542_400, "21000301_000000"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(stamp(seconds), expected, "{seconds}");
        }
    }
}
