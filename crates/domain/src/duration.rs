//! Durations as text: what a requester writes as a `ttl`, what a policy writes as its limit, and both in words.
//!
//! The two grammars differ on purpose (contract §1.5): in a `ttl` the letter `m` is a minute, in a policy's limit it is
//! a month of 30 days. Each text is read once, into milliseconds, and only milliseconds are compared. Calculated in
//! whole numbers throughout, so that `1.1d` is exactly 95 040 000 milliseconds.

use std::fmt;

/// The longest duration that is taken: 10,000 years. X.509 times end with the year 9999 (RFC 5280 §4.1.2.5).
pub const DURATION_MILLIS_MAX: i64 = 10_000 * YEAR;

/// The longest text of a duration, in characters.
pub const DURATION_CHARACTERS_MAX: usize = 100;

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationProblem {
    /// More characters than any duration needs.
    TooLong,
    /// Neither a number nor a number and a unit.
    NotADuration,
    /// Zero, less than a millisecond, or negative.
    NotPositive,
    /// More than [`DURATION_MILLIS_MAX`].
    TooLarge,
    /// Not the grammar of a policy's limit: digits and one of `h`, `d`, `m`, `y`.
    NotALimit,
}

/// Milliseconds of a `ttl`: a decimal number and perhaps a unit (`90d`, `1.5h`, `36 hours`, `.5d`); without a unit it
/// counts milliseconds. `m` is a minute, `y` is 365.25 days. Always positive and at most [`DURATION_MILLIS_MAX`];
/// fractions of a millisecond are cut off. Blanks around the text are ignored, as are upper and lower case.
pub fn parse_ttl(text: &str) -> Result<i64, DurationProblem> {
    let text = text.trim();
    if text.chars().count() > DURATION_CHARACTERS_MAX {
        return Err(DurationProblem::TooLong);
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(number_end);
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let last_digits = fraction.unwrap_or(whole);
    if last_digits.is_empty() || last_digits.contains('.') {
        return Err(DurationProblem::NotADuration);
    }
    let unit_millis = ttl_unit(unit.trim_start_matches(' ')).ok_or(DurationProblem::NotADuration)?;
    if negative {
        return Err(DurationProblem::NotPositive);
    }
    let whole_millis =
        digits(whole).and_then(|count| count.checked_mul(unit_millis)).ok_or(DurationProblem::TooLarge)?;
    match whole_millis.checked_add(fraction_of(fraction.unwrap_or(""), unit_millis)) {
        Some(0) => Err(DurationProblem::NotPositive),
        Some(millis) if millis <= DURATION_MILLIS_MAX => Ok(millis),
        Some(_) | None => Err(DurationProblem::TooLarge),
    }
}

/// Milliseconds of a policy's `validity.max`: digits and a unit (`90d`, `12m`, `1y`, `24h`). `m` is 30 days, `y` is
/// 365.25 days as in a `ttl`, so that one of `1y` is within a limit of `1y`. A limit beyond [`DURATION_MILLIS_MAX`] is that maximum, since nothing longer can be asked for.
pub fn parse_limit(text: &str) -> Result<i64, DurationProblem> {
    if text.chars().count() > DURATION_CHARACTERS_MAX {
        return Err(DurationProblem::TooLong);
    }
    let unit_millis = match text.chars().next_back() {
        Some('h') => HOUR,
        Some('d') => DAY,
        Some('m') => 30 * DAY,
        Some('y') => YEAR,
        Some(_) | None => return Err(DurationProblem::NotALimit),
    };
    let count = &text[..text.len() - 1];
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(DurationProblem::NotALimit);
    }
    let millis = digits(count).and_then(|count| count.checked_mul(unit_millis)).unwrap_or(DURATION_MILLIS_MAX);
    Ok(millis.min(DURATION_MILLIS_MAX))
}

/// A duration in milliseconds in words, exactly: `365 days`, `1 day 12 hours`, `0 seconds`.
pub fn in_words(millis: i64) -> String {
    let mut left = millis.unsigned_abs();
    if left == 0 {
        return "0 seconds".to_owned();
    }
    let mut words = if millis < 0 { vec!["minus".to_owned()] } else { Vec::new() };
    for (unit, name) in [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute"), (SECOND, "second"), (1, "millisecond")] {
        let count = left / unit.unsigned_abs();
        left %= unit.unsigned_abs();
        if count > 0 {
            words.push(format!("{count} {name}{}", if count == 1 { "" } else { "s" }));
        }
    }
    words.join(" ")
}

/// A duration in milliseconds as whole days, rounded up: what automatic renewal counts in (contract §1.5, G3).
pub const fn whole_days_rounded_up(millis: i64) -> i64 {
    millis.div_euclid(DAY) + if millis.rem_euclid(DAY) == 0 { 0 } else { 1 }
}

impl fmt::Display for DurationProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TooLong => "a duration has at most 100 characters",
            Self::NotADuration => {
                "not a duration: write a number and a unit (ms, s, m for minutes, h, d, w, y), such as 90d or 36h"
            }
            Self::NotPositive => "a duration must be more than zero",
            Self::TooLarge => "a duration is at most 10000 years",
            Self::NotALimit => {
                "not a limit: write digits and one of h, d, m (30 days) or y (365.25 days), such as 90d or 1y"
            }
        })
    }
}

impl std::error::Error for DurationProblem {}

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 365.25 days.
const YEAR: i64 = 8_766 * HOUR;

/// Milliseconds of one unit of a `ttl`.
fn ttl_unit(name: &str) -> Option<i64> {
    Some(match name.to_ascii_lowercase().as_str() {
        "" | "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => WEEK,
        "y" | "yr" | "yrs" | "year" | "years" => YEAR,
        _ => return None,
    })
}

/// The number that these ASCII digits spell (none spell zero), unless it does not fit.
fn digits(text: &str) -> Option<i64> {
    text.bytes().try_fold(0_i64, |number, byte| number.checked_mul(10)?.checked_add(i64::from(byte - b'0')))
}

/// The part of a unit that these digits behind a decimal point stand for, rounded down. Digits behind the 18th are less
/// than a millionth of a millisecond of the longest unit, so they are not read.
fn fraction_of(digits: &str, unit_millis: i64) -> i64 {
    let (numerator, denominator) = digits.bytes().take(18).fold((0_i128, 1_i128), |(numerator, denominator), byte| {
        (numerator * 10 + i128::from(byte - b'0'), denominator * 10)
    });
    i64::try_from(numerator * i128::from(unit_millis) / denominator)
        .expect("a fraction of a unit is less than the unit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_read_in_the_grammar_of_the_clients() {
        for (text, millis) in [
            ("90d", 90 * DAY),
            ("1y", 31_557_600_000),
            ("1.5h", 5_400_000),
            ("36 hours", 36 * HOUR),
            ("36   hours", 36 * HOUR),
            (".5d", 12 * HOUR),
            ("1.1d", 95_040_000),
            ("0.1s", 100),
            ("0.3333333333333333333333 minutes", 19_999),
            ("1m", MINUTE),
            ("1w", WEEK),
            ("90s", 90 * SECOND),
            ("100", 100),
            ("1500ms", 1500),
            ("1 MS", 1),
            ("2 Days", 2 * DAY),
            ("3 mins", 3 * MINUTE),
            ("4 hrs", 4 * HOUR),
            ("5 secs", 5 * SECOND),
            ("6 weeks", 6 * WEEK),
            ("2 yrs", 2 * YEAR),
            ("7 msecs", 7),
            (" 90d ", 90 * DAY),
            ("007d", 7 * DAY),
            ("10000y", DURATION_MILLIS_MAX),
            ("1.9", 1),
        ] {
            assert_eq!(parse_ttl(text), Ok(millis), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_ttl_is_refused_with_its_reason() {
        let too_long = "9".repeat(101);
        let many_digits = "9".repeat(100);
        for (text, problem) in [
            ("", DurationProblem::NotADuration),
            ("   ", DurationProblem::NotADuration),
            ("d", DurationProblem::NotADuration),
            (".", DurationProblem::NotADuration),
            ("5.", DurationProblem::NotADuration),
            ("5.d", DurationProblem::NotADuration),
            ("1.2.3d", DurationProblem::NotADuration),
            ("1..2d", DurationProblem::NotADuration),
            ("1d2h", DurationProblem::NotADuration),
            ("1 d d", DurationProblem::NotADuration),
            ("1\td", DurationProblem::NotADuration),
            ("+1d", DurationProblem::NotADuration),
            ("--1d", DurationProblem::NotADuration),
            ("1e3", DurationProblem::NotADuration),
            ("0x10", DurationProblem::NotADuration),
            ("1mo", DurationProblem::NotADuration),
            ("NaN", DurationProblem::NotADuration),
            ("Infinity", DurationProblem::NotADuration),
            ("١d", DurationProblem::NotADuration),
            ("1é", DurationProblem::NotADuration),
            ("-", DurationProblem::NotADuration),
            ("-1d", DurationProblem::NotPositive),
            ("-0", DurationProblem::NotPositive),
            ("0", DurationProblem::NotPositive),
            ("0d", DurationProblem::NotPositive),
            (".5", DurationProblem::NotPositive),
            ("0.00000000001y", DurationProblem::NotPositive),
            ("10000.1y", DurationProblem::TooLarge),
            ("99999999999999999999d", DurationProblem::TooLarge),
            ("9223372036854775807", DurationProblem::TooLarge),
            (&many_digits, DurationProblem::TooLarge),
            (&too_long, DurationProblem::TooLong),
        ] {
            assert_eq!(parse_ttl(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn a_limit_is_read_in_the_grammar_of_policies() {
        let many_digits = format!("{}y", "9".repeat(99));
        for (text, expected) in [
            ("365d", Ok(365 * DAY)),
            ("12m", Ok(360 * DAY)),
            ("1y", Ok(YEAR)),
            ("24h", Ok(DAY)),
            ("0d", Ok(0)),
            ("99999999y", Ok(DURATION_MILLIS_MAX)),
            (many_digits.as_str(), Ok(DURATION_MILLIS_MAX)),
            ("", Err(DurationProblem::NotALimit)),
            ("d", Err(DurationProblem::NotALimit)),
            ("1w", Err(DurationProblem::NotALimit)),
            ("1.5h", Err(DurationProblem::NotALimit)),
            ("36 h", Err(DurationProblem::NotALimit)),
            ("-1d", Err(DurationProblem::NotALimit)),
            ("1D", Err(DurationProblem::NotALimit)),
            (" 1d", Err(DurationProblem::NotALimit)),
            ("1d\n", Err(DurationProblem::NotALimit)),
            ("90", Err(DurationProblem::NotALimit)),
            ("1é", Err(DurationProblem::NotALimit)),
            (&"9".repeat(101), Err(DurationProblem::TooLong)),
        ] {
            assert_eq!(parse_limit(text), expected, "{text}");
        }
    }

    #[test]
    fn a_duration_in_words_is_exact() {
        for (millis, words) in [
            (365 * DAY, "365 days"),
            (DAY, "1 day"),
            (36 * HOUR, "1 day 12 hours"),
            (90 * SECOND, "1 minute 30 seconds"),
            (1, "1 millisecond"),
            (90 * DAY + 1, "90 days 1 millisecond"),
            (0, "0 seconds"),
            (-HOUR, "minus 1 hour"),
        ] {
            assert_eq!(in_words(millis), words);
        }
        assert!(in_words(i64::MIN).starts_with("minus "));
    }

    #[test]
    fn days_for_renewal_round_up() {
        for (millis, days) in [(0, 0), (1, 1), (DAY - 1, 1), (DAY, 1), (DAY + 1, 2), (365 * DAY, 365), (-1, 0)] {
            assert_eq!(whole_days_rounded_up(millis), days, "{millis}");
        }
    }
}
