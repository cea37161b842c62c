//! PKCS#12 files (RFC 7292), written and never read, in two encryptions: what every current program reads, AES-256-CBC and
//! PBKDF2 with HMAC-SHA-256 (PBES2, RFC 8018) under a MAC with SHA-256, and what old Java and Windows read, three-key
//! triple DES and a MAC with SHA-1 (RFC 7292 appendix C).
//!
//! A file for a sync is the same octets for the same certificates, key, alias and password, so that a file that is there can
//! be compared with the file that is wanted without opening it. For that its salts are drawn from the private key and the
//! contents by HMAC: nobody without the key can foresee them, and they differ whenever the contents do. The password is not
//! drawn in, since a salt is public and would help to guess it. A file that somebody asks for is drawn from randomness.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{digest, hmac, pbkdf2};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockEncryptMut, KeyIvInit};
use std::num::NonZeroU32;
use x509::der::{Writer, tag};
use zeroize::Zeroizing;

/// How often the password is hashed, for encryption and for the MAC.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");
const SALT_OCTETS: usize = 16;
/// RFC 7292 appendix C: old programs take salts of this length only.
const LEGACY_SALT_OCTETS: usize = 8;
const AES_IV_OCTETS: usize = 16;
const TRIPLE_DES_KEY_OCTETS: usize = 24;
const TRIPLE_DES_BLOCK_OCTETS: usize = 8;
/// The block of SHA-1 and of SHA-256.
const DIGEST_BLOCK_OCTETS: usize = 64;

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
/// 1.3.14.3.2.26 SHA-1.
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
/// 1.2.840.113549.1.12.1.3 pbeWithSHAAnd3-KeyTripleDES-CBC.
const TRIPLE_DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1, 3];

/// How a file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// AES-256 and SHA-256.
    Modern,
    /// Triple DES and SHA-1, for programs that read nothing else.
    Legacy,
}

/// What a file holds.
pub struct Contents<'a> {
    /// The certificates in DER, the leaf first.
    pub certificates: &'a [&'a [u8]],
    /// The leaf's private key, PKCS#8 in DER.
    pub key: Option<&'a [u8]>,
    /// The name of leaf and key in the file.
    pub alias: &'a str,
    /// What it is sealed with.
    pub password: &'a str,
}

/// Writes a file that the same contents give again.
pub fn write_again(contents: &Contents<'_>) -> Vec<u8> {
    write(contents, Encryption::Modern, &Salts::of(contents, contents.key.unwrap_or_default()))
}

/// Writes a file whose salts come from this random seed.
pub fn write_once(contents: &Contents<'_>, encryption: Encryption, seed: &[u8; 32]) -> Vec<u8> {
    write(contents, encryption, &Salts::of(contents, seed))
}

fn write(contents: &Contents<'_>, encryption: Encryption, salts: &Salts) -> Vec<u8> {
    let seal = |purpose: &str, octets: Vec<u8>| match encryption {
        Encryption::Modern => seal(contents.password, salts, purpose, octets),
        Encryption::Legacy => seal_legacy(contents.password, salts, purpose, octets),
    };
    let key_id = contents.certificates.first().map(|leaf| x509::digest::sha1(leaf)).unwrap_or_default();
    let certificates = written(|writer| {
        writer.sequence(|writer| {
            for (place, certificate) in contents.certificates.iter().enumerate() {
                let named = (place == 0).then_some((contents.alias, &key_id));
                certificate_bag(writer, certificate, named);
            }
        });
    });
    let sealed = seal("certificates", certificates);
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
                data(writer, &key_bag(seal("key", key.to_vec()), contents.alias, &key_id));
            }
        });
    });
    let mac = Mac::of(contents.password, salts, encryption, &safe);
    written(|writer| {
        writer.sequence(|writer| {
            writer.unsigned_u64(3);
            data(writer, &safe);
            writer.sequence(|writer| {
                writer.sequence(|writer| {
                    writer.sequence(|writer| {
                        writer.oid(mac.digest);
                        writer.null();
                    });
                    writer.octet_string(mac.value.as_ref());
                });
                writer.octet_string(&mac.salt);
                writer.unsigned_u64(ITERATIONS.get().into());
            });
        });
    })
}

/// The MAC over a file's contents.
struct Mac {
    digest: &'static [u8],
    salt: Vec<u8>,
    value: hmac::Tag,
}

impl Mac {
    fn of(password: &str, salts: &Salts, encryption: Encryption, safe: &[u8]) -> Self {
        let (digest, hash, algorithm, salt_octets) = match encryption {
            Encryption::Modern => (SHA256, Hash::Sha256, hmac::HMAC_SHA256, SALT_OCTETS),
            Encryption::Legacy => (SHA1, Hash::Sha1, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, LEGACY_SALT_OCTETS),
        };
        let salt = salts.draw("mac", salt_octets);
        let key = derive(hash, Purpose::Mac, password, &salt, hash.octets());
        Self { digest, salt, value: hmac::sign(&hmac::Key::new(algorithm, &key), safe) }
    }
}

/// Octets that nobody foresees who does not have the secret, and that it gives again for the same contents.
struct Salts(hmac::Key, [u8; 32]);

impl Salts {
    fn of(contents: &Contents<'_>, secret: &[u8]) -> Self {
        let mut all = digest::Context::new(&digest::SHA256);
        for part in contents.certificates.iter().copied().chain([contents.alias.as_bytes()]) {
            all.update(&part.len().to_be_bytes());
            all.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(all.finish().as_ref());
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret), digest)
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
    let mut iv = [0; AES_IV_OCTETS];
    iv.copy_from_slice(&salts.draw(&format!("{purpose}-iv"), AES_IV_OCTETS));
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

/// RFC 7292 appendix C: key and initialisation vector both come from the password.
fn seal_legacy(password: &str, salts: &Salts, purpose: &str, octets: Vec<u8>) -> Sealed {
    let octets = Zeroizing::new(octets);
    let salt = salts.draw(purpose, LEGACY_SALT_OCTETS);
    let key = derive(Hash::Sha1, Purpose::Key, password, &salt, TRIPLE_DES_KEY_OCTETS);
    let iv = derive(Hash::Sha1, Purpose::Iv, password, &salt, TRIPLE_DES_BLOCK_OCTETS);
    let cipher = cbc::Encryptor::<des::TdesEde3>::new_from_slices(&key, &iv).expect("both have the cipher's length");
    // The padding fills the last block, or is one of its own.
    let mut sealed = vec![0; (octets.len() / TRIPLE_DES_BLOCK_OCTETS + 1) * TRIPLE_DES_BLOCK_OCTETS];
    cipher.encrypt_padded_b2b_mut::<Pkcs7>(&octets, &mut sealed).expect("there is room for the padding");
    let algorithm = written(|writer| {
        writer.sequence(|writer| {
            writer.oid(TRIPLE_DES);
            writer.sequence(|writer| {
                writer.octet_string(&salt);
                writer.unsigned_u64(ITERATIONS.get().into());
            });
        });
    });
    Sealed { algorithm, octets: sealed }
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

fn key_bag(sealed: Sealed, alias: &str, key_id: &[u8; 20]) -> Vec<u8> {
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
                attributes(writer, alias, key_id);
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

/// What octets are derived for (RFC 7292 appendix B.3).
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// What the derivation hashes with.
#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    const fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn of(self, octets: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha1 => x509::digest::sha1(octets).to_vec(),
            Self::Sha256 => x509::digest::sha256(octets).to_vec(),
        })
    }
}

/// Octets from a password: RFC 7292 appendix B.2.
fn derive(hash: Hash, purpose: Purpose, password: &str, salt: &[u8], octets: usize) -> Zeroizing<Vec<u8>> {
    let password: Zeroizing<Vec<u8>> =
        Zeroizing::new(password.encode_utf16().chain([0]).flat_map(u16::to_be_bytes).collect());
    let mut input = Zeroizing::new(Vec::new());
    for part in [salt, password.as_slice()] {
        let length = part.len().next_multiple_of(DIGEST_BLOCK_OCTETS);
        input.extend(part.iter().cycle().take(length));
    }
    let diversifier = [purpose as u8; DIGEST_BLOCK_OCTETS];
    let mut derived = Zeroizing::new(Vec::with_capacity(octets + hash.octets()));
    while derived.len() < octets {
        let mut block = hash.of(&Zeroizing::new([&diversifier, input.as_slice()].concat()));
        for _ in 1..ITERATIONS.get() {
            block = hash.of(&block);
        }
        derived.extend_from_slice(&block);
        for part in input.chunks_exact_mut(DIGEST_BLOCK_OCTETS) {
            add_one_and(part, &block);
        }
    }
    derived.truncate(octets);
    derived
}

/// Adds one and a number that is made of a block again and again, modulo what fits (step 6 C).
fn add_one_and(part: &mut [u8], block: &[u8]) {
    let repeated: Zeroizing<Vec<u8>> = Zeroizing::new(block.iter().copied().cycle().take(part.len()).collect());
    let mut carry = 1;
    for (octet, added) in part.iter_mut().zip(repeated.iter()).rev() {
        let sum = u16::from(*octet) + u16::from(*added) + carry;
        *octet = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

fn written(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    fill(&mut writer);
    writer.into_bytes()
}
