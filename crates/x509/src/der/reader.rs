//! A cursor over DER octets that accepts nothing but DER.
//!
//! Lengths are compared with what is there before anything is done with them; each nested reader knows its depth.

use super::tag;
use crate::error::{ParseError, Problem};
use crate::time;

/// How deep elements may be nested below the outermost one.
pub const DEPTH_MAX: u8 = 32;

/// A position in DER octets. Each read names the field that it reads, for the error.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
    depth: u8,
}

/// One element: tag, length and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The identifier octet.
    pub tag: u8,
    /// The contents octets.
    pub content: &'a [u8],
    /// Identifier, length and contents octets.
    pub whole: &'a [u8],
    /// Where `whole` begins, counted from the start of the outermost input.
    pub offset: usize,
    depth: u8,
}

/// A part of the outermost input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// The last so many octets of this part, which has at least as many.
    pub(crate) fn last(self, octets: usize) -> Self {
        Self { start: self.end - octets, end: self.end }
    }

    /// The part of this input, which must be the one that the span was taken from.
    pub(crate) fn of(self, input: &[u8]) -> &[u8] {
        &input[self.start..self.end]
    }
}

impl<'a> Element<'a> {
    /// Where `content` begins, counted from the start of the outermost input.
    pub fn content_offset(&self) -> usize {
        self.offset + (self.whole.len() - self.content.len())
    }

    /// Where the element begins and ends, counted from the start of the outermost input.
    pub(crate) fn span(&self) -> Span {
        Span { start: self.offset, end: self.offset + self.whole.len() }
    }

    /// Where the contents begin and end, counted from the start of the outermost input.
    pub(crate) fn content_span(&self) -> Span {
        Span { start: self.content_offset(), end: self.offset + self.whole.len() }
    }

    /// The contents as a BIT STRING of at most 16 named bits: bit 15 of the number is the named bit 0. DER cuts off
    /// trailing zeros (X.690 §11.2.2).
    pub fn named_bits(&self, field: &'static str) -> Result<u16, ParseError> {
        let (unused, bits, last) = match *self.content {
            [0] => return Ok(0),
            [unused, high] => (unused, u16::from(high) << 8, high),
            [unused, high, low] => (unused, u16::from_be_bytes([high, low]), low),
            _ => return Err(ParseError::invalid(field, "a bit string of at most 16 bits is expected").at(self.offset)),
        };
        if last == 0 || last.trailing_zeros() != u32::from(unused) {
            return Err(ParseError::invalid(field, "named bits end with the last one that is set").at(self.offset));
        }
        Ok(bits)
    }

    /// A reader over the contents.
    pub fn open(&self, field: &'static str) -> Result<Reader<'a>, ParseError> {
        if self.depth >= DEPTH_MAX {
            return Err(ParseError::new(field, Problem::TooDeep).at(self.offset));
        }
        Ok(Reader { rest: self.content, offset: self.content_offset(), depth: self.depth + 1 })
    }
}

impl<'a> Reader<'a> {
    /// A reader at the start of the outermost input.
    pub fn new(input: &'a [u8]) -> Self {
        Self { rest: input, offset: 0, depth: 0 }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The octets that are left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The offset of the next octet from the start of the outermost input.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Ends the reading: refuses whatever is left.
    pub fn finish(self, field: &'static str) -> Result<(), ParseError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(field, Problem::TrailingData)) }
    }

    /// The identifier octet of the next element, if there is one.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, whatever its tag.
    pub fn any(&mut self, field: &'static str) -> Result<Element<'a>, ParseError> {
        let (header, length) = self.header(field)?;
        let end = header + length;
        let element = Element {
            tag: self.rest[0],
            content: &self.rest[header..end],
            whole: &self.rest[..end],
            offset: self.offset,
            depth: self.depth,
        };
        self.rest = &self.rest[end..];
        self.offset += end;
        Ok(element)
    }

    /// The next element, which must have this tag.
    pub fn tagged(&mut self, tag: u8, field: &'static str) -> Result<Element<'a>, ParseError> {
        match self.peek() {
            Some(found) if found == tag => self.any(field),
            Some(found) => Err(self.error(field, Problem::UnexpectedTag { expected: tag, found })),
            None => Err(self.error(field, Problem::Truncated)),
        }
    }

    /// The next element if it has this tag; otherwise nothing is read.
    pub fn optional(&mut self, tag: u8, field: &'static str) -> Result<Option<Element<'a>>, ParseError> {
        if self.peek() == Some(tag) { self.any(field).map(Some) } else { Ok(None) }
    }

    /// A reader over the contents of the next element, which must have this tag.
    pub fn nested(&mut self, tag: u8, field: &'static str) -> Result<Reader<'a>, ParseError> {
        self.tagged(tag, field)?.open(field)
    }

    /// A reader over the contents of a SEQUENCE.
    pub fn sequence(&mut self, field: &'static str) -> Result<Reader<'a>, ParseError> {
        self.nested(tag::SEQUENCE, field)
    }

    /// A reader over the contents of a SET.
    pub fn set(&mut self, field: &'static str) -> Result<Reader<'a>, ParseError> {
        self.nested(tag::SET, field)
    }

    /// The contents octets of an INTEGER in its shortest form, two's complement, big-endian, at least one octet.
    pub fn integer(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let element = self.tagged(tag::INTEGER, field)?;
        check_integer(&element, field)
    }

    /// The magnitude of an INTEGER that is not negative: big-endian, without leading zeros, empty for zero.
    pub fn unsigned(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let offset = self.offset;
        let content = self.integer(field)?;
        match content {
            [0, magnitude @ ..] => Ok(magnitude),
            [first, ..] if first & 0x80 != 0 => {
                Err(ParseError::invalid(field, "the number must not be negative").at(offset))
            }
            magnitude => Ok(magnitude),
        }
    }

    /// An INTEGER from 0 to `u32::MAX`.
    pub fn unsigned_u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        let offset = self.offset;
        let magnitude = self.unsigned(field)?;
        number_u32(magnitude).ok_or_else(|| ParseError::invalid(field, "the number is too large").at(offset))
    }

    /// The contents octets of an OBJECT IDENTIFIER.
    pub fn oid(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let element = self.tagged(tag::OID, field)?;
        check_oid(&element, field)
    }

    /// A BIT STRING of whole octets.
    pub fn bit_string(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        let element = self.tagged(tag::BIT_STRING, field)?;
        match element.content {
            [0, octets @ ..] => Ok(octets),
            _ => Err(ParseError::invalid(field, "a bit string of whole octets is expected").at(element.offset)),
        }
    }

    /// A BIT STRING of at most 16 named bits, as [`Element::named_bits`] reads it.
    pub fn named_bits(&mut self, field: &'static str) -> Result<u16, ParseError> {
        self.tagged(tag::BIT_STRING, field)?.named_bits(field)
    }

    /// The contents of an OCTET STRING.
    pub fn octet_string(&mut self, field: &'static str) -> Result<&'a [u8], ParseError> {
        Ok(self.tagged(tag::OCTET_STRING, field)?.content)
    }

    /// A BOOLEAN.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, ParseError> {
        let element = self.tagged(tag::BOOLEAN, field)?;
        match element.content {
            [0x00] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(ParseError::invalid(field, "a boolean is the octet 00 or FF").at(element.offset)),
        }
    }

    /// A BOOLEAN DEFAULT FALSE: absent is false, and the default must not be written out (X.690 §11.5).
    pub fn boolean_default_false(&mut self, field: &'static str) -> Result<bool, ParseError> {
        let offset = self.offset;
        match self.peek() {
            Some(tag::BOOLEAN) if self.boolean(field)? => Ok(true),
            Some(tag::BOOLEAN) => {
                Err(ParseError::invalid(field, "the default value FALSE must not be written out").at(offset))
            }
            _ => Ok(false),
        }
    }

    /// A NULL.
    pub fn null(&mut self, field: &'static str) -> Result<(), ParseError> {
        let element = self.tagged(tag::NULL, field)?;
        if element.content.is_empty() {
            return Ok(());
        }
        Err(ParseError::invalid(field, "a null has no contents").at(element.offset))
    }

    /// An IA5String as text.
    pub fn ia5_string(&mut self, field: &'static str) -> Result<&'a str, ParseError> {
        let element = self.tagged(tag::IA5_STRING, field)?;
        ascii(element.content)
            .ok_or_else(|| ParseError::invalid(field, "the text is not ASCII").at(element.content_offset()))
    }

    /// A UTCTime or GeneralizedTime in one of the forms that RFC 5280 §4.1.2.5 allows, in seconds since the epoch.
    pub fn time(&mut self, field: &'static str) -> Result<i64, ParseError> {
        let element = self.any(field)?;
        time::decode(element.tag, element.content)
            .map_err(|problem| ParseError::invalid(field, problem).at(element.offset))
    }

    /// A GeneralizedTime of any year in whole seconds, as answers about certificates write it (RFC 6960 §4.2.2.1), in seconds
    /// since the epoch.
    pub(crate) fn generalized_time(&mut self, field: &'static str) -> Result<i64, ParseError> {
        let element = self.tagged(tag::GENERALIZED_TIME, field)?;
        if element.content.len() != time::encode_generalized(0).len() {
            return Err(ParseError::invalid(field, "a GeneralizedTime is YYYYMMDDHHMMSSZ").at(element.offset));
        }
        let reading = time::decode_tolerant(element.tag, element.content);
        reading.map(|reading| reading.seconds).map_err(|problem| ParseError::invalid(field, problem).at(element.offset))
    }

    /// An error about the next element.
    pub fn error(&self, field: &'static str, problem: Problem) -> ParseError {
        ParseError::new(field, problem).at(self.offset)
    }

    /// Reads identifier and length: how many octets they take, and how many contents octets follow.
    fn header(&self, field: &'static str) -> Result<(usize, usize), ParseError> {
        let [identifier, first, ..] = *self.rest else {
            return Err(self.error(field, Problem::Truncated));
        };
        if identifier & 0x1f == 0x1f {
            return Err(self.error(field, Problem::HighTagNumber));
        }
        let (header, length) = if first < 0x80 {
            (2, usize::from(first))
        } else {
            self.long_length(usize::from(first & 0x7f)).map_err(|problem| self.error(field, problem))?
        };
        if self.rest.len() - header < length {
            return Err(self.error(field, Problem::Truncated));
        }
        Ok((header, length))
    }

    /// The long form: up to four octets, shortest form only (X.690 §10.1).
    fn long_length(&self, count: usize) -> Result<(usize, usize), Problem> {
        if count == 0 || count > 4 {
            return Err(Problem::BadLength);
        }
        let octets = self.rest.get(2..2 + count).ok_or(Problem::Truncated)?;
        let length = octets.iter().fold(0usize, |value, octet| (value << 8) | usize::from(*octet));
        if octets[0] == 0 || length < 0x80 {
            return Err(Problem::BadLength);
        }
        Ok((2 + count, length))
    }
}

/// X.690 §8.3.2: the first nine bits of an INTEGER are not all equal.
fn check_integer<'a>(element: &Element<'a>, field: &'static str) -> Result<&'a [u8], ParseError> {
    match element.content {
        [] => Err(ParseError::invalid(field, "a number has at least one octet").at(element.offset)),
        [0x00, second, ..] if second & 0x80 == 0 => {
            Err(ParseError::invalid(field, "the number is not in its shortest form").at(element.offset))
        }
        [0xff, second, ..] if second & 0x80 != 0 => {
            Err(ParseError::invalid(field, "the number is not in its shortest form").at(element.offset))
        }
        content => Ok(content),
    }
}

fn check_oid<'a>(element: &Element<'a>, field: &'static str) -> Result<&'a [u8], ParseError> {
    if crate::oid::is_valid(element.content) {
        return Ok(element.content);
    }
    Err(ParseError::invalid(field, "the object identifier is malformed").at(element.offset))
}

fn number_u32(magnitude: &[u8]) -> Option<u32> {
    if magnitude.len() > 4 {
        return None;
    }
    Some(magnitude.iter().fold(0, |value, octet| (value << 8) | u32::from(*octet)))
}

pub(crate) fn ascii(octets: &[u8]) -> Option<&str> {
    if octets.is_ascii() { std::str::from_utf8(octets).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads one element of any kind to its end and says what was found.
    fn read_any(input: &[u8]) -> Result<Vec<u8>, Problem> {
        let mut reader = Reader::new(input);
        let element = reader.any("element").map_err(|error| error.problem().clone())?;
        reader.finish("element").map_err(|error| error.problem().clone())?;
        Ok(element.content.to_vec())
    }

    #[test]
    fn only_shortest_definite_lengths_are_read() {
        let long = [&[0x04, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(read_any(&long), Ok(vec![7; 0x80]));
        let cases: [(&[u8], Problem); 12] = [
            (&[], Problem::Truncated),
            (&[0x04], Problem::Truncated),
            (&[0x04, 0x01], Problem::Truncated),
            (&[0x04, 0x81], Problem::Truncated),
            (&[0x04, 0x82, 0x01], Problem::Truncated),
            (&[0x04, 0x80, 0x00, 0x00], Problem::BadLength),
            (&[0x04, 0x81, 0x01, 0x07], Problem::BadLength),
            (&[0x04, 0x82, 0x00, 0x80], Problem::BadLength),
            (&[0x04, 0x85, 0x01, 0x00, 0x00, 0x00, 0x00], Problem::BadLength),
            (&[0x04, 0x84, 0xff, 0xff, 0xff, 0xff], Problem::Truncated),
            (&[0x1f, 0x01, 0x00], Problem::HighTagNumber),
            (&[0x04, 0x01, 0x07, 0x00], Problem::TrailingData),
        ];
        for (input, problem) in cases {
            assert_eq!(read_any(input), Err(problem), "{input:02x?}");
        }
    }

    #[test]
    fn integers_have_one_form() {
        let check = |content: &[u8]| {
            let mut input = vec![tag::INTEGER, u8::try_from(content.len()).unwrap()];
            input.extend_from_slice(content);
            Reader::new(&input).integer("number").map(<[u8]>::to_vec).ok()
        };
        for good in [&[0x00][..], &[0x7f], &[0x00, 0x80], &[0x80], &[0xff], &[0xff, 0x7f]] {
            assert_eq!(check(good).as_deref(), Some(good));
        }
        for bad in [&[][..], &[0x00, 0x00], &[0x00, 0x7f], &[0xff, 0xff], &[0xff, 0x80]] {
            assert_eq!(check(bad), None, "{bad:02x?}");
        }
        assert!(Reader::new(&[tag::INTEGER, 1, 0x80]).unsigned("number").is_err());
        assert_eq!(Reader::new(&[tag::INTEGER, 1, 0x00]).unsigned("number"), Ok(&[][..]));
        assert_eq!(Reader::new(&[tag::INTEGER, 2, 0x01, 0x00]).unsigned_u32("number"), Ok(256));
        assert!(Reader::new(&[tag::INTEGER, 5, 1, 0, 0, 0, 0]).unsigned_u32("number").is_err());
    }

    #[test]
    fn booleans_are_00_or_ff_and_a_default_is_absent() {
        assert_eq!(Reader::new(&[1, 1, 0x00]).boolean("b"), Ok(false));
        assert_eq!(Reader::new(&[1, 1, 0xff]).boolean("b"), Ok(true));
        assert!(Reader::new(&[1, 1, 0x01]).boolean("b").is_err());
        assert!(Reader::new(&[1, 2, 0xff, 0xff]).boolean("b").is_err());
        assert_eq!(Reader::new(&[]).boolean_default_false("b"), Ok(false));
        assert!(Reader::new(&[1, 1, 0x00]).boolean_default_false("b").is_err());
    }

    #[test]
    fn named_bits_have_one_form() {
        let check = |content: &[u8]| {
            let mut input = vec![tag::BIT_STRING, u8::try_from(content.len()).unwrap()];
            input.extend_from_slice(content);
            Reader::new(&input).named_bits("bits").ok()
        };
        for (content, bits) in
            [(&[0][..], 0), (&[7, 0x80], 0x8000), (&[1, 6], 0x0600), (&[7, 0, 0x80], 0x0080), (&[0, 1], 0x0100)]
        {
            assert_eq!(check(content), Some(bits));
        }
        for bad in [&[][..], &[1], &[0, 0], &[0, 6], &[2, 6], &[8, 0x80], &[0, 0x80, 0], &[0, 1, 1, 1]] {
            assert_eq!(check(bad), None, "{bad:02x?}");
        }
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let mut input = vec![tag::SEQUENCE, 0];
        for _ in 0..DEPTH_MAX {
            let mut outer = vec![tag::SEQUENCE];
            if input.len() < 0x80 {
                outer.push(u8::try_from(input.len()).unwrap());
            } else {
                outer.extend([0x81, u8::try_from(input.len()).unwrap()]);
            }
            outer.extend_from_slice(&input);
            input = outer;
        }
        let mut reader = Reader::new(&input);
        for _ in 0..DEPTH_MAX {
            reader = reader.sequence("level").unwrap();
        }
        let error = reader.sequence("level").unwrap_err();
        assert_eq!(error.problem(), &Problem::TooDeep);
    }

    #[test]
    fn an_error_names_field_and_offset() {
        let error = Reader::new(&[0x30, 0x03, 0x02, 0x01, 0x05])
            .sequence("outer")
            .and_then(|mut inner| inner.boolean("inner"))
            .unwrap_err();
        assert_eq!(error.to_string(), "inner (at octet 2): tag 0x01 is expected, 0x02 was found");
    }
}
