//! Instants, as in tokens and records.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Creates an instant from seconds since the Unix epoch, as in `exp`, `nbf` and `iat` (RFC 7519
    /// §2). Saturates.
    pub const fn from_unix_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Creates an instant from milliseconds since the Unix epoch.
    pub const fn from_unix_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> u64 {
        self.0
    }

    /// Returns the instant this much later; saturates at the end of time.
    #[must_use = "returns the new value"]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Returns the instant this much earlier; saturates at the epoch.
    #[must_use = "returns the new value"]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Formats the instant as RFC 3339 in UTC with milliseconds; years after 9999 become 9999.
    pub(crate) fn to_rfc_3339(self) -> [u8; 24] {
        // The last millisecond of the year 9999.
        let instant = self.0.min(253_402_300_799_999);
        let (seconds, millis) = (instant / 1000, instant % 1000);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // Civil date from days since the epoch, for the Gregorian calendar in 400-year eras that
        // begin in March.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = (year_of_era + era * 400 + u64::from(month <= 2)).min(9999);
        let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |end: usize, width: usize, mut value: u64| {
            for digit in text.iter_mut().take(end).rev().take(width) {
                // A remainder of ten is one digit.
                *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
                value /= 10;
            }
        };
        put(4, 4, year);
        put(7, 2, month);
        put(10, 2, day);
        put(13, 2, hour);
        put(16, 2, minute);
        put(19, 2, second);
        put(23, 3, millis);
        text
    }

    /// Parses the format of [`Timestamp::to_rfc_3339`], and no other.
    pub(crate) fn from_rfc_3339(text: &str) -> Option<Self> {
        let text: &[u8; 24] = text.as_bytes().try_into().ok()?;
        let number = |from: usize, digits: usize| {
            let digits = text.get(from..from + digits)?;
            digits.iter().try_fold(0_u64, |number, digit| {
                digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0'))
            })
        };
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
        // The inverse of the calculation in `to_rfc_3339`. Dates that do not exist are found by
        // writing the result again.
        let (year, month) = (
            if month > 2 { year } else { year.checked_sub(1)? },
            if month > 2 { month.checked_sub(3)? } else { month + 9 },
        );
        let (era, year_of_era) = (year / 400, year % 400);
        let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
        let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
        let timestamp = Self(seconds * 1000 + number(20, 3)?);
        (timestamp.to_rfc_3339() == *text).then_some(timestamp)
    }

    /// Returns the time from this instant until `later`; zero if `later` has passed.
    pub const fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// RFC 3339 in UTC with milliseconds, as the audit writes it.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_rfc_3339().iter().try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_as_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_500_000, "2026-11-24T06:00:00.000Z"),
            (4_102_444_800, "2100-01-01T00:00:00.000Z"),
            (1 << 31, "2038-01-19T03:14:08.000Z"),
            (1 << 32, "2106-02-07T06:28:16.000Z"),
            (253_402_300_799, "9999-12-31T23:59:59.000Z"),
        ] {
            let timestamp = Timestamp::from_unix_seconds(seconds);
            assert_eq!(timestamp.to_string(), text, "X24");
            assert_eq!(Timestamp::from_rfc_3339(text), Some(timestamp), "{text}");
        }
    }

    #[test]
    fn only_the_written_form_of_a_time_is_read() {
        for other in [
            "1969-12-31T23:59:59.999Z",
            "2026-02-29T00:00:00.000Z",
            "2026-00-01T00:00:00.000Z",
            "2026-13-01T00:00:00.000Z",
            "2026-01-00T00:00:00.000Z",
            "2026-01-01T24:00:00.000Z",
            "2026-01-01T00:00:60.000Z",
            "2026-01-01 00:00:00.000Z",
            "2026-01-01T00:00:00.000z",
            "2026-01-01T00:00:00Z",
            "+026-01-01T00:00:00.000Z",
            "0000-01-01T00:00:00.000Z",
            "",
        ] {
            assert_eq!(Timestamp::from_rfc_3339(other), None, "{other}");
        }
        let millis = Timestamp::from_unix_millis(1_795_500_000_007);
        assert_eq!(Timestamp::from_rfc_3339(&millis.to_string()), Some(millis));
    }

    #[test]
    fn x24_the_ends_of_time_saturate() {
        // 10000-02-29 would be a day that 9999 does not have.
        for seconds in [253_402_300_800, 253_407_398_400, 1 << 53, u64::MAX] {
            let written = Timestamp::from_unix_seconds(seconds).to_string();
            assert_eq!(written, "9999-12-31T23:59:59.999Z", "X24 {seconds}");
        }
        assert_eq!(Timestamp::from_unix_seconds(u64::MAX).plus(Duration::MAX), Timestamp(u64::MAX));
        assert_eq!(Timestamp(5).minus(Duration::from_secs(1)), Timestamp(0));
    }
}
