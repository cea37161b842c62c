//! The textual encoding of certificates, requests, lists and keys (RFC 7468).
//!
//! Written: 64 columns, LF, no newline after the last line. Read: text around the blocks, CRLF, blank lines and lines of
//! any length are tolerated; encapsulated headers, padding that is missing and other labels' ends are not. Reading takes
//! linear time.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::ParseError;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a certification request.
pub const CERTIFICATE_REQUEST: &str = "CERTIFICATE REQUEST";
/// The label that some older tools give a certification request.
pub const NEW_CERTIFICATE_REQUEST: &str = "NEW CERTIFICATE REQUEST";
/// The label of a certificate revocation list.
pub const CRL: &str = "X509 CRL";
/// The label of a private key in PKCS#8 form, not encrypted.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The label of a private key in PKCS#8 form, encrypted.
pub const ENCRYPTED_PRIVATE_KEY: &str = "ENCRYPTED PRIVATE KEY";
/// The label of an RSA private key in PKCS#1 form.
pub const RSA_PRIVATE_KEY: &str = "RSA PRIVATE KEY";
/// The label of an elliptic curve private key in SEC 1 form.
pub const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
/// The label of a public key, a SubjectPublicKeyInfo.
pub const PUBLIC_KEY: &str = "PUBLIC KEY";

/// The longest text that is read, in octets.
pub const TEXT_MAX: usize = 1 << 20;
/// The most blocks of one label that are read from one text.
pub const BLOCKS_MAX: usize = 20;

/// Octets in one line of 64 columns.
const LINE_OCTETS: usize = 48;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// Writes one block.
pub fn encode(label: &str, der: &[u8]) -> String {
    let body = der.len().div_ceil(3) * 4;
    let lines = der.len().div_ceil(LINE_OCTETS);
    let mut text = String::with_capacity(body + lines + 2 * label.len() + 40);
    text.push_str(BEGIN);
    text.push_str(label);
    text.push_str(DASHES);
    text.push('\n');
    for line in der.chunks(LINE_OCTETS) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str(END);
    text.push_str(label);
    text.push_str(DASHES);
    text
}

/// Reads every block of this label, in order; blocks of other labels are text around them. No block is an empty list.
pub fn decode_all(text: &str, label: &str) -> Result<Vec<Vec<u8>>, ParseError> {
    let mut found = Vec::new();
    for_each_block(text, |block| {
        if block.label != label {
            return Ok(());
        }
        if found.len() == BLOCKS_MAX {
            return Err(ParseError::invalid("PEM", format!("more than {BLOCKS_MAX} blocks {label}")));
        }
        found.push(block.decode()?);
        Ok(())
    })?;
    Ok(found)
}

/// Reads the one block that has one of these labels; none and several are errors.
pub fn decode_one(text: &str, labels: &[&str]) -> Result<Vec<u8>, ParseError> {
    let mut found = None;
    for_each_block(text, |block| {
        if !labels.contains(&block.label) {
            return Ok(());
        }
        if found.is_some() {
            return Err(ParseError::invalid("PEM", format!("exactly one block {} is expected", labels.join(" or "))));
        }
        found = Some(block.decode()?);
        Ok(())
    })?;
    found.ok_or_else(|| ParseError::invalid("PEM", format!("no block {} was found", labels.join(" or "))))
}

/// A block between its two boundary lines.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

impl Block<'_> {
    fn decode(&self) -> Result<Vec<u8>, ParseError> {
        if self.body.contains(':') {
            return Err(ParseError::invalid("PEM", "headers inside a block are not supported"));
        }
        let mut characters = String::with_capacity(self.body.len());
        characters.extend(self.body.split_ascii_whitespace());
        if characters.is_empty() {
            return Err(ParseError::invalid("PEM", "a block is empty"));
        }
        STANDARD.decode(characters).map_err(|_| ParseError::invalid("PEM", "a block is not base64"))
    }
}

/// Calls `visit` with each block. Every line is looked at once.
fn for_each_block<'a>(
    text: &'a str,
    mut visit: impl FnMut(Block<'a>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    if text.len() > TEXT_MAX {
        return Err(ParseError::invalid("PEM", format!("the text is longer than {TEXT_MAX} octets")));
    }
    let mut open: Option<(&str, usize)> = None;
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let line_end = line_start + line.len();
        let trimmed = line.trim_ascii();
        match open {
            None => open = boundary(trimmed, BEGIN).map(|label| (label, line_end)),
            Some((label, body_start)) => {
                if let Some(end_label) = boundary(trimmed, END) {
                    if end_label != label {
                        return Err(ParseError::invalid("PEM", "a block ends with the label of another"));
                    }
                    visit(Block { label, body: &text[body_start..line_start] })?;
                    open = None;
                } else if trimmed.starts_with(DASHES) {
                    return Err(ParseError::invalid("PEM", "a block has no end"));
                }
            }
        }
        line_start = line_end;
    }
    if open.is_some() {
        return Err(ParseError::invalid("PEM", "a block has no end"));
    }
    Ok(())
}

/// The label of a boundary line.
fn boundary<'a>(line: &'a str, start: &str) -> Option<&'a str> {
    line.strip_prefix(start)?.strip_suffix(DASHES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_64_columns_and_no_last_newline() {
        let text = encode(CERTIFICATE, &[0xab; 50]);
        let lines: Vec<&str> = text.split('\n').collect();
        assert_eq!(lines[0], "-----BEGIN CERTIFICATE-----");
        assert_eq!(lines[1].len(), 64);
        assert_eq!(lines[2], "q6s=");
        assert_eq!(lines[3], "-----END CERTIFICATE-----");
        assert_eq!(lines.len(), 4);
        for size in [1, 47, 48, 49, 96, 1000] {
            let der = vec![0x5a; size];
            assert_eq!(decode_one(&encode(CRL, &der), &[CRL]), Ok(der));
        }
    }

    #[test]
    fn lax_forms_are_read() {
        let cases = [
            "-----BEGIN CERTIFICATE-----\r\nAQID\r\n-----END CERTIFICATE-----\r\n",
            "subject: x\n-----BEGIN CERTIFICATE-----\nAQ\nID\n\n-----END CERTIFICATE-----\ntrailer",
            "  -----BEGIN CERTIFICATE-----  \n\tA Q I D \n-----END CERTIFICATE-----",
            "-----BEGIN X-----\n?\n-----END X-----\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----",
        ];
        for text in cases {
            assert_eq!(decode_all(text, CERTIFICATE), Ok(vec![vec![1, 2, 3]]), "{text}");
            assert_eq!(decode_one(text, &[CRL, CERTIFICATE]), Ok(vec![1, 2, 3]), "{text}");
        }
        assert_eq!(decode_all("no block at all", CERTIFICATE), Ok(vec![]));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let cases = [
            "",
            "AQID",
            "-----BEGIN CERTIFICATE-----\nAQID\n",
            "-----BEGIN CERTIFICATE-----\nAQID\n-----END CRL-----",
            "-----BEGIN CERTIFICATE-----\nAQID\n-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nAQI\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nAQ_-\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nAR==\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nA===\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE----- AQID -----END CERTIFICATE-----",
        ];
        for text in cases {
            assert!(decode_one(text, &[CERTIFICATE]).is_err(), "{text}");
        }
        let two = [encode(CERTIFICATE, &[1]), encode(CERTIFICATE, &[2])].join("\n");
        assert!(decode_one(&two, &[CERTIFICATE]).is_err());
        assert_eq!(decode_all(&two, CERTIFICATE), Ok(vec![vec![1], vec![2]]));
    }

    #[test]
    fn size_and_count_have_limits() {
        let block = encode(CERTIFICATE, &[1, 2, 3]) + "\n";
        assert_eq!(decode_all(&block.repeat(BLOCKS_MAX), CERTIFICATE).map(|found| found.len()), Ok(BLOCKS_MAX));
        assert!(decode_all(&block.repeat(BLOCKS_MAX + 1), CERTIFICATE).is_err());
        assert!(decode_all(&"-----BEGIN ".repeat(TEXT_MAX / 11), CERTIFICATE).is_ok_and(|found| found.is_empty()));
        assert!(decode_all(&" ".repeat(TEXT_MAX + 1), CERTIFICATE).is_err());
    }
}
