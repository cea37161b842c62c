//! What registries, devices and brokers prove themselves with: certificates, matched exactly, and passwords.

use super::{Owner, PasswordId, RegistryId, TrustedAuthorityId};
use crate::error::{Error, Result, Violation};
use crate::id::{AuthorityKeyId, ProjectId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use x509::Certificate;
use x509::pem;

/// How many certificates an owner has at most, unless configured otherwise (contract §5.1).
pub const CERTIFICATES_PER_OWNER: usize = 5;
/// How many passwords an owner has at most, unless configured otherwise: one tool adds the new ones before it removes the
/// old ones (contract §5.1).
pub const PASSWORDS_PER_OWNER: usize = 10;
/// The greatest length of a fingerprint that a caller may send.
pub const FINGERPRINT_CHARACTERS_MAX: usize = 128;
/// The lengths of a password, in characters.
const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 14..=256;
/// The greatest length of a certificate as it is handed in, in octets.
const CERTIFICATE_DATA_MAX: usize = 64 * 1024;

/// A certificate that an owner connects with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredCertificate {
    /// What it is known by.
    pub fingerprint: Fingerprints,
    /// The project of its owner.
    pub project: ProjectId,
    /// Whose it is.
    pub owner: Owner,
    /// The registry that it counts for: its own, or its device's.
    pub registry: Option<RegistryId>,
    /// As it was handed in, byte for byte.
    pub certificate_data: String,
    /// From when it holds.
    pub not_before: Time,
    /// Until when it holds.
    pub not_after: Time,
    /// Whether it gives access.
    pub state: CertificateState,
    /// Which key of ours signed it, and by which serial number, when one did.
    pub issued_by: Option<(AuthorityKeyId, Vec<u8>)>,
    /// The trust by which it was taken in, when it was by one.
    pub trusted_authority: Option<TrustedAuthorityId>,
    /// When it was registered.
    pub created_at: Time,
}

/// The digests of a certificate's DER. Who connects is recognised by SHA-256 alone: SHA-1 is only for looking up what
/// somebody names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// SHA-1.
    pub sha1: [u8; 20],
    /// What the vendor called it, when it was imported.
    pub imported: Option<String>,
}

/// Which digest is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FingerprintFormat {
    /// 64 lower-case hexadecimal digits.
    #[default]
    Sha256,
    /// 40 lower-case hexadecimal digits, as the vendor shows.
    Sha1,
}

/// A fingerprint that a caller names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FingerprintQuery {
    /// By SHA-256.
    Sha256([u8; 32]),
    /// By SHA-1.
    Sha1([u8; 20]),
    /// By what the vendor called it.
    Imported(String),
}

/// Whether a registered certificate gives access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificateState {
    /// It does.
    Active,
    /// It does not, for now.
    Inactive,
    /// It does not any more.
    Revoked,
}

/// A password of an owner. The hash stays in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredPassword {
    /// Its id.
    pub id: PasswordId,
    /// Whose it is.
    pub owner: Owner,
    /// When it was added.
    pub created_at: Time,
}

/// A certificate as somebody hands it in, read.
pub struct HandedIn {
    /// The text, unchanged.
    pub data: String,
    /// What it holds.
    pub certificate: Certificate,
}

impl HandedIn {
    /// Reads `certificate_data` (contract §5.1): one PEM block of one certificate with a key that can prove itself.
    /// Signature, names, dates, usages and extensions are not looked at. `field` is how the caller names it.
    pub fn read(data: &str, field: &str) -> Result<Self> {
        let refuse = |message: String| {
            let mut refusal = crate::Refusal::new(crate::Reason::Invalid, message.clone());
            refusal.violations.push(Violation::new(field, "certificate", message));
            Error::from(refusal)
        };
        if data.trim().is_empty() {
            return Err(refuse("certificate_data is empty: send one certificate in PEM form".into()));
        }
        if data.len() > CERTIFICATE_DATA_MAX {
            return Err(refuse(format!("certificate_data has {} octets, at most 65536 are taken", data.len())));
        }
        if data.contains('\0') {
            return Err(refuse("certificate_data holds U+0000, which no text in PEM form does".into()));
        }
        if data.contains("PRIVATE KEY-----") {
            return Err(refuse(
                "certificate_data holds a private key: keep it where it is, send the certificate alone".into(),
            ));
        }
        let mut blocks = pem::decode_all(data, pem::CERTIFICATE)
            .map_err(|error| refuse(format!("certificate_data is not a certificate in PEM form: {error}")))?;
        let (Some(der), true) = (blocks.pop(), blocks.is_empty()) else {
            return Err(refuse("certificate_data must hold exactly one block \"CERTIFICATE\"".into()));
        };
        let certificate =
            Certificate::from_der(der).map_err(|error| refuse(format!("this is not a certificate in DER: {error}")))?;
        if let Err(problem) = certificate.verifying_key() {
            return Err(refuse(format!("the key of the certificate cannot be used: {problem}")));
        }
        Ok(Self { data: data.to_owned(), certificate })
    }

    /// Its digests.
    pub fn fingerprints(&self) -> Fingerprints {
        Fingerprints { sha256: self.certificate.sha256(), sha1: self.certificate.sha1(), imported: None }
    }
}

impl Fingerprints {
    /// As it is shown.
    pub fn shown(&self, format: FingerprintFormat) -> String {
        match format {
            FingerprintFormat::Sha256 => hex(&self.sha256),
            FingerprintFormat::Sha1 => hex(&self.sha1),
        }
    }
}

impl Fingerprints {
    /// Whether this is what somebody names, who wrote it like this.
    pub fn is(&self, query: &FingerprintQuery, written: &str) -> bool {
        match query {
            FingerprintQuery::Sha256(sha256) => self.sha256 == *sha256,
            FingerprintQuery::Sha1(sha1) => self.sha1 == *sha1 || self.imported.as_deref() == Some(written),
            FingerprintQuery::Imported(name) => self.imported.as_deref() == Some(name),
        }
    }
}

impl FingerprintFormat {
    /// The format of that name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "sha256" => Some(Self::Sha256),
            "sha1" => Some(Self::Sha1),
            _ => None,
        }
    }
}

impl FingerprintQuery {
    /// What this text names: 64 or 40 hexadecimal digits in any case, with or without colons, or anything else that the
    /// vendor may have shown.
    pub fn parse(text: &str) -> Self {
        let digits: String = text.chars().filter(|character| *character != ':').collect();
        match unhex(&digits) {
            Some(octets) => match (<[u8; 32]>::try_from(&*octets), <[u8; 20]>::try_from(&*octets)) {
                (Ok(sha256), _) => Self::Sha256(sha256),
                (_, Ok(sha1)) => Self::Sha1(sha1),
                _ => Self::Imported(text.to_owned()),
            },
            None => Self::Imported(text.to_owned()),
        }
    }
}

impl CertificateState {
    /// The word on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
        }
    }

    /// The state of that word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Inactive, Self::Revoked].into_iter().find(|state| state.as_str() == text)
    }
}

impl fmt::Display for CertificateState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Refuses a password that is too short, too long, or of fewer than three kinds of characters (contract §5.3).
pub fn check_password(password: &str) -> Result<(), Violation> {
    let length = password.chars().count();
    if !PASSWORD_CHARACTERS.contains(&length) {
        let (least, most) = (PASSWORD_CHARACTERS.start(), PASSWORD_CHARACTERS.end());
        let message = format!("a password has {least} to {most} characters, this one has {length}");
        return Err(Violation::new("password", "length", message));
    }
    let has = |kind: fn(&char) -> bool| usize::from(password.chars().any(|character| kind(&character)));
    let kinds = has(char::is_ascii_lowercase)
        + has(char::is_ascii_uppercase)
        + has(char::is_ascii_digit)
        + has(|character| !character.is_ascii_alphanumeric());
    if kinds < 3 {
        return Err(Violation::new(
            "password",
            "classes",
            "a password has at least three of: lower-case letters, upper-case letters, digits, special characters",
        ));
    }
    Ok(())
}

/// Lower-case hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_understood_in_every_usual_form() {
        let sha256 = [0xab; 32];
        let plain = hex(&sha256);
        let colons = plain.as_bytes().chunks(2).map(|two| str::from_utf8(two).unwrap()).collect::<Vec<_>>().join(":");
        for text in [plain.clone(), plain.to_uppercase(), colons.clone(), colons.to_uppercase()] {
            assert_eq!(FingerprintQuery::parse(&text), FingerprintQuery::Sha256(sha256), "{text}");
        }
        assert_eq!(FingerprintQuery::parse(&"0f".repeat(20)), FingerprintQuery::Sha1([15; 20]));
        for text in ["", "zz", "abc", "0f0f"] {
            assert_eq!(FingerprintQuery::parse(text), FingerprintQuery::Imported(text.to_owned()));
        }
    }

    #[test]
    fn a_password_is_long_and_of_three_kinds() {
        for (password, is_taken) in [
            ("Passw0rdForYou", true),
            ("passw0rd-for-you", true),
            ("Пароль-длинный-1a", true),
            ("Passw0rdForMe", false),
            ("passwordpassword", false),
            ("passw0rdpassw0rd", false),
            ("", false),
        ] {
            assert_eq!(check_password(password).is_ok(), is_taken, "{password}");
        }
        assert!(check_password(&"aA1".repeat(85)).is_ok());
        assert!(check_password(&"aA1".repeat(86)).is_err());
    }

    #[test]
    fn what_is_not_one_certificate_is_refused() {
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for data in ["", "  \n", "MIIB", key, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(HandedIn::read(data, "certificate_data").is_err(), "{data}");
        }
    }
}
