//! Our keys and signatures, read and verified by OpenSSL; and OpenSSL's keys, read by us.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use keys::{KeyError, PrivateKey};
use x509::algorithm::{KeyAlgorithm, SignatureAlgorithm};

fn openssl(folder: &Path, arguments: &str) -> Output {
    Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output().expect("openssl is installed")
}

/// Runs OpenSSL, which must succeed, and gives what it printed.
fn check_openssl(folder: &Path, arguments: &str) -> Vec<u8> {
    let output = openssl(folder, arguments);
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What `openssl pkey -text` calls a key of this kind.
fn openssl_name(algorithm: KeyAlgorithm) -> &'static str {
    match algorithm {
        KeyAlgorithm::Rsa2048 => "2048 bit, 2 primes",
        KeyAlgorithm::Rsa3072 => "3072 bit, 2 primes",
        KeyAlgorithm::Rsa4096 => "4096 bit, 2 primes",
        KeyAlgorithm::EcP256 => "prime256v1",
        KeyAlgorithm::EcP384 => "secp384r1",
        KeyAlgorithm::EcP521 => "secp521r1",
        KeyAlgorithm::Ed25519 => "ED25519 Private-Key",
    }
}

/// The command that verifies `signature` over `message` with `public.pem`.
fn verify_command(algorithm: SignatureAlgorithm) -> &'static str {
    match algorithm {
        SignatureAlgorithm::RsaSha256 | SignatureAlgorithm::EcdsaSha256 => {
            "dgst -sha256 -verify public.pem -signature signature message"
        }
        SignatureAlgorithm::RsaSha384 | SignatureAlgorithm::EcdsaSha384 => {
            "dgst -sha384 -verify public.pem -signature signature message"
        }
        SignatureAlgorithm::RsaSha512 | SignatureAlgorithm::EcdsaSha512 => {
            "dgst -sha512 -verify public.pem -signature signature message"
        }
        SignatureAlgorithm::Ed25519 => "pkeyutl -verify -rawin -pubin -inkey public.pem -in message -sigfile signature",
    }
}

#[test]
fn openssl_reads_every_exported_key_and_verifies_every_signature() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("message"), "to be signed").unwrap();
    for key_algorithm in KeyAlgorithm::ALL {
        let key = PrivateKey::generate(key_algorithm).unwrap();
        fs::write(at.join("key.der"), key.export_pkcs8().unwrap().expose()).unwrap();
        let text = check_openssl(at, "pkey -inform DER -in key.der -noout -text -check");
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(openssl_name(key_algorithm)), "{key_algorithm}: {text}");
        let public = check_openssl(at, "pkey -inform DER -in key.der -pubout -outform DER");
        assert_eq!(public, key.public_spki_der(), "{key_algorithm}");

        fs::write(at.join("public.der"), key.public_spki_der()).unwrap();
        check_openssl(at, "pkey -pubin -inform DER -in public.der -pubout -out public.pem");
        for algorithm in SignatureAlgorithm::ALL.into_iter().filter(|it| it.family() == key_algorithm.family()) {
            let signature = key.sign_message(algorithm, b"to be signed").unwrap();
            fs::write(at.join("signature"), &signature).unwrap();
            check_openssl(at, verify_command(algorithm));
            let signature = key.sign_message(algorithm, b"something else").unwrap();
            fs::write(at.join("signature"), &signature).unwrap();
            assert!(!openssl(at, verify_command(algorithm)).status.success(), "{key_algorithm} {algorithm}");
        }
    }
}

#[test]
fn keys_of_openssl_are_read_or_refused_by_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (options, expected) in [
        ("EC -pkeyopt ec_paramgen_curve:P-256", Ok(KeyAlgorithm::EcP256)),
        ("EC -pkeyopt ec_paramgen_curve:P-384", Ok(KeyAlgorithm::EcP384)),
        ("EC -pkeyopt ec_paramgen_curve:P-521", Ok(KeyAlgorithm::EcP521)),
        ("ED25519", Ok(KeyAlgorithm::Ed25519)),
        ("RSA -pkeyopt rsa_keygen_bits:2048", Ok(KeyAlgorithm::Rsa2048)),
        ("RSA -pkeyopt rsa_keygen_bits:3072", Ok(KeyAlgorithm::Rsa3072)),
        ("RSA -pkeyopt rsa_keygen_bits:2056", Err(KeyError::Unsupported)),
        ("RSA -pkeyopt rsa_keygen_bits:1024", Err(KeyError::Malformed)),
        ("EC -pkeyopt ec_paramgen_curve:secp256k1", Err(KeyError::Unsupported)),
        ("EC -pkeyopt ec_paramgen_curve:P-224", Err(KeyError::Unsupported)),
        ("EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", Err(KeyError::Malformed)),
        ("RSA-PSS -pkeyopt rsa_keygen_bits:2048", Err(KeyError::Unsupported)),
        ("ED448", Err(KeyError::Unsupported)),
        ("X25519", Err(KeyError::Unsupported)),
    ] {
        check_openssl(at, &format!("genpkey -out key.pem -algorithm {options}"));
        let der = check_openssl(at, "pkcs8 -topk8 -nocrypt -in key.pem -outform DER");
        assert_eq!(PrivateKey::from_pkcs8(&der).map(|key| key.algorithm()), expected, "{options}");
    }
}
