//! The hash functions that identify keys and certificates. SHA-1 only where a format asks for it, never in a signature.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// SHA-256.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&SHA256, octets).as_ref());
    output
}

/// SHA-1: key identifiers (RFC 5280 §4.2.1.2), certificate identifiers of OCSP (RFC 6960), fingerprints.
pub fn sha1(octets: &[u8]) -> [u8; 20] {
    let mut output = [0; 20];
    output.copy_from_slice(digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, octets).as_ref());
    output
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_vectors_hold() {
        let sha1 = crate::hex(&super::sha1(b"abc"));
        assert_eq!(sha1, "a9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = crate::hex(&super::sha256(b"abc"));
        assert_eq!(sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
