//! A private key as people have it in a file: PEM of PKCS#8 (RFC 5958), of PKCS#1 (RFC 8017 appendix A.1.2) or of SEC 1
//! (RFC 5915), not encrypted. The older two are what PKCS#8 wraps, so they are wrapped and read like the first.

use x509::der::{Reader, Writer, tag};
use x509::{ParseError, oid, pem};

use crate::{KeyError, PrivateKey, Secret};

/// The labels of keys that are read.
const LABELS: [&str; 3] = [pem::PRIVATE_KEY, pem::RSA_PRIVATE_KEY, pem::EC_PRIVATE_KEY];

impl PrivateKey {
    /// Reads the one private key in a PEM text.
    ///
    /// [`KeyError::Malformed`] without exactly one key that is not encrypted, else as [`PrivateKey::from_pkcs8`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut found = Vec::new();
        for label in LABELS {
            let blocks = pem::decode_all(text, label).map_err(malformed)?;
            found.extend(blocks.into_iter().map(|der| (label, Secret::new(der))));
        }
        let (Some((label, der)), true) = (found.pop(), found.is_empty()) else { return Err(KeyError::Malformed) };
        match label {
            pem::RSA_PRIVATE_KEY => {
                let wrapped = wrap(&der, |writer| {
                    writer.oid(oid::RSA_ENCRYPTION);
                    writer.null();
                });
                Self::from_pkcs8(wrapped.expose())
            }
            pem::EC_PRIVATE_KEY => {
                let curve = curve_of(der.expose()).map_err(malformed)?;
                let wrapped = wrap(&der, |writer| {
                    writer.oid(oid::EC_PUBLIC_KEY);
                    writer.oid(&curve);
                });
                Self::from_pkcs8(wrapped.expose())
            }
            _ => Self::from_pkcs8(der.expose()),
        }
    }
}

/// A PrivateKeyInfo around a key of that algorithm.
fn wrap(key: &Secret, algorithm: impl FnOnce(&mut Writer)) -> Secret {
    // Whole capacity at once: a growing vector would leave parts of the key behind.
    const AROUND_OCTETS: usize = 64;
    let mut writer = Writer::with_capacity(key.expose().len() + AROUND_OCTETS);
    writer.sequence(|writer| {
        writer.unsigned_u64(0);
        writer.sequence(algorithm);
        writer.octet_string(key.expose());
    });
    Secret::new(writer.into_bytes())
}

/// The curve that an ECPrivateKey names by itself.
fn curve_of(der: &[u8]) -> Result<Vec<u8>, ParseError> {
    const FIELD: &str = "ECPrivateKey";
    let mut outer = Reader::new(der);
    let mut key = outer.sequence(FIELD)?;
    key.unsigned_u32(FIELD)?;
    key.octet_string(FIELD)?;
    let mut parameters = key.nested(tag::context_constructed(0), FIELD)?;
    Ok(parameters.oid(FIELD)?.to_vec())
}

fn malformed(_: ParseError) -> KeyError {
    KeyError::Malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn openssl(arguments: &[&str], input: &str) -> String {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn every_form_of_a_file_is_the_same_key() {
        for (kind, option) in [
            ("RSA", "rsa_keygen_bits:2048"),
            ("EC", "ec_paramgen_curve:P-256"),
            ("EC", "ec_paramgen_curve:P-384"),
            ("EC", "ec_paramgen_curve:P-521"),
        ] {
            let plain = openssl(&["genpkey", "-algorithm", kind, "-pkeyopt", option], "");
            let older = openssl(&["pkey", "-traditional"], &plain);
            assert!(plain.contains("BEGIN PRIVATE KEY") && older.contains(&format!("BEGIN {kind} PRIVATE KEY")));
            let with_parameters =
                format!("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{older}");
            let expected = PrivateKey::from_pem(&plain).unwrap();
            for text in [older, with_parameters] {
                let key = PrivateKey::from_pem(&text).unwrap();
                assert_eq!(key.public_spki_der(), expected.public_spki_der(), "{kind} {option}");
            }
        }
        assert!(PrivateKey::from_pem(&openssl(&["genpkey", "-algorithm", "ED25519"], "")).is_ok());
    }

    #[test]
    fn what_is_not_one_open_key_of_ours_is_refused() {
        let plain = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "");
        let sealed = openssl(&["pkey", "-aes256", "-passout", "pass:secret"], &plain);
        let old_sealed = openssl(&["pkey", "-traditional", "-aes256", "-passout", "pass:secret"], &plain);
        let other_curve = openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"], "");
        let other_curve_older = openssl(&["pkey", "-traditional"], &other_curve);
        for (text, expected) in [
            (String::new(), KeyError::Malformed),
            (format!("{plain}{plain}"), KeyError::Malformed),
            (sealed, KeyError::Malformed),
            (old_sealed, KeyError::Malformed),
            (pem::encode(pem::PRIVATE_KEY, &[0x30, 0]), KeyError::Malformed),
            (pem::encode(pem::RSA_PRIVATE_KEY, &[0x30, 0]), KeyError::Malformed),
            (pem::encode(pem::EC_PRIVATE_KEY, &[0x30, 0]), KeyError::Malformed),
            (other_curve, KeyError::Unsupported),
            (other_curve_older, KeyError::Unsupported),
        ] {
            assert_eq!(PrivateKey::from_pem(&text).err(), Some(expected), "{text}");
        }
    }
}
