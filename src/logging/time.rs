//! How the time of a line is written: as for `strftime`, in UTC, once a second however many lines
//! there are.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// How a time is written, as for `strftime`; always in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeFormat(String);

impl Default for TimeFormat {
    fn default() -> TimeFormat {
        TimeFormat("%Y-%m-%dT%H:%M:%SZ".to_string())
    }
}

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
const DAYS: &str = "ThuFriSatSunMonTueWed";

impl TimeFormat {
    pub fn parse(text: &str) -> Result<TimeFormat, String> {
        if text.is_empty() {
            return Err(
                "must not be empty (--log-timestamp false leaves the time out)".to_string(),
            );
        }
        let format = TimeFormat(text.to_string());
        format
            .write(0, &mut io::sink())
            .map_err(|error| error.to_string())?;
        Ok(format)
    }

    /// Writes the time that is so many seconds after 1970 began.
    fn write(&self, seconds: u64, out: &mut dyn Write) -> io::Result<()> {
        let date = Date::of(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let Date {
            year, month, day, ..
        } = date;
        let mut rest = self.0.chars();
        while let Some(next) = rest.next() {
            if next != '%' {
                write!(out, "{next}")?;
                continue;
            }
            match rest.next() {
                Some('Y') => write!(out, "{year}")?,
                Some('y') => write!(out, "{:02}", year % 100)?,
                Some('m') => write!(out, "{month:02}")?,
                Some('b') => write!(out, "{}", three(MONTHS, month - 1))?,
                Some('d') => write!(out, "{day:02}")?,
                Some('e') => write!(out, "{day:2}")?,
                Some('j') => write!(out, "{:03}", date.day_of_year)?,
                Some('a') => write!(out, "{}", three(DAYS, seconds / 86_400 % 7))?,
                Some('H') => write!(out, "{hour:02}")?,
                Some('M') => write!(out, "{minute:02}")?,
                Some('S') => write!(out, "{second:02}")?,
                Some('F') => write!(out, "{year}-{month:02}-{day:02}")?,
                Some('T') => write!(out, "{hour:02}:{minute:02}:{second:02}")?,
                Some('s') => write!(out, "{seconds}")?,
                Some('z') => write!(out, "+0000")?,
                Some('Z') => write!(out, "UTC")?,
                Some('%') => write!(out, "%")?,
                other => {
                    let what = other.map_or("a % at the end".into(), |other| format!("%{other}"));
                    return Err(io::Error::other(format!("cannot write {what}")));
                }
            }
        }
        Ok(())
    }
}

/// The date of a day counted from 1970-01-01.
struct Date {
    year: u64,
    month: u64,
    day: u64,
    day_of_year: u64,
}

impl Date {
    fn of(day: u64) -> Date {
        let (mut year, mut rest) = (1970, day);
        // Four hundred years repeat; within them, year by year is quick enough for a log line.
        year += rest / 146_097 * 400;
        rest %= 146_097;
        while rest >= days_of_year(year) {
            rest -= days_of_year(year);
            year += 1;
        }
        let day_of_year = rest + 1;
        let february = days_of_year(year) - 337;
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut month = 1;
        for length in lengths {
            if rest < length {
                break;
            }
            rest -= length;
            month += 1;
        }
        Date {
            year,
            month,
            day: rest + 1,
            day_of_year,
        }
    }
}

fn days_of_year(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    365 + u64::from(leap)
}

fn three(names: &str, index: u64) -> &str {
    let from = index as usize * 3;
    &names[from..from + 3]
}

/// The time that lines carry: written out once a second, however many there are.
#[derive(Debug, Default)]
pub struct Stamp {
    /// `None` while nothing has been written out.
    seconds: Option<u64>,
    text: Vec<u8>,
}

impl Stamp {
    pub fn at(&mut self, time: SystemTime, format: &TimeFormat) -> &[u8] {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        if self.seconds != Some(seconds) {
            self.seconds = Some(seconds);
            self.text.clear();
            let written = format.write(seconds, &mut self.text);
            written.expect("the format was tried when it was set");
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(format: &str, seconds: u64) -> String {
        let mut out = Vec::new();
        let format = TimeFormat::parse(format).unwrap();
        format.write(seconds, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_strftime_does() {
        for (format, seconds, expected) in [
            ("%Y-%m-%dT%H:%M:%SZ", 0, "1970-01-01T00:00:00Z"),
            ("%F %T %s", 951_827_696, "2000-02-29 12:34:56 951827696"),
            (
                "%a %e %b %y, day %j%%",
                4_107_542_400,
                "Mon  1 Mar 00, day 060%",
            ),
            ("%d.%m.%Y %z %Z", 1_709_251_199, "29.02.2024 +0000 UTC"),
            ("%F %T", (1 << 31) - 1, "2038-01-19 03:14:07"),
            ("%F %T", 1 << 31, "2038-01-19 03:14:08"),
            ("%F %T", 1 << 32, "2106-02-07 06:28:16"),
            ("%F", 4_102_444_799, "2099-12-31"),
        ] {
            assert_eq!(written(format, seconds), expected);
        }
    }

    #[test]
    fn every_second_has_its_own_time_and_every_line_of_it_the_same() {
        let (mut stamp, format) = (Stamp::default(), TimeFormat::parse("%S").unwrap());
        for (millis, expected) in [(1_000, "01"), (1_999, "01"), (2_000, "02"), (0, "00")] {
            let time = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(stamp.at(time, &format), expected.as_bytes());
        }
    }

    #[test]
    fn a_format_that_cannot_be_written_is_refused_at_once() {
        assert!(TimeFormat::parse("%Q").is_err());
        assert!(TimeFormat::parse("at %").is_err());
    }
}
