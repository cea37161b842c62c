//! The hash functions that identify keys and certificates. SHA-1 only where a format asks for it, never in a signature.

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// SHA-256.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest::digest(&SHA256, octets).as_ref());
    output
}

/// SHA-256 of what comes in pieces.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&SHA256))
    }
}

impl Sha256 {
    /// And these octets, after those before.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The digest.
    pub fn finish(self) -> [u8; 32] {
        let mut output = [0; 32];
        output.copy_from_slice(self.0.finish().as_ref());
        output
    }
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
        let mut pieces = super::Sha256::default();
        ["a", "", "bc"].iter().for_each(|piece| pieces.update(piece.as_bytes()));
        assert_eq!(crate::hex(&pieces.finish()), sha256);
    }
}
