//! Points in time as certificates write them (RFC 5280 §4.1.2.5): UTCTime and GeneralizedTime, in UTC, with seconds,
//! without fractions.
//!
//! A time is whole seconds since 1970-01-01T00:00:00Z, in the proleptic Gregorian calendar, without leap seconds.

use crate::der::tag;

/// 1950-01-01T00:00:00Z, the first second that UTCTime can write.
pub const UTC_TIME_FIRST: i64 = -631_152_000;
/// 2049-12-31T23:59:59Z, the last second that UTCTime can write.
pub const UTC_TIME_LAST: i64 = 2_524_607_999;
/// 0000-01-01T00:00:00Z, the first second of GeneralizedTime.
pub const FIRST: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z: the last second, which also says that there is no end (RFC 5280 §4.1.2.5).
pub const LAST: i64 = 253_402_300_799;

const SECONDS_PER_DAY: i64 = 86_400;

/// A time that was read, and whether it was written in the one form that RFC 5280 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Seconds since the epoch; a fraction is cut off.
    pub seconds: i64,
    /// What is unusual about the form; nothing when it is the one that RFC 5280 asks for.
    pub oddity: Option<&'static str>,
}

/// Reads the contents of a UTCTime or GeneralizedTime in the form that RFC 5280 asks for, or says what is wrong.
pub fn decode(tag: u8, content: &[u8]) -> Result<i64, &'static str> {
    let reading = decode_tolerant(tag, content)?;
    match reading.oddity {
        None => Ok(reading.seconds),
        Some(oddity) => Err(oddity),
    }
}

/// Reads the contents of a UTCTime or GeneralizedTime also where a fraction was written or the other of the two types
/// had to be used, and says so.
pub fn decode_tolerant(tag: u8, content: &[u8]) -> Result<Reading, &'static str> {
    match tag {
        tag::UTC_TIME => {
            let [digits @ .., b'Z'] = content else {
                return Err("a UTCTime ends in Z");
            };
            let [year, rest @ ..] = pairs::<6>(digits).ok_or("a UTCTime is YYMMDDHHMMSSZ")?;
            let century = if year >= 50 { 1900 } else { 2000 };
            Ok(Reading { seconds: from_parts(century + i64::from(year), rest)?, oddity: None })
        }
        tag::GENERALIZED_TIME => decode_generalized(content),
        _ => Err("a UTCTime or a GeneralizedTime is expected"),
    }
}

/// Writes a time: the tag, the text and how many octets of it are used. What lies outside the years 0 to 9999 becomes
/// [`FIRST`] or [`LAST`].
pub fn encode(seconds: i64) -> (u8, [u8; 15], usize) {
    let text = encode_generalized(seconds);
    if !(UTC_TIME_FIRST..=UTC_TIME_LAST).contains(&seconds) {
        return (tag::GENERALIZED_TIME, text, 15);
    }
    let mut short = [0; 15];
    short[..13].copy_from_slice(&text[2..]);
    (tag::UTC_TIME, short, 13)
}

/// Writes a GeneralizedTime, `YYYYMMDDHHMMSSZ`, with the limits of [`encode`].
pub fn encode_generalized(seconds: i64) -> [u8; 15] {
    let seconds = seconds.clamp(FIRST, LAST);
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    let parts = [year / 100, year % 100, month, day, second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60];
    let mut text = [b'Z'; 15];
    for (pair, part) in text.chunks_exact_mut(2).zip(parts) {
        // Each part is below 100.
        pair[0] = b'0' + (part / 10) as u8;
        pair[1] = b'0' + (part % 10) as u8;
    }
    text
}

fn decode_generalized(content: &[u8]) -> Result<Reading, &'static str> {
    let [text @ .., b'Z'] = content else {
        return Err("a GeneralizedTime ends in Z");
    };
    let (digits, fraction) = match text.iter().position(|octet| *octet == b'.') {
        Some(point) => (&text[..point], Some(&text[point + 1..])),
        None => (text, None),
    };
    let [hundreds, units, rest @ ..] = pairs::<7>(digits).ok_or("a GeneralizedTime is YYYYMMDDHHMMSSZ")?;
    let year = i64::from(hundreds) * 100 + i64::from(units);
    let seconds = from_parts(year, rest)?;
    let oddity = match fraction {
        Some(fraction) if fraction.is_empty() || !fraction.iter().all(u8::is_ascii_digit) => {
            return Err("a GeneralizedTime is YYYYMMDDHHMMSSZ");
        }
        Some(_) => Some("a time must not have a fraction of a second"),
        None if (1950..2050).contains(&year) => Some("a time of the years 1950 to 2049 must be a UTCTime"),
        None => None,
    };
    Ok(Reading { seconds, oddity })
}

/// Exactly `N` numbers of two decimal digits.
fn pairs<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    if digits.len() != 2 * N || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut numbers = [0; N];
    for (number, pair) in numbers.iter_mut().zip(digits.chunks_exact(2)) {
        *number = (pair[0] - b'0') * 10 + (pair[1] - b'0');
    }
    Some(numbers)
}

fn from_parts(year: i64, [month, day, hour, minute, second]: [u8; 5]) -> Result<i64, &'static str> {
    if hour > 23 || minute > 59 || second > 59 {
        return Err("there is no such time of day");
    }
    if month == 0 || month > 12 || day == 0 || day > days_in_month(year, month) {
        return Err("there is no such day");
    }
    let days = days_from_civil(year, i64::from(month), i64::from(day));
    let second_of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    Ok(days * SECONDS_PER_DAY + second_of_day)
}

fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day is the last day of a year, in cycles of 400
/// years, which have 146 097 days each.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year_from_march = if month <= 2 { year - 1 } else { year };
    let cycle = year_from_march.div_euclid(400);
    let year_of_cycle = year_from_march.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    cycle * 146_097 + day_of_cycle - 719_468
}

/// Year, month and day of a day number; the inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(seconds: i64) -> (u8, String) {
        let (tag, text, length) = encode(seconds);
        (tag, String::from_utf8(text[..length].to_vec()).unwrap())
    }

    #[test]
    fn times_are_written_in_the_form_of_their_year_and_read_back() {
        let cases = [
            (0, tag::UTC_TIME, "700101000000Z"),
            (951_782_400, tag::UTC_TIME, "000229000000Z"),
            (1_709_164_799, tag::UTC_TIME, "240228235959Z"),
            (1_709_164_800, tag::UTC_TIME, "240229000000Z"),
            (UTC_TIME_FIRST, tag::UTC_TIME, "500101000000Z"),
            (UTC_TIME_FIRST - 1, tag::GENERALIZED_TIME, "19491231235959Z"),
            (UTC_TIME_LAST, tag::UTC_TIME, "491231235959Z"),
            (UTC_TIME_LAST + 1, tag::GENERALIZED_TIME, "20500101000000Z"),
            (4_107_542_400, tag::GENERALIZED_TIME, "21000301000000Z"),
            (FIRST, tag::GENERALIZED_TIME, "00000101000000Z"),
            (LAST, tag::GENERALIZED_TIME, "99991231235959Z"),
        ];
        for (seconds, tag, text) in cases {
            assert_eq!(text_of(seconds), (tag, text.to_owned()));
            assert_eq!(decode(tag, text.as_bytes()), Ok(seconds), "{text}");
        }
        assert_eq!(text_of(i64::MAX).1, "99991231235959Z");
        assert_eq!(text_of(i64::MIN).1, "00000101000000Z");
    }

    #[test]
    fn every_day_of_eight_centuries_is_read_back() {
        for day in -146_097..146_097 {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let utc =
            ["2401010000Z", "240101000000", "240101000000+0000", "24010100000aZ", "240101000060Z", "241301000000Z"];
        for text in utc.into_iter().chain(["230229000000Z", "240100000000Z", "240101240000Z", "240101006000Z", "", "Z"])
        {
            assert!(decode(tag::UTC_TIME, text.as_bytes()).is_err(), "{text}");
        }
        for text in ["20240101000000Z", "20500101000000.0Z", "20500101000000.Z", "205001010000Z", "20500101000000", "Z"]
        {
            assert!(decode(tag::GENERALIZED_TIME, text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode(tag::IA5_STRING, b"240101000000Z").is_err());
    }

    #[test]
    fn an_odd_form_is_named_when_it_is_tolerated() {
        let fraction = decode_tolerant(tag::GENERALIZED_TIME, b"20500101000000.75Z").unwrap();
        assert_eq!(fraction.seconds, UTC_TIME_LAST + 1);
        assert!(fraction.oddity.is_some());
        let early = decode_tolerant(tag::GENERALIZED_TIME, b"19700101000000Z").unwrap();
        assert_eq!(early.seconds, 0);
        assert!(early.oddity.is_some());
    }
}
