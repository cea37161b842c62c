//! DER octets appended to one vector; a nested element's length is put in when its contents are complete.

use super::tag;
use crate::time;

/// DER octets under construction.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for so many octets.
    pub fn with_capacity(octets: usize) -> Self {
        Self { bytes: Vec::with_capacity(octets) }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Octets that are complete elements already.
    pub fn raw(&mut self, der: &[u8]) {
        self.bytes.extend_from_slice(der);
    }

    /// An element whose contents are written by `fill`.
    pub fn nested(&mut self, tag: u8, fill: impl FnOnce(&mut Self)) {
        self.bytes.push(tag);
        let length_at = self.bytes.len();
        self.bytes.push(0);
        fill(self);
        self.close(length_at);
    }

    /// A SEQUENCE whose contents are written by `fill`.
    pub fn sequence(&mut self, fill: impl FnOnce(&mut Self)) {
        self.nested(tag::SEQUENCE, fill);
    }

    /// A SET of one element; more would have to be sorted (X.690 §11.6).
    pub fn set_of_one(&mut self, fill: impl FnOnce(&mut Self)) {
        self.nested(tag::SET, fill);
    }

    /// `[number] EXPLICIT`, or `[number] IMPLICIT` over a SEQUENCE.
    pub fn context(&mut self, number: u8, fill: impl FnOnce(&mut Self)) {
        self.nested(tag::context_constructed(number), fill);
    }

    /// An element with these contents.
    pub fn primitive(&mut self, tag: u8, content: &[u8]) {
        self.bytes.push(tag);
        self.length(content.len());
        self.bytes.extend_from_slice(content);
    }

    /// An INTEGER of this big-endian magnitude, with or without leading zeros.
    pub fn unsigned(&mut self, magnitude: &[u8]) {
        let magnitude = strip_zeros(magnitude);
        let padded = magnitude.first().is_none_or(|first| first & 0x80 != 0);
        self.bytes.push(tag::INTEGER);
        self.length(magnitude.len() + usize::from(padded));
        if padded {
            self.bytes.push(0);
        }
        self.bytes.extend_from_slice(magnitude);
    }

    /// An INTEGER.
    pub fn unsigned_u64(&mut self, value: u64) {
        self.unsigned(&value.to_be_bytes());
    }

    /// A BOOLEAN.
    pub fn boolean(&mut self, value: bool) {
        self.primitive(tag::BOOLEAN, &[if value { 0xff } else { 0x00 }]);
    }

    /// A NULL.
    pub fn null(&mut self) {
        self.primitive(tag::NULL, &[]);
    }

    /// An OBJECT IDENTIFIER with these contents octets.
    pub fn oid(&mut self, content: &[u8]) {
        self.primitive(tag::OID, content);
    }

    /// An OCTET STRING.
    pub fn octet_string(&mut self, content: &[u8]) {
        self.primitive(tag::OCTET_STRING, content);
    }

    /// A BIT STRING of whole octets.
    pub fn bit_string(&mut self, octets: &[u8]) {
        self.bytes.push(tag::BIT_STRING);
        self.length(octets.len() + 1);
        self.bytes.push(0);
        self.bytes.extend_from_slice(octets);
    }

    /// A BIT STRING of named bits: bit 15 of `bits` is the named bit 0. Trailing zeros are cut off (X.690 §11.2.2).
    pub fn named_bits(&mut self, tag: u8, bits: u16) {
        let [high, low] = bits.to_be_bytes();
        // At most seven bits of the last octet are unused.
        let unused = |octet: u8| octet.trailing_zeros().min(7) as u8;
        match (high, low) {
            (0, 0) => self.primitive(tag, &[0]),
            (high, 0) => self.primitive(tag, &[unused(high), high]),
            (high, low) => self.primitive(tag, &[unused(low), high, low]),
        }
    }

    /// A UTF8String.
    pub fn utf8_string(&mut self, text: &str) {
        self.primitive(tag::UTF8_STRING, text.as_bytes());
    }

    /// UTCTime through 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). Seconds since the epoch; what lies outside the
    /// years 0 to 9999 becomes the first or last second of them.
    pub fn time(&mut self, seconds: i64) {
        let (tag, text, length) = time::encode(seconds);
        self.primitive(tag, &text[..length]);
    }

    /// GeneralizedTime, whatever the year.
    pub fn generalized_time(&mut self, seconds: i64) {
        self.primitive(tag::GENERALIZED_TIME, &time::encode_generalized(seconds));
    }

    fn length(&mut self, length: usize) {
        if length < 0x80 {
            // The comparison above bounds it.
            self.bytes.push(length as u8);
            return;
        }
        let octets = length.to_be_bytes();
        let octets = strip_zeros(&octets);
        self.bytes.push(0x80 | octets.len() as u8);
        self.bytes.extend_from_slice(octets);
    }

    /// Puts in the length of what was written after the octet at `length_at`, making room if one octet is not enough.
    fn close(&mut self, length_at: usize) {
        let length = self.bytes.len() - length_at - 1;
        if length < 0x80 {
            self.bytes[length_at] = length as u8;
            return;
        }
        let octets = length.to_be_bytes();
        let octets = strip_zeros(&octets);
        self.bytes[length_at] = 0x80 | octets.len() as u8;
        let old_end = self.bytes.len();
        self.bytes.resize(old_end + octets.len(), 0);
        let content_at = length_at + 1;
        self.bytes.copy_within(content_at..old_end, content_at + octets.len());
        self.bytes[content_at..content_at + octets.len()].copy_from_slice(octets);
    }
}

/// The contents octets of the INTEGER of this big-endian magnitude.
pub fn integer_content(magnitude: &[u8]) -> Vec<u8> {
    let magnitude = strip_zeros(magnitude);
    let mut content = Vec::with_capacity(magnitude.len() + 1);
    if magnitude.first().is_none_or(|first| first & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(magnitude);
    content
}

fn strip_zeros(octets: &[u8]) -> &[u8] {
    let zeros = octets.iter().take_while(|octet| **octet == 0).count();
    &octets[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::Reader;

    fn written(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        fill(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn lengths_of_every_size_are_read_back() {
        for size in [0, 1, 0x7e, 0x7f, 0x80, 0x81, 0xff, 0x100, 0x101, 0xffff, 0x10000, 0x1_0001] {
            let content = vec![0xa5; size];
            let flat = written(|writer| writer.octet_string(&content));
            let nested = written(|writer| writer.nested(tag::OCTET_STRING, |inner| inner.raw(&content)));
            assert_eq!(flat, nested, "{size}");
            let mut reader = Reader::new(&flat);
            assert_eq!(reader.octet_string("content"), Ok(&content[..]));
            reader.finish("content").unwrap();
        }
    }

    #[test]
    fn numbers_and_named_bits_have_their_shortest_form() {
        assert_eq!(written(|writer| writer.unsigned_u64(0)), [2, 1, 0]);
        assert_eq!(written(|writer| writer.unsigned_u64(127)), [2, 1, 127]);
        assert_eq!(written(|writer| writer.unsigned_u64(128)), [2, 2, 0, 128]);
        assert_eq!(written(|writer| writer.unsigned(&[0, 0, 1, 0])), [2, 2, 1, 0]);
        assert_eq!(integer_content(&[0xff]), [0, 0xff]);
        assert_eq!(written(|writer| writer.named_bits(3, 0)), [3, 1, 0]);
        assert_eq!(written(|writer| writer.named_bits(3, 0b1000_0000 << 8)), [3, 2, 7, 0x80]);
        assert_eq!(written(|writer| writer.named_bits(3, 0b0000_0110 << 8)), [3, 2, 1, 6]);
        assert_eq!(written(|writer| writer.named_bits(3, 0x0080)), [3, 3, 7, 0, 0x80]);
    }
}
