//! What was wrong with octets or text that came from outside: which field, where, and why.
//!
//! A parse error is safe to show to whoever sent the input; it repeats no more of it than a tag or a short name.

use std::borrow::Cow;
use std::fmt;

/// Why an input is not what it claims to be. `Display` gives one sentence that names the field and its octet offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    field: &'static str,
    offset: Option<usize>,
    problem: Problem,
}

/// The kind of flaw that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The input ends in the middle of an element.
    Truncated,
    /// Octets follow where the element must end.
    TrailingData,
    /// Another element was expected here.
    UnexpectedTag {
        /// The identifier octet that the structure asks for.
        expected: u8,
        /// The identifier octet that was found.
        found: u8,
    },
    /// A tag number above 30, which no structure of this crate uses.
    HighTagNumber,
    /// An indefinite length, or a length that is not in its shortest form.
    BadLength,
    /// Elements are nested deeper than [`crate::der::DEPTH_MAX`].
    TooDeep,
    /// Anything else, in words.
    Invalid(Cow<'static, str>),
}

impl ParseError {
    /// An error about a field, without a position.
    pub fn new(field: &'static str, problem: Problem) -> Self {
        Self { field, offset: None, problem }
    }

    /// An error about a field in words: what was found, or what is asked for.
    pub fn invalid(field: &'static str, words: impl Into<Cow<'static, str>>) -> Self {
        Self::new(field, Problem::Invalid(words.into()))
    }

    /// The same error with the offset, in octets from the start of the outermost element, of what is wrong.
    pub fn at(mut self, offset: usize) -> Self {
        self.offset = Some(offset);
        self
    }

    /// The name of the field, as the RFC that defines it spells it.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The kind of flaw.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.field)?;
        if let Some(offset) = self.offset {
            write!(formatter, " (at octet {offset})")?;
        }
        write!(formatter, ": {}", self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => formatter.write_str("the input ends in the middle of an element"),
            Self::TrailingData => formatter.write_str("octets follow the end of the element"),
            Self::UnexpectedTag { expected, found } => {
                write!(formatter, "tag {expected:#04x} is expected, {found:#04x} was found")
            }
            Self::HighTagNumber => formatter.write_str("a tag number above 30 is not expected"),
            Self::BadLength => formatter.write_str("the length is not in the one form that DER allows"),
            Self::TooDeep => formatter.write_str("elements are nested too deeply"),
            Self::Invalid(words) => formatter.write_str(words),
        }
    }
}

impl std::error::Error for ParseError {}

/// Why a text cannot be a name of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    kind: &'static str,
    value: String,
    problem: &'static str,
}

/// How many characters of a refused value an error repeats.
const VALUE_SHOWN_MAX: usize = 80;

impl NameError {
    /// An error about a value: the kind of name (`DNS name`, `organization`, …), the value, and the rule that it breaks.
    pub fn new(kind: &'static str, value: &str, problem: &'static str) -> Self {
        let mut shown: String = value.chars().take(VALUE_SHOWN_MAX).flat_map(char::escape_debug).collect();
        if value.chars().nth(VALUE_SHOWN_MAX).is_some() {
            shown.push('…');
        }
        Self { kind, value: shown, problem }
    }

    /// The kind of name.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The value, with control characters escaped, cut off when it is long.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The rule that the value breaks.
    pub fn problem(&self) -> &'static str {
        self.problem
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "\"{}\" is not accepted as {}: {}", self.value, self.kind, self.problem)
    }
}

impl std::error::Error for NameError {}
