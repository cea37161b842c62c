//! Java key stores in the format `JKS`, written and never read: one entry with a key and its chain.
//!
//! The format has neither a choice of algorithms nor a cipher worth the name: the key is covered by a stream of SHA-1 of the
//! password, and the file ends with a SHA-1 of the password and all before it. It is for programs that read nothing else;
//! since Java 9 a PKCS#12 file does the same and is better.

use x509::der::Writer;
use x509::digest::sha1;
use zeroize::Zeroizing;

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// The tag of an entry that holds a private key.
const PRIVATE_KEY_ENTRY: u32 = 1;
/// What Sun put between the password and the contents, so that the digest is one of key stores only.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// 1.3.6.1.4.1.42.2.17.1.1, Sun's protection of keys.
const KEY_PROTECTION: &[u8] = &[0x2b, 6, 1, 4, 1, 42, 2, 17, 1, 1];
const DIGEST_OCTETS: usize = 20;

/// What a store holds.
pub struct Contents<'a> {
    /// The certificates in DER, the leaf first.
    pub certificates: &'a [&'a [u8]],
    /// The leaf's private key, PKCS#8 in DER.
    pub key: &'a [u8],
    /// The name of the entry. Java looks entries up by their names in small letters, so it stands there so.
    pub alias: &'a str,
    /// What covers the key and the whole.
    pub password: &'a str,
    /// When the entry was made, in milliseconds since 1970.
    pub created_at_millis: i64,
}

/// Writes a store; the salt is to be random.
pub fn write(contents: &Contents<'_>, salt: &[u8; DIGEST_OCTETS]) -> Vec<u8> {
    let password: Zeroizing<Vec<u8>> =
        Zeroizing::new(contents.password.encode_utf16().flat_map(u16::to_be_bytes).collect());
    let mut store = Vec::new();
    for number in [MAGIC, VERSION, 1, PRIVATE_KEY_ENTRY] {
        store.extend_from_slice(&number.to_be_bytes());
    }
    text(&mut store, &contents.alias.to_lowercase());
    store.extend_from_slice(&contents.created_at_millis.to_be_bytes());
    octets(&mut store, &protect(contents.key, &password, salt));
    store.extend_from_slice(&length(contents.certificates.len()));
    for certificate in contents.certificates {
        text(&mut store, "X.509");
        octets(&mut store, certificate);
    }
    let whole = Zeroizing::new([password.as_slice(), WHITENER, &store].concat());
    store.extend_from_slice(&sha1(&whole));
    store
}

/// An EncryptedPrivateKeyInfo: the salt, the key under the stream, and a digest by which a wrong password is told.
fn protect(key: &[u8], password: &[u8], salt: &[u8; DIGEST_OCTETS]) -> Vec<u8> {
    let hash = |more: &[u8]| sha1(&Zeroizing::new([password, more].concat()));
    let mut sealed = salt.to_vec();
    let mut block = *salt;
    for part in key.chunks(DIGEST_OCTETS) {
        block = hash(&block);
        sealed.extend(part.iter().zip(block).map(|(octet, covering)| octet ^ covering));
    }
    sealed.extend_from_slice(&hash(key));
    let mut writer = Writer::new();
    writer.sequence(|writer| {
        writer.sequence(|writer| {
            writer.oid(KEY_PROTECTION);
            writer.null();
        });
        writer.octet_string(&sealed);
    });
    writer.into_bytes()
}

/// Octets behind their number.
fn octets(store: &mut Vec<u8>, octets: &[u8]) {
    store.extend_from_slice(&length(octets.len()));
    store.extend_from_slice(octets);
}

fn length(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("what is in a store is short").to_be_bytes()
}

/// A text as Java writes one: each unit of UTF-16 by itself in the form of UTF-8, and NUL in two octets, so that none is 0.
fn text(store: &mut Vec<u8>, text: &str) {
    let mut encoded = Vec::new();
    for unit in text.encode_utf16() {
        let low = |bits: u16, kind: u8| kind | (bits & 0x3f).to_le_bytes()[0];
        match unit {
            1..=0x7f => encoded.push(unit.to_le_bytes()[0]),
            0 | 0x80..=0x7ff => encoded.extend([0xc0 | (unit >> 6).to_le_bytes()[0], low(unit, 0x80)]),
            0x800.. => encoded.extend([0xe0 | (unit >> 12).to_le_bytes()[0], low(unit >> 6, 0x80), low(unit, 0x80)]),
        }
    }
    store.extend_from_slice(&u16::try_from(encoded.len()).expect("a name is short").to_be_bytes());
    store.extend_from_slice(&encoded);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_as_java_writes_them() {
        for (name, expected) in [
            ("www", &b"\0\x03www"[..]),
            ("ü", b"\0\x02\xc3\xbc"),
            ("\0", b"\0\x02\xc0\x80"),
            ("€", b"\0\x03\xe2\x82\xac"),
            ("😀", b"\0\x06\xed\xa0\xbd\xed\xb8\x80"),
        ] {
            let mut store = Vec::new();
            text(&mut store, name);
            assert_eq!(store, expected, "{name}");
        }
    }
}
