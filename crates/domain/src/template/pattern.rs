//! The patterns of templates: regular expressions of the characters that contract §5.1 leaves: letters, digits, blank, `@`
//! and `-` stand for themselves, `.` for any character, `\` takes the meaning from what follows or gives a class its own
//! (`\d`, `\w`, `\s` and their opposites), `*` repeats what stands before it. There are no groups, no choices and no anchors:
//! a pattern is a row of pieces, so a matcher of thirty lines does what an engine for all of regular expressions would.
//!
//! A name is read once, whatever the pattern: the time is its length times the number of pieces, and nothing backtracks.

use crate::slug::{NameProblem, check_pattern_field};
use std::fmt;

/// A pattern that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern(Vec<Piece>);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternProblem {
    /// It has characters or a length that it may not have.
    Text(NameProblem),
    /// A star at the beginning, where there is nothing to repeat.
    NothingToRepeat,
    /// `\` before a letter or digit that means nothing here.
    Escape(char),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    takes: Class,
    repeats: Repeats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeats {
    Once,
    AnyNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    One(char),
    Any,
    Digit,
    NoDigit,
    Word,
    NoWord,
    Blank,
    NoBlank,
}

impl NamePattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternProblem> {
        check_pattern_field(text).map_err(PatternProblem::Text)?;
        let mut pieces: Vec<Piece> = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let takes = match character {
                '*' => {
                    pieces.last_mut().ok_or(PatternProblem::NothingToRepeat)?.repeats = Repeats::AnyNumber;
                    continue;
                }
                '.' => Class::Any,
                '\\' => match characters.next() {
                    Some('d') => Class::Digit,
                    Some('D') => Class::NoDigit,
                    Some('w') => Class::Word,
                    Some('W') => Class::NoWord,
                    Some('s') => Class::Blank,
                    Some('S') => Class::NoBlank,
                    Some(other) if other.is_ascii_alphanumeric() => return Err(PatternProblem::Escape(other)),
                    Some(other) => Class::One(other),
                    None => return Err(PatternProblem::Text(NameProblem::UnsafePattern)),
                },
                other => Class::One(other),
            };
            pieces.push(Piece { takes, repeats: Repeats::Once });
        }
        Ok(Self(pieces))
    }

    /// Whether some part of a name is as the pattern says; nothing binds it to the ends.
    pub fn is_in(&self, name: &str) -> bool {
        let mut reached = vec![false; self.0.len() + 1];
        self.reach(&mut reached, 0);
        for character in name.chars() {
            if reached[self.0.len()] {
                return true;
            }
            let mut next = vec![false; reached.len()];
            for (at, piece) in self.0.iter().enumerate() {
                if reached[at] && piece.takes.takes(character) {
                    match piece.repeats {
                        Repeats::Once => self.reach(&mut next, at + 1),
                        Repeats::AnyNumber => self.reach(&mut next, at),
                    }
                }
            }
            self.reach(&mut next, 0);
            reached = next;
        }
        reached[self.0.len()]
    }

    /// Marks a place, and those behind it that can be left out.
    fn reach(&self, reached: &mut [bool], from: usize) {
        for (at, place) in reached.iter_mut().enumerate().skip(from) {
            *place = true;
            match self.0.get(at).map(|piece| piece.repeats) {
                Some(Repeats::AnyNumber) => {}
                Some(Repeats::Once) | None => return,
            }
        }
    }
}

impl Class {
    fn takes(self, character: char) -> bool {
        let is_word = || character.is_ascii_alphanumeric() || character == '_';
        match self {
            Self::One(one) => one == character,
            Self::Any => !matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}'),
            Self::Digit => character.is_ascii_digit(),
            Self::NoDigit => !character.is_ascii_digit(),
            Self::Word => is_word(),
            Self::NoWord => !is_word(),
            Self::Blank => character.is_whitespace(),
            Self::NoBlank => !character.is_whitespace(),
        }
    }
}

impl fmt::Display for PatternProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(problem) => problem.fmt(formatter),
            Self::NothingToRepeat => formatter
                .write_str("is a regular expression, and nothing stands before its first *: write .* for anything"),
            Self::Escape(character) => write!(
                formatter,
                "holds \\{character}, which means nothing here: of letters, d D w W s and S can follow a \\"
            ),
        }
    }
}

impl std::error::Error for PatternProblem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_looked_for_anywhere_in_a_name() {
        for (pattern, name, expected) in [
            (".*", "", true),
            (".*", "anything at all", true),
            ("a", "", false),
            ("a", "bab", true),
            ("abc", "ababc", true),
            ("abc", "abab", false),
            (".*\\.example\\.com", "www.example.com", true),
            (".*\\.example\\.com", "www.example.com.evil.org", true),
            (".*\\.example\\.com", "wwwXexampleXcom", false),
            (".*.example.com", "wwwXexampleXcom", true),
            ("www.example.com", "WWW.example.com", false),
            ("host-\\d\\d*", "host-7", true),
            ("host-\\d\\d*", "host-x", false),
            ("host\\D", "host7", false),
            ("\\w\\W\\w", "a.b", true),
            ("\\w\\W\\w", "a_b", false),
            ("a\\sb", "a b", true),
            ("a\\Sb", "a b", false),
            ("a*b", "b", true),
            ("a*b", "aaab", true),
            ("a*b", "aaa", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "aab", false),
            ("a\\\\b", "a\\b", true),
            ("ops\\@example", "ops@example", true),
            ("a.b", "a\nb", false),
            ("a.b", "aöb", true),
        ] {
            assert_eq!(NamePattern::parse(pattern).unwrap().is_in(name), expected, "{pattern} in {name:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for (text, problem) in [
            ("", PatternProblem::Text(NameProblem::TooShort(1))),
            ("a**", PatternProblem::Text(NameProblem::UnsafePattern)),
            ("a\\", PatternProblem::Text(NameProblem::UnsafePattern)),
            ("*.example.com", PatternProblem::NothingToRepeat),
            ("*", PatternProblem::NothingToRepeat),
            ("a\\b", PatternProblem::Escape('b')),
            ("\\1", PatternProblem::Escape('1')),
        ] {
            assert_eq!(NamePattern::parse(text), Err(problem), "{text}");
        }
        assert!(matches!(NamePattern::parse("(a*)*"), Err(PatternProblem::Text(NameProblem::Characters(_)))));
    }

    #[test]
    fn a_pattern_that_defeats_backtracking_takes_no_longer_than_others() {
        let pattern = NamePattern::parse(&format!("{}b", "a*".repeat(49))).unwrap();
        assert!(!pattern.is_in(&"a".repeat(100_000)));
    }
}
