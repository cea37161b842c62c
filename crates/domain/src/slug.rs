//! The shapes of short names in requests: slugs, the slugs of profiles, and the characters of a v1 template's pattern.
//!
//! These are rules about text only (contract §1.7, §5.1, §5.3); whether a name is free is the store's answer. All of
//! them take text from which blanks at both ends are already gone.

use std::fmt;
use std::ops::RangeInclusive;

/// The length of a slug where nothing else is said. The contract's default is 1 to 32; up to 64 is safe (§1.7).
pub const SLUG_CHARACTERS: RangeInclusive<usize> = 1..=64;

/// The length of a project's slug.
pub const PROJECT_SLUG_CHARACTERS: RangeInclusive<usize> = 5..=64;

/// The length of a profile's slug.
pub const PROFILE_SLUG_CHARACTERS: RangeInclusive<usize> = 1..=255;

/// The length of a v1 template's pattern, and of a common name in the v3 requests.
pub const PATTERN_FIELD_CHARACTERS: RangeInclusive<usize> = 1..=100;

/// What is wrong with a short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// Fewer characters than the least number, given here.
    TooShort(usize),
    /// More characters than the greatest number, given here.
    TooLong(usize),
    /// A character that has no place here; what is taken is said in words.
    Characters(&'static str),
    /// A pattern that repeats a repetition or ends in half an escape.
    UnsafePattern,
}

/// The slug that this text is, in lower case: `a-z`, `0-9` and single hyphens between them.
pub fn parse_slug(text: &str, characters: RangeInclusive<usize>) -> Result<String, NameProblem> {
    let slug = text.trim().to_ascii_lowercase();
    check_length(&slug, characters)?;
    if slugify(&slug) == slug {
        Ok(slug)
    } else {
        Err(NameProblem::Characters("lower-case letters a-z, digits, and single hyphens between them"))
    }
}

/// A slug made of any text: what is neither an ASCII letter nor a digit becomes a hyphen, several become one, none
/// stand at the ends. Empty when the text holds no ASCII letter or digit at all.
pub fn slugify(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// Whether this is the slug of a profile: lower-case letters, digits and hyphens in any order, 1 to 255.
pub fn check_profile_slug(text: &str) -> Result<(), NameProblem> {
    check_length(text, PROFILE_SLUG_CHARACTERS)?;
    if text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Ok(())
    } else {
        Err(NameProblem::Characters("lower-case letters a-z, digits and hyphens"))
    }
}

/// Whether this can be a v1 template's pattern, or a common name in a v3 request, which follows the same rule: 1 to 100
/// of `A-Z a-z 0-9`, blank, `*`, `.`, `@`, `-` and `\`, and as a regular expression of star height one at most.
///
/// There are no groups in these characters, so the only way to a greater star height is a star behind a star. A star at
/// the beginning repeats nothing; it is taken, because `*.example.com` is a common name.
pub fn check_pattern_field(text: &str) -> Result<(), NameProblem> {
    check_length(text, PATTERN_FIELD_CHARACTERS)?;
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" *.@-\\".contains(&byte)) {
        return Err(NameProblem::Characters("letters A-Z and a-z, digits, blank, and the characters * . @ - \\"));
    }
    let mut bytes = text.bytes();
    let mut after_star = false;
    while let Some(byte) = bytes.next() {
        let half_an_escape = byte == b'\\' && bytes.next().is_none();
        if half_an_escape || (byte == b'*' && after_star) {
            return Err(NameProblem::UnsafePattern);
        }
        after_star = byte == b'*';
    }
    Ok(())
}

impl fmt::Display for NameProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(least) => {
                write!(formatter, "must have at least {least} character{}", if *least == 1 { "" } else { "s" })
            }
            Self::TooLong(most) => write!(formatter, "must have at most {most} characters"),
            Self::Characters(taken) => write!(formatter, "may only hold {taken}"),
            Self::UnsafePattern => formatter.write_str("must not hold ** and must not end with a single \\"),
        }
    }
}

impl std::error::Error for NameProblem {}

fn check_length(text: &str, characters: RangeInclusive<usize>) -> Result<(), NameProblem> {
    let length = text.chars().count();
    if length < *characters.start() {
        Err(NameProblem::TooShort(*characters.start()))
    } else if length > *characters.end() {
        Err(NameProblem::TooLong(*characters.end()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_equals_its_own_slug() {
        for (text, slug) in [("web", "web"), (" Web-Server ", "web-server"), ("a", "a"), ("1-2-3", "1-2-3")] {
            assert_eq!(parse_slug(text, SLUG_CHARACTERS).as_deref(), Ok(slug));
        }
        for text in ["a--b", "-a", "a-", "a b", "a_b", "ä", "a.b", "a/b", "K\u{212a}", "a\0b"] {
            assert!(matches!(parse_slug(text, SLUG_CHARACTERS), Err(NameProblem::Characters(_))), "{text}");
        }
        assert_eq!(parse_slug("", SLUG_CHARACTERS), Err(NameProblem::TooShort(1)));
        assert_eq!(parse_slug("abcd", PROJECT_SLUG_CHARACTERS), Err(NameProblem::TooShort(5)));
        assert_eq!(parse_slug(&"a".repeat(64), SLUG_CHARACTERS).map(|slug| slug.len()), Ok(64));
        assert_eq!(parse_slug(&"a".repeat(65), SLUG_CHARACTERS), Err(NameProblem::TooLong(64)));
    }

    #[test]
    fn any_text_becomes_a_slug() {
        for (text, slug) in [
            ("Web Server", "web-server"),
            ("  --Web__Server!! ", "web-server"),
            ("web-server", "web-server"),
            ("Büro", "b-ro"),
            ("日本", ""),
            ("", ""),
            ("***", ""),
        ] {
            assert_eq!(slugify(text), slug);
            assert_eq!(slugify(slug), slug);
        }
    }

    #[test]
    fn the_slug_of_a_profile_has_its_own_rule() {
        for text in ["web", "-", "a--b", "-a-", "0"] {
            assert_eq!(check_profile_slug(text), Ok(()), "{text}");
        }
        for text in ["Web", "a b", "a_b", "ä", " a", "a\n"] {
            assert!(matches!(check_profile_slug(text), Err(NameProblem::Characters(_))), "{text}");
        }
        assert_eq!(check_profile_slug(""), Err(NameProblem::TooShort(1)));
        assert_eq!(check_profile_slug(&"a".repeat(255)), Ok(()));
        assert_eq!(check_profile_slug(&"a".repeat(256)), Err(NameProblem::TooLong(255)));
    }

    #[test]
    fn a_pattern_field_takes_its_characters_and_no_star_behind_a_star() {
        for text in ["web.example.com", "*.example.com", ".*\\.example\\.com", "a b@c-d", "a*b*c*", "\\*\\*", "\\\\"] {
            assert_eq!(check_pattern_field(text), Ok(()), "{text}");
        }
        for text in ["a_b", "a,b", "a'b", "ä", "(a*)*", "a+", "[a]", "a\n", "a\0"] {
            assert!(matches!(check_pattern_field(text), Err(NameProblem::Characters(_))), "{text}");
        }
        for text in ["a**", "**", "a\\", "\\", "a\\\\\\", "\\***"] {
            assert_eq!(check_pattern_field(text), Err(NameProblem::UnsafePattern), "{text}");
        }
        assert_eq!(check_pattern_field(""), Err(NameProblem::TooShort(1)));
        assert_eq!(check_pattern_field(&"a".repeat(100)), Ok(()));
        assert_eq!(check_pattern_field(&"a".repeat(101)), Err(NameProblem::TooLong(100)));
    }
}
