//! Distinguished Encoding Rules, strict reading and direct writing (X.690 §8, §10, §11).
//!
//! Not a general ASN.1 library: only the universal types that certificates, requests and lists use, and tag numbers up
//! to 30. The reader allocates nothing and never calls itself; the writer appends to one vector.

mod reader;
mod writer;

pub use reader::{DEPTH_MAX, Element, Reader};
pub(crate) use reader::{Span, ascii};
pub use writer::{Writer, integer_content};

/// Identifier octets of the elements that this crate reads and writes (X.690 §8.1.2).
pub mod tag {
    /// BOOLEAN.
    pub const BOOLEAN: u8 = 0x01;
    /// INTEGER.
    pub const INTEGER: u8 = 0x02;
    /// BIT STRING.
    pub const BIT_STRING: u8 = 0x03;
    /// OCTET STRING.
    pub const OCTET_STRING: u8 = 0x04;
    /// NULL.
    pub const NULL: u8 = 0x05;
    /// OBJECT IDENTIFIER.
    pub const OID: u8 = 0x06;
    /// ENUMERATED.
    pub const ENUMERATED: u8 = 0x0a;
    /// UTF8String.
    pub const UTF8_STRING: u8 = 0x0c;
    /// NumericString.
    pub const NUMERIC_STRING: u8 = 0x12;
    /// PrintableString.
    pub const PRINTABLE_STRING: u8 = 0x13;
    /// TeletexString, also called T61String.
    pub const TELETEX_STRING: u8 = 0x14;
    /// IA5String.
    pub const IA5_STRING: u8 = 0x16;
    /// UTCTime.
    pub const UTC_TIME: u8 = 0x17;
    /// GeneralizedTime.
    pub const GENERALIZED_TIME: u8 = 0x18;
    /// VisibleString.
    pub const VISIBLE_STRING: u8 = 0x1a;
    /// UniversalString.
    pub const UNIVERSAL_STRING: u8 = 0x1c;
    /// BMPString.
    pub const BMP_STRING: u8 = 0x1e;
    /// SEQUENCE and SEQUENCE OF.
    pub const SEQUENCE: u8 = 0x30;
    /// SET and SET OF.
    pub const SET: u8 = 0x31;

    /// A context-specific tag over a primitive element: `[number] IMPLICIT`.
    pub const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// A context-specific tag over a constructed element: `[number] EXPLICIT`, or implicit over a SEQUENCE.
    pub const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}
