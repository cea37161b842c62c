//! A key pair in software: made, read from PKCS#8, signed with.
//!
//! Not here: what may be signed and by whom. PKCS#8 is RFC 5958, with RFC 5915 (EC), RFC 8017 (RSA) and RFC 8410
//! (Ed25519); the public half is a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7).

use aws_lc_rs::{
    digest,
    encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, Pkcs8V1Der, PublicKeyX509Der},
    error::Unspecified,
    rand::SystemRandom,
    rsa::{KeySize, PublicEncryptingKey},
    signature::{
        self, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaParameters, UnparsedPublicKey,
    },
};
use x509::algorithm::{KeyAlgorithm, SignatureAlgorithm};

use crate::{KeyError, Secret};

/// A private key with its public half. The library wipes its memory when it is dropped.
pub struct PrivateKey {
    algorithm: KeyAlgorithm,
    public_spki_der: Box<[u8]>,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// A new key pair, made on the calling thread: microseconds for EC and Ed25519, up to seconds for RSA, which
    /// belongs into [`crate::KeyPool::generate`].
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            KeyAlgorithm::Rsa2048 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::Rsa),
            KeyAlgorithm::Rsa3072 => RsaKeyPair::generate(KeySize::Rsa3072).map(Pair::Rsa),
            KeyAlgorithm::Rsa4096 => RsaKeyPair::generate(KeySize::Rsa4096).map(Pair::Rsa),
            KeyAlgorithm::EcP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Pair::Ecdsa),
            KeyAlgorithm::EcP384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Pair::Ecdsa),
            KeyAlgorithm::EcP521 => EcdsaKeyPair::generate(&ECDSA_P521_SHA512_ASN1_SIGNING).map(Pair::Ecdsa),
            KeyAlgorithm::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Self::from_pair(algorithm, pair.map_err(|_| failed("key generation"))?)
    }

    /// Reads a PKCS#8 PrivateKeyInfo, and checks that its parts fit together.
    ///
    /// [`KeyError::Unsupported`] for another algorithm, curve or RSA size than those of [`KeyAlgorithm`],
    /// [`KeyError::Malformed`] for everything else that is wrong.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |_| KeyError::Malformed;
        match pkcs8_kind(der)? {
            Pkcs8Kind::Rsa => {
                let pair = RsaKeyPair::from_pkcs8(der).map_err(malformed)?;
                Self::from_pair(rsa_algorithm(&pair)?, Pair::Rsa(pair))
            }
            Pkcs8Kind::Ecdsa(algorithm, signing) => {
                Self::from_pair(algorithm, Pair::Ecdsa(EcdsaKeyPair::from_pkcs8(signing, der).map_err(malformed)?))
            }
            Pkcs8Kind::Ed25519 => Self::from_pair(
                KeyAlgorithm::Ed25519,
                Pair::Ed25519(Ed25519KeyPair::from_pkcs8(der).map_err(malformed)?),
            ),
        }
    }

    /// The private key itself, as a PKCS#8 version 1 PrivateKeyInfo in DER: what stands in a `PRIVATE KEY` PEM block.
    ///
    /// Two callers are meant: sealing the key for the database, and handing an exportable leaf key to who may read it.
    pub fn export_pkcs8(&self) -> Result<Secret, KeyError> {
        let exported = match &self.pair {
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(pair).map(|der| Secret::new(der.as_ref().to_vec())),
            Pair::Ecdsa(pair) => ecdsa_pkcs8(self.algorithm, pair),
            // Version 2, which holds the public key too, is not read by OpenSSL before 3.5 and by Java.
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|document| Secret::new(document.as_ref().to_vec())),
        };
        exported.map_err(|_| failed("key export"))
    }

    /// Kind and size of the key.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The public half: a SubjectPublicKeyInfo in DER.
    pub fn public_spki_der(&self) -> &[u8] {
        &self.public_spki_der
    }

    /// Signs bytes, on the calling thread. ECDSA signatures are ASN.1 (RFC 3279 §2.2.3), RSA is PKCS#1 v1.5.
    ///
    /// The building block: it does not ask what the bytes are. A certificate is signed through the one path that takes
    /// an approved to-be-signed value. [`KeyError::Unsupported`] when the key does not make such signatures.
    pub fn sign_message(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match (&self.pair, algorithm) {
            (Pair::Rsa(pair), SignatureAlgorithm::RsaSha256) => sign_rsa(pair, &RSA_SHA256, message),
            (Pair::Rsa(pair), SignatureAlgorithm::RsaSha384) => sign_rsa(pair, &RSA_SHA384, message),
            (Pair::Rsa(pair), SignatureAlgorithm::RsaSha512) => sign_rsa(pair, &RSA_SHA512, message),
            (Pair::Ecdsa(pair), SignatureAlgorithm::EcdsaSha256) => self.sign_ecdsa(pair, &digest::SHA256, message),
            (Pair::Ecdsa(pair), SignatureAlgorithm::EcdsaSha384) => self.sign_ecdsa(pair, &digest::SHA384, message),
            (Pair::Ecdsa(pair), SignatureAlgorithm::EcdsaSha512) => self.sign_ecdsa(pair, &digest::SHA512, message),
            (Pair::Ed25519(pair), SignatureAlgorithm::Ed25519) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec()).map_err(|_| failed("signing"))
            }
            (Pair::Rsa(_) | Pair::Ecdsa(_) | Pair::Ed25519(_), _) => Err(KeyError::Unsupported),
        }
    }

    fn from_pair(algorithm: KeyAlgorithm, pair: Pair) -> Result<Self, KeyError> {
        // The fixed beginnings save the library's encoder, which costs as much as making the key.
        let public_spki_der = match &pair {
            Pair::Rsa(pair) => rsa_spki(pair)?,
            Pair::Ecdsa(pair) => [spki_prefix(algorithm), pair.public_key().as_ref()].concat(),
            Pair::Ed25519(pair) => [spki_prefix(algorithm), pair.public_key().as_ref()].concat(),
        };
        Ok(Self { algorithm, public_spki_der: public_spki_der.into(), pair })
    }

    /// ECDSA over any of the three hashes with one parsed key per curve.
    ///
    /// The library ties each curve to a hash of the same size. FIPS 186-5 §6.4.1 takes the leftmost bits of the hash,
    /// as many as the curve's order has, as an integer; so a longer hash may be cut to that length beforehand, and a
    /// shorter one may have zeros before it: the integer, and with it the signature, is the same.
    fn sign_ecdsa(
        &self,
        pair: &EcdsaKeyPair,
        hash: &'static digest::Algorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, KeyError> {
        let own_hash = match self.algorithm {
            KeyAlgorithm::EcP256 => &digest::SHA256,
            KeyAlgorithm::EcP384 => &digest::SHA384,
            KeyAlgorithm::EcP521 => &digest::SHA512,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 | KeyAlgorithm::Ed25519 => {
                return Err(KeyError::Unsupported);
            }
        };
        let signed = if hash == own_hash {
            pair.sign(&SystemRandom::new(), message)
        } else {
            let fitted = fit_hash(digest::digest(hash, message).as_ref(), own_hash.output_len());
            digest::Digest::import_less_safe(&fitted, own_hash).and_then(|digest| pair.sign_digest(&digest))
        };
        signed.map(|signature| signature.as_ref().to_vec()).map_err(|_| failed("signing"))
    }
}

/// How an RSA signature is made and how it is verified.
struct RsaScheme {
    encoding: &'static signature::RsaSignatureEncoding,
    verification: &'static RsaParameters,
}

static RSA_SHA256: RsaScheme =
    RsaScheme { encoding: &signature::RSA_PKCS1_SHA256, verification: &signature::RSA_PKCS1_2048_8192_SHA256 };
static RSA_SHA384: RsaScheme =
    RsaScheme { encoding: &signature::RSA_PKCS1_SHA384, verification: &signature::RSA_PKCS1_2048_8192_SHA384 };
static RSA_SHA512: RsaScheme =
    RsaScheme { encoding: &signature::RSA_PKCS1_SHA512, verification: &signature::RSA_PKCS1_2048_8192_SHA512 };

fn sign_rsa(pair: &RsaKeyPair, scheme: &RsaScheme, message: &[u8]) -> Result<Vec<u8>, KeyError> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(scheme.encoding, &SystemRandom::new(), message, &mut signature).map_err(|_| failed("signing"))?;
    verified(pair.public_key().as_ref(), scheme, message, signature)
}

/// The signature, if it verifies. An RSA signature that a fault has spoilt half-way gives the private key away (Boneh,
/// DeMillo, Lipton 1997), so none leaves unchecked; that costs about a thirtieth of making it.
fn verified(public_key: &[u8], scheme: &RsaScheme, message: &[u8], signature: Vec<u8>) -> Result<Vec<u8>, KeyError> {
    match UnparsedPublicKey::new(scheme.verification, public_key).verify(message, &signature) {
        Ok(()) => Ok(signature),
        Err(_) => Err(KeyError::Failed("an RSA signature did not verify and was dropped".to_owned())),
    }
}

/// The leftmost bytes of a hash, or the hash with zeros before it, in the given length.
fn fit_hash(hash: &[u8], length: usize) -> Vec<u8> {
    let kept = &hash[..hash.len().min(length)];
    let mut fitted = vec![0; length - kept.len()];
    fitted.extend_from_slice(kept);
    fitted
}

/// The library's encoder asks for half of what making the key costs; around scalar and point all is fixed.
fn ecdsa_pkcs8(algorithm: KeyAlgorithm, pair: &EcdsaKeyPair) -> Result<Secret, Unspecified> {
    let scalar: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes()?;
    let parts =
        [pkcs8_before_scalar(algorithm), scalar.as_ref(), pkcs8_before_point(algorithm), pair.public_key().as_ref()];
    // Whole capacity at once: a growing vector would leave parts of the key behind.
    let mut der = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| der.extend_from_slice(part));
    Ok(Secret::new(der))
}

fn rsa_spki(pair: &RsaKeyPair) -> Result<Vec<u8>, KeyError> {
    AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key())
        .map(|der| der.as_ref().to_vec())
        .map_err(|_| failed("public key encoding"))
}

fn rsa_algorithm(pair: &RsaKeyPair) -> Result<KeyAlgorithm, KeyError> {
    let public_key = PublicEncryptingKey::from_der(&rsa_spki(pair)?).map_err(|_| KeyError::Malformed)?;
    match public_key.key_size_bits() {
        2048 => Ok(KeyAlgorithm::Rsa2048),
        3072 => Ok(KeyAlgorithm::Rsa3072),
        4096 => Ok(KeyAlgorithm::Rsa4096),
        _ => Err(KeyError::Unsupported),
    }
}

/// The SubjectPublicKeyInfo up to the key's own bytes (RFC 5480 §2, RFC 8410 §4). RSA has no fixed one.
pub(crate) const fn spki_prefix(algorithm: KeyAlgorithm) -> &'static [u8] {
    match algorithm {
        KeyAlgorithm::EcP256 => {
            b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
        }
        KeyAlgorithm::EcP384 => {
            b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00"
        }
        KeyAlgorithm::EcP521 => {
            b"\x30\x81\x9b\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\x03\x81\x86\x00"
        }
        KeyAlgorithm::Ed25519 => b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => b"",
    }
}

/// A PrivateKeyInfo with an ECPrivateKey (RFC 5915 §3, without the parameters, which stand in the AlgorithmIdentifier)
/// up to the private scalar. Only EC keys have one.
pub(crate) const fn pkcs8_before_scalar(algorithm: KeyAlgorithm) -> &'static [u8] {
    match algorithm {
        KeyAlgorithm::EcP256 => {
            b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
              \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
              \x04\x6d\x30\x6b\x02\x01\x01\x04\x20"
        }
        KeyAlgorithm::EcP384 => {
            b"\x30\x81\xb6\x02\x01\x00\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\
              \x04\x81\x9e\x30\x81\x9b\x02\x01\x01\x04\x30"
        }
        KeyAlgorithm::EcP521 => {
            b"\x30\x81\xee\x02\x01\x00\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23\
              \x04\x81\xd6\x30\x81\xd3\x02\x01\x01\x04\x42"
        }
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 | KeyAlgorithm::Ed25519 => b"",
    }
}

/// What stands between the private scalar and the public point.
pub(crate) const fn pkcs8_before_point(algorithm: KeyAlgorithm) -> &'static [u8] {
    match algorithm {
        KeyAlgorithm::EcP256 => b"\xa1\x44\x03\x42\x00",
        KeyAlgorithm::EcP384 => b"\xa1\x64\x03\x62\x00",
        KeyAlgorithm::EcP521 => b"\xa1\x81\x89\x03\x81\x86\x00",
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 | KeyAlgorithm::Ed25519 => b"",
    }
}

/// What a PKCS#8 document says it holds.
enum Pkcs8Kind {
    Rsa,
    Ecdsa(KeyAlgorithm, &'static EcdsaSigningAlgorithm),
    Ed25519,
}

/// Reads the algorithm only; the library parses and checks the rest.
fn pkcs8_kind(der: &[u8]) -> Result<Pkcs8Kind, KeyError> {
    const RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
    const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
    const P521: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x23";
    const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

    // PrivateKeyInfo ::= SEQUENCE { version INTEGER, AlgorithmIdentifier SEQUENCE { OID, parameters }, … }
    let (declared_length, content) = match der {
        [0x30, 0x82, high, low, content @ ..] => (usize::from(*high) << 8 | usize::from(*low), content),
        [0x30, 0x81, length, content @ ..] => (usize::from(*length), content),
        [0x30, length, content @ ..] if *length < 0x80 => (usize::from(*length), content),
        _ => return Err(KeyError::Malformed),
    };
    // The library reads one structure and does not look behind it.
    if content.len() != declared_length {
        return Err(KeyError::Malformed);
    }
    let identifier = match content {
        [0x02, 0x01, 0x00 | 0x01, 0x30, length, rest @ ..] if *length < 0x80 => rest.get(..usize::from(*length)),
        _ => None,
    };
    let identifier = identifier.ok_or(KeyError::Malformed)?;
    if identifier.starts_with(RSA) {
        return Ok(Pkcs8Kind::Rsa);
    }
    if identifier == ED25519 {
        return Ok(Pkcs8Kind::Ed25519);
    }
    match identifier.strip_prefix(EC) {
        Some(P256) => Ok(Pkcs8Kind::Ecdsa(KeyAlgorithm::EcP256, &ECDSA_P256_SHA256_ASN1_SIGNING)),
        Some(P384) => Ok(Pkcs8Kind::Ecdsa(KeyAlgorithm::EcP384, &ECDSA_P384_SHA384_ASN1_SIGNING)),
        Some(P521) => Ok(Pkcs8Kind::Ecdsa(KeyAlgorithm::EcP521, &ECDSA_P521_SHA512_ASN1_SIGNING)),
        _ => Err(KeyError::Unsupported),
    }
}

fn failed(what: &str) -> KeyError {
    KeyError::Failed(format!("{what} failed in the cryptographic library"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::VerificationAlgorithm;

    const MESSAGE: &[u8] = b"to be signed";

    /// The library's verifier of the combination, or `None` when a key of this kind does not sign so.
    fn verifier(key: KeyAlgorithm, algorithm: SignatureAlgorithm) -> Option<&'static dyn VerificationAlgorithm> {
        use KeyAlgorithm::{EcP256, EcP384, EcP521};
        use SignatureAlgorithm::{EcdsaSha256, EcdsaSha384, EcdsaSha512, RsaSha256, RsaSha384, RsaSha512};
        if key.family() != algorithm.family() {
            return None;
        }
        Some(match (key, algorithm) {
            (_, RsaSha256) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (_, RsaSha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
            (_, RsaSha512) => &signature::RSA_PKCS1_2048_8192_SHA512,
            (_, SignatureAlgorithm::Ed25519) => &signature::ED25519,
            (EcP256, EcdsaSha256) => &signature::ECDSA_P256_SHA256_ASN1,
            (EcP256, EcdsaSha384) => &signature::ECDSA_P256_SHA384_ASN1,
            (EcP256, EcdsaSha512) => &signature::ECDSA_P256_SHA512_ASN1,
            (EcP384, EcdsaSha256) => &signature::ECDSA_P384_SHA256_ASN1,
            (EcP384, EcdsaSha384) => &signature::ECDSA_P384_SHA384_ASN1,
            (EcP384, EcdsaSha512) => &signature::ECDSA_P384_SHA512_ASN1,
            (EcP521, EcdsaSha256) => &signature::ECDSA_P521_SHA256_ASN1,
            (EcP521, EcdsaSha384) => &signature::ECDSA_P521_SHA384_ASN1,
            (EcP521, EcdsaSha512) => &signature::ECDSA_P521_SHA512_ASN1,
            _ => return None,
        })
    }

    fn public_bytes(key: &PrivateKey) -> &[u8] {
        match &key.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    #[test]
    fn every_key_makes_every_signature_of_its_family_and_no_other() {
        let mut combinations = 0;
        for key_algorithm in KeyAlgorithm::ALL {
            let key = PrivateKey::generate(key_algorithm).unwrap();
            for algorithm in SignatureAlgorithm::ALL {
                let signed = key.sign_message(algorithm, MESSAGE);
                match verifier(key_algorithm, algorithm) {
                    Some(verifier) => {
                        let public = UnparsedPublicKey::new(verifier, public_bytes(&key));
                        let signature = signed.unwrap();
                        assert!(public.verify(MESSAGE, &signature).is_ok(), "{key_algorithm} {algorithm}");
                        assert!(public.verify(b"other", &signature).is_err(), "{key_algorithm} {algorithm}");
                        combinations += 1;
                    }
                    None => assert_eq!(signed, Err(KeyError::Unsupported), "{key_algorithm} {algorithm}"),
                }
            }
        }
        assert_eq!(combinations, 3 * 3 + 3 * 3 + 1);
    }

    #[test]
    fn an_exported_key_is_read_back_as_the_same_key() {
        for algorithm in KeyAlgorithm::ALL {
            let key = PrivateKey::generate(algorithm).unwrap();
            let exported = key.export_pkcs8().unwrap();
            let read = PrivateKey::from_pkcs8(exported.expose()).unwrap();
            assert_eq!(read.algorithm(), algorithm);
            assert_eq!(read.public_spki_der(), key.public_spki_der(), "{algorithm}");
            assert!(read.export_pkcs8().unwrap().constant_time_eq(exported.expose()), "{algorithm}");
            // PrivateKeyInfo, version 0 (RFC 5208 §5).
            assert!(exported.expose()[..8].windows(3).any(|part| part == [0x02, 0x01, 0x00]), "{algorithm}");
        }
    }

    #[test]
    fn the_public_half_is_encoded_as_the_library_does() {
        for algorithm in KeyAlgorithm::ALL {
            let key = PrivateKey::generate(algorithm).unwrap();
            let expected: PublicKeyX509Der<'_> = match &key.pair {
                Pair::Rsa(pair) => pair.public_key().as_der(),
                Pair::Ecdsa(pair) => pair.public_key().as_der(),
                Pair::Ed25519(pair) => pair.public_key().as_der(),
            }
            .unwrap();
            assert_eq!(key.public_spki_der(), expected.as_ref(), "{algorithm}");
        }
    }

    #[test]
    fn an_ec_key_is_exported_as_the_library_does() {
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::EcP521] {
            let key = PrivateKey::generate(algorithm).unwrap();
            let Pair::Ecdsa(pair) = &key.pair else { panic!("{algorithm} is an EC key") };
            let expected = pair.to_pkcs8v1().unwrap();
            assert!(key.export_pkcs8().unwrap().constant_time_eq(expected.as_ref()), "{algorithm}");
        }
    }

    #[test]
    fn a_damaged_key_is_refused() {
        for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP521, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048] {
            let exported = PrivateKey::generate(algorithm).unwrap().export_pkcs8().unwrap();
            let der = exported.expose();
            for length in 0..der.len() {
                assert!(PrivateKey::from_pkcs8(&der[..length]).is_err(), "{algorithm} cut to {length}");
            }
            let longer = [der, &[0]].concat();
            assert!(PrivateKey::from_pkcs8(&longer).is_err(), "{algorithm} with a byte more");
        }
        // The private scalar of one key with the public point of another does not fit together.
        let exported = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap().export_pkcs8().unwrap();
        let other = PrivateKey::generate(KeyAlgorithm::EcP256).unwrap();
        let mut mixed = exported.expose().to_vec();
        let point = mixed.len() - 65;
        mixed[point..].copy_from_slice(&other.public_spki_der()[26..]);
        assert_eq!(PrivateKey::from_pkcs8(&mixed).map(|_| ()), Err(KeyError::Malformed));
    }

    #[test]
    fn a_faulty_rsa_signature_never_leaves() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        for scheme in [&RSA_SHA256, &RSA_SHA384, &RSA_SHA512] {
            let signature = sign_rsa(&pair, scheme, MESSAGE).unwrap();
            for bit in [0, 7, 1000, 2047] {
                let mut faulty = signature.clone();
                faulty[bit / 8] ^= 1 << (bit % 8);
                let answer = verified(pair.public_key().as_ref(), scheme, MESSAGE, faulty);
                assert!(matches!(answer, Err(KeyError::Failed(_))), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_hash_is_fitted_to_the_curve_without_changing_its_number() {
        assert_eq!(fit_hash(&[1, 2, 3], 2), [1, 2]);
        assert_eq!(fit_hash(&[1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(fit_hash(&[1, 2, 3], 5), [0, 0, 1, 2, 3]);
    }
}
