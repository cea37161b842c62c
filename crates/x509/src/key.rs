//! The public half of a key pair: SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279, RFC 5480, RFC 8410).
//!
//! A [`PublicKey`] is one that Chancery certifies: a known size, no known weakness. A [`VerifyingKey`] is one that it
//! checks signatures with; those of foreign chains may have other sizes.

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};

use crate::algorithm::{KeyAlgorithm, KeyFamily, SignatureAlgorithm};
use crate::der::{Reader, tag};
use crate::digest;
use crate::error::ParseError;
use crate::{oid, rsa_weakness};

/// Why a key is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// It is not a SubjectPublicKeyInfo.
    Malformed(ParseError),
    /// It is of a kind that is not known: the dotted identifier of the algorithm.
    UnknownAlgorithm(String),
    /// It is on an elliptic curve that is not accepted, or one that is not named but described.
    UnsupportedCurve,
    /// An RSA modulus of a size that is not accepted, in bits.
    UnsupportedSize(usize),
    /// It is malformed, insecure or known to be weak, in words.
    Weak(&'static str),
}

/// A key to check signatures with.
#[derive(Clone)]
pub struct VerifyingKey {
    spki: Vec<u8>,
    octets_at: usize,
    kind: Kind,
    parsed: ParsedPublicKey,
}

/// A key that may be certified.
#[derive(Clone)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    key: VerifyingKey,
}

/// Kind and size as they are written in a SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa { bits: usize },
    EcP256,
    EcP384,
    EcP521,
    Ed25519,
}

/// A SubjectPublicKeyInfo taken apart: the key itself has not been looked at.
struct Parts<'a> {
    kind: Kind,
    /// The contents of the BIT STRING.
    octets: &'a [u8],
    octets_at: usize,
    rsa: Option<RsaNumbers<'a>>,
}

/// Big-endian, without leading zeros.
struct RsaNumbers<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
}

impl PublicKey {
    /// Reads a key and holds it to the rules for keys that are certified: RSA of 2048, 3072 or 4096 bits with an odd
    /// exponent from 65537 to 2³³ and without the weaknesses that can be seen in a modulus; a point on a named NIST
    /// curve; Ed25519.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyProblem> {
        let parts = Parts::read(spki)?;
        let algorithm = parts.kind.algorithm()?;
        if let Some(numbers) = &parts.rsa {
            check_exponent(numbers.exponent)?;
            if let Some(weakness) = rsa_weakness::find(numbers.modulus) {
                return Err(KeyProblem::Weak(weakness));
            }
        }
        Ok(Self { algorithm, key: VerifyingKey::from_parts(spki, &parts)? })
    }

    /// The kind and size.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.key.spki_der()
    }

    /// The contents of its BIT STRING: an RSAPublicKey, an uncompressed point, or 32 octets.
    pub fn key_octets(&self) -> &[u8] {
        self.key.key_octets()
    }

    /// The key identifier of RFC 5280 §4.2.1.2, method 1: SHA-1 of the contents of the BIT STRING.
    pub fn key_id_sha1(&self) -> [u8; 20] {
        self.key.key_id_sha1()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        digest::sha256(self.spki_der())
    }

    /// Whether the signature over the message was made by the other half of this key with this algorithm.
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(algorithm, message, signature)
    }
}

impl VerifyingKey {
    /// Reads a key to check signatures with: RSA from 2048 to 8192 bits in whole octets, a point on a named NIST curve,
    /// Ed25519.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, KeyProblem> {
        let parts = Parts::read(spki)?;
        match parts.kind {
            Kind::Rsa { bits } if !(2048..=8192).contains(&bits) || !bits.is_multiple_of(8) => {
                Err(KeyProblem::UnsupportedSize(bits))
            }
            _ => Self::from_parts(spki, &parts),
        }
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The contents of its BIT STRING.
    pub fn key_octets(&self) -> &[u8] {
        // The BIT STRING is the last element.
        &self.spki[self.octets_at..]
    }

    /// The kind and size, if it is one that is also certified.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        self.kind.algorithm().ok()
    }

    /// The family of signatures that the key's other half makes.
    pub fn family(&self) -> KeyFamily {
        match self.kind {
            Kind::Rsa { .. } => KeyFamily::Rsa,
            Kind::EcP256 | Kind::EcP384 | Kind::EcP521 => KeyFamily::Ecdsa,
            Kind::Ed25519 => KeyFamily::Ed25519,
        }
    }

    /// The key identifier of RFC 5280 §4.2.1.2, method 1.
    pub fn key_id_sha1(&self) -> [u8; 20] {
        digest::sha1(self.key_octets())
    }

    /// Whether the signature over the message was made by the other half of this key with this algorithm.
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        if algorithm == self.kind.usual_signature() {
            return self.parsed.verify_sig(message, signature).is_ok();
        }
        self.kind.verification(algorithm).is_some_and(|verification| {
            UnparsedPublicKey::new(verification, self.key_octets()).verify(message, signature).is_ok()
        })
    }

    fn from_parts(spki: &[u8], parts: &Parts<'_>) -> Result<Self, KeyProblem> {
        check_octets(parts)?;
        let verification = parts
            .kind
            .verification(parts.kind.usual_signature())
            .expect("each kind of key verifies its usual signature algorithm");
        let parsed = ParsedPublicKey::new(verification, parts.octets)
            .map_err(|_| KeyProblem::Weak("its numbers are not a key: a point off its curve, or a bad exponent"))?;
        Ok(Self { spki: spki.to_vec(), octets_at: parts.octets_at, kind: parts.kind, parsed })
    }
}

/// The key identifier of a SubjectPublicKeyInfo (RFC 5280 §4.2.1.2, method 1); the key itself is not checked.
pub fn key_id_sha1(spki: &[u8]) -> Result<[u8; 20], KeyProblem> {
    Ok(digest::sha1(Parts::read(spki)?.octets))
}

/// The kind and size that a SubjectPublicKeyInfo states. The key itself is not checked: use it where that was done.
pub fn stated_algorithm(spki: &[u8]) -> Result<KeyAlgorithm, KeyProblem> {
    Parts::read(spki)?.kind.algorithm()
}

impl Kind {
    fn algorithm(self) -> Result<KeyAlgorithm, KeyProblem> {
        match self {
            Self::Rsa { bits: 2048 } => Ok(KeyAlgorithm::Rsa2048),
            Self::Rsa { bits: 3072 } => Ok(KeyAlgorithm::Rsa3072),
            Self::Rsa { bits: 4096 } => Ok(KeyAlgorithm::Rsa4096),
            Self::Rsa { bits } => Err(KeyProblem::UnsupportedSize(bits)),
            Self::EcP256 => Ok(KeyAlgorithm::EcP256),
            Self::EcP384 => Ok(KeyAlgorithm::EcP384),
            Self::EcP521 => Ok(KeyAlgorithm::EcP521),
            Self::Ed25519 => Ok(KeyAlgorithm::Ed25519),
        }
    }

    /// The algorithm that the parsed form of the key is prepared for.
    fn usual_signature(self) -> SignatureAlgorithm {
        match self {
            Self::Rsa { .. } => SignatureAlgorithm::RsaSha256,
            Self::EcP256 => SignatureAlgorithm::EcdsaSha256,
            Self::EcP384 => SignatureAlgorithm::EcdsaSha384,
            Self::EcP521 => SignatureAlgorithm::EcdsaSha512,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
        }
    }

    fn verification(self, algorithm: SignatureAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
        use SignatureAlgorithm as Algorithm;
        Some(match (self, algorithm) {
            (Self::Rsa { .. }, Algorithm::RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (Self::Rsa { .. }, Algorithm::RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (Self::Rsa { .. }, Algorithm::RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (Self::EcP256, Algorithm::EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (Self::EcP256, Algorithm::EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (Self::EcP256, Algorithm::EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (Self::EcP384, Algorithm::EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (Self::EcP384, Algorithm::EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (Self::EcP384, Algorithm::EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (Self::EcP521, Algorithm::EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (Self::EcP521, Algorithm::EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (Self::EcP521, Algorithm::EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
            (Self::Ed25519, Algorithm::Ed25519) => &signature::ED25519,
            (Self::Rsa { .. } | Self::EcP256 | Self::EcP384 | Self::EcP521 | Self::Ed25519, _) => return None,
        })
    }
}

impl<'a> Parts<'a> {
    fn read(spki: &'a [u8]) -> Result<Self, KeyProblem> {
        let mut outer = Reader::new(spki);
        let mut reader = outer.sequence("subjectPublicKeyInfo")?;
        outer.finish("subjectPublicKeyInfo")?;
        let mut algorithm = reader.sequence("subjectPublicKeyInfo.algorithm")?;
        let identifier = algorithm.oid("subjectPublicKeyInfo.algorithm")?;
        let octets = reader.bit_string("subjectPublicKey")?;
        let octets_at = spki.len() - octets.len();
        reader.finish("subjectPublicKeyInfo")?;
        let (kind, rsa) = match identifier {
            oid::RSA_ENCRYPTION => {
                algorithm.null("subjectPublicKeyInfo.algorithm.parameters")?;
                let numbers = RsaNumbers::read(octets)?;
                (Kind::Rsa { bits: bit_length(numbers.modulus) }, Some(numbers))
            }
            oid::EC_PUBLIC_KEY => (read_curve(&mut algorithm)?, None),
            oid::ED25519 => (Kind::Ed25519, None),
            other => return Err(KeyProblem::UnknownAlgorithm(oid::to_dotted(other))),
        };
        algorithm.finish("subjectPublicKeyInfo.algorithm.parameters")?;
        Ok(Self { kind, octets, octets_at, rsa })
    }
}

impl<'a> RsaNumbers<'a> {
    fn read(octets: &'a [u8]) -> Result<Self, ParseError> {
        let mut outer = Reader::new(octets);
        let mut numbers = outer.sequence("RSAPublicKey")?;
        outer.finish("RSAPublicKey")?;
        let modulus = numbers.unsigned("modulus")?;
        let exponent = numbers.unsigned("publicExponent")?;
        numbers.finish("RSAPublicKey")?;
        Ok(Self { modulus, exponent })
    }
}

/// RFC 5480 §2.1.1: only the named form, which leaves no room for a curve with a chosen generator (CVE-2020-0601).
fn read_curve(algorithm: &mut Reader<'_>) -> Result<Kind, KeyProblem> {
    if algorithm.peek() != Some(tag::OID) {
        return Err(KeyProblem::UnsupportedCurve);
    }
    match algorithm.oid("namedCurve")? {
        oid::CURVE_P256 => Ok(Kind::EcP256),
        oid::CURVE_P384 => Ok(Kind::EcP384),
        oid::CURVE_P521 => Ok(Kind::EcP521),
        _ => Err(KeyProblem::UnsupportedCurve),
    }
}

/// The length that the kind asks for, the uncompressed form of points, and no point of small order.
fn check_octets(parts: &Parts<'_>) -> Result<(), KeyProblem> {
    let uncompressed = |coordinate: usize| {
        if parts.octets.len() == 1 + 2 * coordinate && parts.octets[0] == 0x04 {
            return Ok(());
        }
        Err(KeyProblem::Weak("a point on a curve must be written in full, not compressed"))
    };
    match parts.kind {
        Kind::Rsa { .. } => Ok(()),
        Kind::EcP256 => uncompressed(32),
        Kind::EcP384 => uncompressed(48),
        Kind::EcP521 => uncompressed(66),
        Kind::Ed25519 => check_ed25519(parts.octets),
    }
}

fn check_ed25519(octets: &[u8]) -> Result<(), KeyProblem> {
    let Ok(mut point) = <[u8; 32]>::try_from(octets) else {
        return Err(KeyProblem::Weak("an Ed25519 key has 32 octets"));
    };
    // The top bit is the sign of the other coordinate.
    point[31] &= 0x7f;
    if SMALL_ORDER_POINTS.contains(&point) {
        return Err(KeyProblem::Weak("anyone can sign for this Ed25519 key: its point has a small order"));
    }
    Ok(())
}

/// The y coordinates of the points of order 1, 2, 4 and 8 of edwards25519, little-endian, with those of their other
/// encodings that are not reduced.
const SMALL_ORDER_POINTS: [[u8; 32]; 7] = {
    let mut zero_or_one = [[0; 32]; 2];
    zero_or_one[1][0] = 1;
    let mut near_prime = [[0xff; 32]; 3];
    let mut index = 0;
    while index < 3 {
        near_prime[index][0] = 0xec + index as u8;
        near_prime[index][31] = 0x7f;
        index += 1;
    }
    [
        zero_or_one[0],
        zero_or_one[1],
        near_prime[0],
        near_prime[1],
        near_prime[2],
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// At least 65537 and odd; at most 33 bits, which is also what the cryptographic library accepts.
fn check_exponent(exponent: &[u8]) -> Result<(), KeyProblem> {
    let too_large = KeyProblem::Weak("its RSA exponent is larger than 2³³");
    if exponent.len() > 8 {
        return Err(too_large);
    }
    let value = exponent.iter().fold(0u64, |value, octet| (value << 8) | u64::from(*octet));
    if value.is_multiple_of(2) {
        return Err(KeyProblem::Weak("its RSA exponent is even"));
    }
    if value < 65_537 {
        return Err(KeyProblem::Weak("its RSA exponent is smaller than 65537"));
    }
    if value >= 1 << 33 { Err(too_large) } else { Ok(()) }
}

fn bit_length(magnitude: &[u8]) -> usize {
    magnitude.first().map_or(0, |first| 8 * magnitude.len() - first.leading_zeros() as usize)
}

impl AsRef<VerifyingKey> for VerifyingKey {
    fn as_ref(&self) -> &VerifyingKey {
        self
    }
}

impl AsRef<VerifyingKey> for PublicKey {
    fn as_ref(&self) -> &VerifyingKey {
        &self.key
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki_der() == other.spki_der()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({}, {})", self.algorithm, crate::hex(&self.key_id_sha1()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({:?}, {})", self.kind, crate::hex(&self.key_id_sha1()))
    }
}

impl From<ParseError> for KeyProblem {
    fn from(error: ParseError) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(formatter, "the public key is malformed: {error}"),
            Self::UnknownAlgorithm(dotted) => write!(formatter, "public keys of algorithm {dotted} are not supported"),
            Self::UnsupportedCurve => {
                formatter.write_str("only the named curves P-256, P-384 and P-521 are supported for EC keys")
            }
            Self::UnsupportedSize(bits) => {
                write!(formatter, "RSA keys of {bits} bits are not supported; use 2048, 3072 or 4096")
            }
            Self::Weak(words) => write!(formatter, "the public key is not acceptable: {words}"),
        }
    }
}

impl std::error::Error for KeyProblem {}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// The SubjectPublicKeyInfo with this name in the list of test keys.
    fn test_key(name: &str) -> Vec<u8> {
        let lines = include_str!("../testdata/keys.txt").lines();
        let value = lines.filter_map(|line| line.split_once(' ')).find(|(key, _)| *key == name).expect(name).1;
        STANDARD.decode(value).unwrap()
    }

    #[test]
    fn signatures_of_another_implementation_hold_for_every_key_and_hash() {
        let mut checked = 0;
        for line in include_str!("../testdata/signatures.txt").lines().skip(1) {
            let [name, algorithm, signature] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
            let key = PublicKey::from_spki_der(&test_key(name)).unwrap();
            let algorithm = SignatureAlgorithm::parse(algorithm).unwrap();
            let mut signature = STANDARD.decode(signature).unwrap();
            for other in SignatureAlgorithm::ALL {
                assert_eq!(key.verify(other, b"the message", &signature), other == algorithm, "{line}");
            }
            assert!(!key.verify(algorithm, b"the messagE", &signature));
            *signature.last_mut().unwrap() ^= 1;
            assert!(!key.verify(algorithm, b"the message", &signature));
            checked += 1;
        }
        assert_eq!(checked, 16);
    }

    #[test]
    fn keys_that_may_be_certified_are_read() {
        let cases = [
            ("P-256", KeyAlgorithm::EcP256),
            ("P-384", KeyAlgorithm::EcP384),
            ("P-521", KeyAlgorithm::EcP521),
            ("RSA-2048", KeyAlgorithm::Rsa2048),
            ("RSA-3072", KeyAlgorithm::Rsa3072),
            ("Ed25519", KeyAlgorithm::Ed25519),
            ("good", KeyAlgorithm::Rsa2048),
        ];
        for (name, algorithm) in cases {
            let spki = test_key(name);
            let key = PublicKey::from_spki_der(&spki).unwrap();
            assert_eq!((key.algorithm(), key.spki_der()), (algorithm, &spki[..]));
            assert!(spki.ends_with(key.key_octets()));
            assert_eq!(stated_algorithm(&spki), Ok(algorithm));
            assert_eq!(VerifyingKey::from_spki_der(&spki).unwrap().algorithm(), Some(algorithm));
        }
    }

    #[test]
    fn weak_and_unknown_keys_are_refused_with_their_reason() {
        let cases = [
            ("RSA-1024", "1024 bits"),
            ("RSA-2056", "2056 bits"),
            ("RSA-exponent-3", "smaller than 65537"),
            ("exponent-1", "smaller than 65537"),
            ("exponent-17", "smaller than 65537"),
            ("exponent-65536", "even"),
            ("exponent-8589934593", "larger"),
            ("exponent-18446744073709551617", "larger"),
            ("even", "modulus is even"),
            ("small-factor", "small prime factor"),
            ("ROCA", "ROCA"),
            ("close-primes", "close together"),
            ("close-primes-36", "close together"),
            ("square", "close together"),
            ("secp256k1", "named curves"),
            ("P-256-explicit", "named curves"),
            ("P-256-compressed", "in full"),
            ("P-256-infinity", "in full"),
            ("P-256-off-curve", "off its curve"),
            ("Ed25519-identity", "small order"),
            ("Ed25519-order-8", "small order"),
            ("RSA-PSS-key", "1.2.840.113549.1.1.10"),
        ];
        for (name, words) in cases {
            let problem = PublicKey::from_spki_der(&test_key(name)).unwrap_err().to_string();
            assert!(problem.contains(words), "{name}: {problem}");
        }
    }

    #[test]
    fn foreign_keys_may_have_other_sizes() {
        for name in ["RSA-2056", "RSA-exponent-3", "P-384"] {
            assert!(VerifyingKey::from_spki_der(&test_key(name)).is_ok(), "{name}");
        }
        for name in ["RSA-1024", "secp256k1", "P-256-explicit", "P-256-off-curve", "Ed25519-identity"] {
            assert!(VerifyingKey::from_spki_der(&test_key(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn every_other_encoding_of_a_key_is_refused() {
        for name in ["P-256", "RSA-2048", "Ed25519"] {
            let spki = test_key(name);
            for length in 0..spki.len() {
                assert!(PublicKey::from_spki_der(&spki[..length]).is_err());
            }
            assert!(PublicKey::from_spki_der(&[&spki[..], &[0]].concat()).is_err());
        }
    }
}
