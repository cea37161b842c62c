//! Serial numbers of certificates (RFC 5280 §4.1.2.2): positive, at most 20 octets in DER.

use std::fmt;

use crate::der::integer_content;

/// The longest serial number, in contents octets of its INTEGER.
pub const SERIAL_OCTETS_MAX: usize = 20;

/// A positive serial number of at most 20 contents octets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SerialNumber([u8; SERIAL_OCTETS_MAX]);

impl SerialNumber {
    /// Makes a serial number of 20 random octets: the top bit is cleared, so that 20 octets are its DER as well. Nothing
    /// when the first octet would be zero, which would make the DER shorter than the text; draw again then.
    pub fn from_random(mut octets: [u8; SERIAL_OCTETS_MAX]) -> Option<Self> {
        octets[0] &= 0x7f;
        (octets[0] != 0).then_some(Self(octets))
    }

    /// The serial number with these contents octets of an INTEGER in its shortest form; nothing when it is zero, negative
    /// or too long.
    pub fn from_integer(content: &[u8]) -> Option<Self> {
        if content.is_empty() || content.len() > SERIAL_OCTETS_MAX || content[0] & 0x80 != 0 {
            return None;
        }
        let mut octets = [0; SERIAL_OCTETS_MAX];
        octets[SERIAL_OCTETS_MAX - content.len()..].copy_from_slice(content);
        (octets != [0; SERIAL_OCTETS_MAX]).then_some(Self(octets))
    }

    /// Reads the text of a serial number that [`SerialNumber::from_random`] made: exactly 40 lower-case hexadecimal
    /// digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let serial = Self::from_foreign_hex(text)?;
        let canonical = text.len() == 2 * SERIAL_OCTETS_MAX && text.bytes().all(|octet| !octet.is_ascii_uppercase());
        (canonical && serial.0[0] != 0).then_some(serial)
    }

    /// Reads the text of any serial number: 1 to 40 hexadecimal digits of either case.
    pub fn from_foreign_hex(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > 2 * SERIAL_OCTETS_MAX {
            return None;
        }
        let mut octets = [0; SERIAL_OCTETS_MAX];
        for (place, digit) in text.bytes().rev().enumerate() {
            // A hexadecimal digit is below 16.
            let value = char::from(digit).to_digit(16)? as u8;
            octets[SERIAL_OCTETS_MAX - 1 - place / 2] |= value << (4 * (place % 2));
        }
        (octets[0] & 0x80 == 0 && octets != [0; SERIAL_OCTETS_MAX]).then_some(Self(octets))
    }

    /// The number, big-endian, without leading zeros.
    pub fn octets(&self) -> &[u8] {
        let zeros = self.0.iter().take_while(|octet| **octet == 0).count();
        &self.0[zeros..]
    }

    /// The contents octets of its INTEGER.
    pub fn integer_content(&self) -> Vec<u8> {
        integer_content(&self.0)
    }

    /// The number in lower-case hexadecimal, two digits for each octet.
    pub fn to_hex(&self) -> String {
        crate::hex(self.octets())
    }
}

impl fmt::Display for SerialNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.to_hex())
    }
}

impl fmt::Debug for SerialNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SerialNumber({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_serial_numbers_have_twenty_octets_in_text_and_der() {
        for first in 0..=255 {
            let mut octets = [0xff; 20];
            octets[0] = first;
            let serial = SerialNumber::from_random(octets);
            assert_eq!(serial.is_none(), first & 0x7f == 0);
            if let Some(serial) = serial {
                assert_eq!(serial.to_hex().len(), 40);
                assert_eq!(serial.integer_content().len(), 20);
                assert_eq!(SerialNumber::from_hex(&serial.to_hex()), Some(serial));
                assert_eq!(SerialNumber::from_integer(&serial.integer_content()), Some(serial));
            }
        }
    }

    #[test]
    fn only_positive_numbers_of_twenty_octets_are_taken() {
        for content in [&[][..], &[0], &[0x80], &[0xff, 1], &[1; 21]] {
            assert_eq!(SerialNumber::from_integer(content), None, "{content:02x?}");
        }
        let padded = SerialNumber::from_integer(&[0, 0x80]).unwrap();
        assert_eq!((padded.octets(), padded.integer_content()), (&[0x80][..], vec![0, 0x80]));
        assert_eq!(padded.to_hex(), "80");
        for text in ["", "0", "g", "80", "1 ", "-1", &"f".repeat(40), &"1".repeat(41)] {
            assert_eq!(SerialNumber::from_hex(text), None, "{text}");
        }
        assert_eq!(SerialNumber::from_hex(&"AB".repeat(20)), None);
        assert_eq!(SerialNumber::from_hex(&format!("00{}", "1".repeat(38))), None);
        assert_eq!(SerialNumber::from_foreign_hex("F00").map(|serial| serial.to_hex()), Some("0f00".to_owned()));
        assert_eq!(SerialNumber::from_foreign_hex("0"), None);
        assert_eq!(SerialNumber::from_foreign_hex(&"f".repeat(40)), None);
    }
}
