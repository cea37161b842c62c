//! PKCS#12 files (RFC 7292), written and never read: AES-256-CBC and PBKDF2 with HMAC-SHA-256 (PBES2, RFC 8018), and a MAC
//! with SHA-256.
//!
//! The same certificates, key, alias and password give the same octets, so that a file that is there can be compared with
//! the file that is wanted without opening it. For that the salts are drawn from the private key and the contents by HMAC:
//! nobody without the key can foresee them, and they differ whenever the contents do. The password is not drawn in, since a
//! salt is public and would help to guess it.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use x509::der::{Writer, tag};
use zeroize::Zeroizing;

/// How often the password is hashed, for encryption and for the MAC.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");
const SALT_OCTETS: usize = 16;
const IV_OCTETS: usize = 16;
/// The block of SHA-256.
const DIGEST_BLOCK_OCTETS: usize = 64;
/// RFC 7292 appendix B.3: what is derived is a key of a MAC.
const PURPOSE_MAC: u8 = 3;

/// 1.2.840.113549.1.7.1 data.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
/// 1.2.840.113549.1.7.6 encryptedData.
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
/// 1.2.840.113549.1.12.10.1.2 pkcs8ShroudedKeyBag.
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
/// 1.2.840.113549.1.12.10.1.3 certBag.
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
/// 1.2.840.113549.1.9.22.1 x509Certificate.
const X509_CERTIFICATE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
/// 1.2.840.113549.1.9.20 friendlyName.
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
/// 1.2.840.113549.1.9.21 localKeyId.
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
/// 1.2.840.113549.1.5.13 PBES2.
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
/// 1.2.840.113549.1.5.12 PBKDF2.
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
/// 1.2.840.113549.2.9 hmacWithSHA256.
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
/// 2.16.840.1.101.3.4.1.42 aes256-CBC-PAD.
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];
/// 2.16.840.1.101.3.4.2.1 SHA-256.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];

/// What a file holds.
pub(crate) struct Contents<'a> {
    /// The certificates in DER, the leaf first.
    pub certificates: &'a [&'a [u8]],
    /// The leaf's private key, PKCS#8 in DER.
    pub key: Option<&'a [u8]>,
    /// The name of leaf and key in the file.
    pub alias: &'a str,
    /// What it is sealed with.
    pub password: &'a str,
}

/// Writes a file.
pub(crate) fn write(contents: &Contents<'_>) -> Vec<u8> {
    let salts = Salts::of(contents);
    let key_id = contents.certificates.first().map(|leaf| x509::digest::sha1(leaf)).unwrap_or_default();
    let certificates = written(|writer| {
        writer.sequence(|writer| {
            for (place, certificate) in contents.certificates.iter().enumerate() {
                let named = (place == 0).then_some((contents.alias, &key_id));
                certificate_bag(writer, certificate, named);
            }
        });
    });
    let sealed = seal(contents.password, &salts, "certificates", certificates);
    let safe = written(|writer| {
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.oid(ENCRYPTED_DATA);
                writer.context(0, |writer| {
                    writer.sequence(|writer| {
                        writer.unsigned_u64(0);
                        writer.sequence(|writer| {
                            writer.oid(DATA);
                            writer.raw(&sealed.algorithm);
                            writer.primitive(tag::context(0), &sealed.octets);
                        });
                    });
                });
            });
            if let Some(key) = contents.key {
                data(writer, &key_bag(contents, &salts, key, &key_id));
            }
        });
    });
    let salt = salts.draw("mac", SALT_OCTETS);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, mac_key(contents.password, &salt).as_slice()), &safe);
    written(|writer| {
        writer.sequence(|writer| {
            writer.unsigned_u64(3);
            data(writer, &safe);
            writer.sequence(|writer| {
                writer.sequence(|writer| {
                    writer.sequence(|writer| {
                        writer.oid(SHA256);
                        writer.null();
                    });
                    writer.octet_string(mac.as_ref());
                });
                writer.octet_string(&salt);
                writer.unsigned_u64(ITERATIONS.get().into());
            });
        });
    })
}

/// Octets that nobody foresees and that the same contents give again.
struct Salts(hmac::Key, [u8; 32]);

impl Salts {
    fn of(contents: &Contents<'_>) -> Self {
        let mut all = digest::Context::new(&digest::SHA256);
        for part in contents.certificates.iter().copied().chain([contents.alias.as_bytes()]) {
            all.update(&part.len().to_be_bytes());
            all.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(all.finish().as_ref());
        Self(hmac::Key::new(hmac::HMAC_SHA256, contents.key.unwrap_or_default()), digest)
    }

    fn draw(&self, purpose: &str, octets: usize) -> Vec<u8> {
        let message = [b"chancery-pkcs12-".as_slice(), purpose.as_bytes(), &self.1].concat();
        hmac::sign(&self.0, &message).as_ref()[..octets].to_vec()
    }
}

/// Sealed octets, with the AlgorithmIdentifier that says how.
struct Sealed {
    algorithm: Vec<u8>,
    octets: Vec<u8>,
}

fn seal(password: &str, salts: &Salts, purpose: &str, mut octets: Vec<u8>) -> Sealed {
    let salt = salts.draw(purpose, SALT_OCTETS);
    let mut iv = [0; IV_OCTETS];
    iv.copy_from_slice(&salts.draw(&format!("{purpose}-iv"), IV_OCTETS));
    let mut key = Zeroizing::new([0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, password.as_bytes(), key.as_mut_slice());
    let cipher = UnboundCipherKey::new(&AES_256, key.as_slice())
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .expect("the key has the cipher's length");
    cipher
        .less_safe_encrypt(&mut octets, EncryptionContext::Iv128(FixedLength::from(&iv)))
        .expect("CBC with padding takes any length");
    let algorithm = written(|writer| {
        writer.sequence(|writer| {
            writer.oid(PBES2);
            writer.sequence(|writer| {
                writer.sequence(|writer| {
                    writer.oid(PBKDF2);
                    writer.sequence(|writer| {
                        writer.octet_string(&salt);
                        writer.unsigned_u64(ITERATIONS.get().into());
                        writer.sequence(|writer| {
                            writer.oid(HMAC_SHA256);
                            writer.null();
                        });
                    });
                });
                writer.sequence(|writer| {
                    writer.oid(AES_256_CBC);
                    writer.octet_string(&iv);
                });
            });
        });
    });
    Sealed { algorithm, octets }
}

fn certificate_bag(writer: &mut Writer, certificate: &[u8], named: Option<(&str, &[u8; 20])>) {
    writer.sequence(|writer| {
        writer.oid(CERTIFICATE_BAG);
        writer.context(0, |writer| {
            writer.sequence(|writer| {
                writer.oid(X509_CERTIFICATE);
                writer.context(0, |writer| writer.octet_string(certificate));
            });
        });
        if let Some((alias, key_id)) = named {
            attributes(writer, alias, key_id);
        }
    });
}

fn key_bag(contents: &Contents<'_>, salts: &Salts, key: &[u8], key_id: &[u8; 20]) -> Vec<u8> {
    let sealed = seal(contents.password, salts, "key", key.to_vec());
    written(|writer| {
        writer.sequence(|writer| {
            writer.sequence(|writer| {
                writer.oid(KEY_BAG);
                writer.context(0, |writer| {
                    writer.sequence(|writer| {
                        writer.raw(&sealed.algorithm);
                        writer.octet_string(&sealed.octets);
                    });
                });
                attributes(writer, contents.alias, key_id);
            });
        });
    })
}

fn attributes(writer: &mut Writer, alias: &str, key_id: &[u8; 20]) {
    let attribute = |oid: &[u8], tag: u8, value: &[u8]| {
        written(|writer| {
            writer.sequence(|writer| {
                writer.oid(oid);
                writer.set_of_one(|writer| writer.primitive(tag, value));
            });
        })
    };
    let name: Vec<u8> = alias.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let mut both =
        [attribute(FRIENDLY_NAME, tag::BMP_STRING, &name), attribute(LOCAL_KEY_ID, tag::OCTET_STRING, key_id)];
    // X.690 §11.6: a SET OF is in the order of its encodings.
    both.sort();
    writer.nested(tag::SET, |writer| both.iter().for_each(|one| writer.raw(one)));
}

/// A ContentInfo of the type data.
fn data(writer: &mut Writer, octets: &[u8]) {
    writer.sequence(|writer| {
        writer.oid(DATA);
        writer.context(0, |writer| writer.octet_string(octets));
    });
}

/// RFC 7292 appendix B.2 for one digest of output, which is all that a MAC with SHA-256 needs.
fn mac_key(password: &str, salt: &[u8]) -> Zeroizing<[u8; 32]> {
    let password: Zeroizing<Vec<u8>> =
        Zeroizing::new(password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect());
    let mut start = Zeroizing::new(vec![PURPOSE_MAC; DIGEST_BLOCK_OCTETS]);
    for part in [salt, password.as_slice()] {
        let length = part.len().next_multiple_of(DIGEST_BLOCK_OCTETS);
        start.extend(part.iter().cycle().take(length));
    }
    let mut key = Zeroizing::new(x509::digest::sha256(&start));
    for _ in 1..ITERATIONS.get() {
        *key = x509::digest::sha256(key.as_slice());
    }
    key
}

fn written(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    fill(&mut writer);
    writer.into_bytes()
}
