//! Wall-clock time as it is written in frames: RFC 3339, UTC, milliseconds.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z, shown as `2026-11-20T12:00:00.000Z`.
///
/// ```
/// use wire::Timestamp;
/// assert_eq!(Timestamp(1_795_176_000_000).to_string(), "2026-11-20T12:00:00.000Z");
/// assert_eq!(Timestamp(951_782_400_001).to_string(), "2000-02-29T00:00:00.001Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Length of the text in bytes, up to the year 9999.
    pub(crate) const BYTES: usize = 24;

    /// Appends the text without allocating: every delivered message contains one.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (days, ms) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (year, month, day) = civil_from_days(days);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        debug_assert_eq!(text.len(), Self::BYTES);
        let mut digits = |at: usize, width: usize, mut value: u64| {
            for place in (at..at + width).rev() {
                text[place] = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        digits(0, 4, year);
        digits(5, 2, month);
        digits(8, 2, day);
        digits(11, 2, ms / 3_600_000);
        digits(14, 2, ms / 60_000 % 60);
        digits(17, 2, ms / 1_000 % 60);
        digits(20, 3, ms % 1_000);
        out.extend_from_slice(&text);
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(Self::BYTES);
        self.write(&mut text);
        f.write_str(std::str::from_utf8(&text).expect("the template is ASCII"))
    }
}

/// Converts days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is the last day.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}
