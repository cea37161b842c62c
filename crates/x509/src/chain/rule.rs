//! The rules that a path of certificates must keep, each with a name that programs can compare and a line for people.

use std::fmt;

use super::{Place, Refused};

macro_rules! rules {
    ($($(#[doc = $sentence:literal])* $variant:ident = $name:literal;)*) => {
        /// A rule that a certificate, or a path of certificates, breaks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[doc = $sentence])* $variant,)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name: lower case, with hyphens.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The rule in one sentence.
            pub fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($sentence),*).trim_ascii_start(),)*
                }
            }
        }
    };
}

rules! {
    // Signatures and keys.
    /// The signature must have been made by the issuer's key.
    SignatureInvalid = "signature-invalid";
    /// The signature algorithm must be RSA PKCS#1 v1.5 or ECDSA with SHA-256, SHA-384 or SHA-512, or Ed25519.
    SignatureAlgorithmNotAllowed = "signature-algorithm-not-allowed";
    /// The signature algorithm must be the same inside and outside of what is signed.
    SignatureAlgorithmMismatch = "signature-algorithm-mismatch";
    /// The public key must not be known to be weak.
    WeakKey = "weak-key";
    /// The public key must be RSA, ECDSA on P-256, P-384 or P-521, or Ed25519.
    UnsupportedKey = "unsupported-key";
    /// The curve of a public key must be named, not described.
    ExplicitCurve = "explicit-curve";

    // Fields.
    /// The certificate must be version 3.
    VersionNotThree = "version-not-3";
    /// The serial number must be positive and at most 20 octets long.
    SerialInvalid = "serial-invalid";
    /// The time must not be after the end of the validity.
    Expired = "expired";
    /// The time must not be before the beginning of the validity.
    NotYetValid = "not-yet-valid";
    /// The beginning and the end of the validity must be written in the form of RFC 5280.
    TimeMalformed = "time-malformed";
    /// The issuer must have a name.
    EmptyIssuer = "empty-issuer";
    /// The subject of an authority must have a name.
    EmptySubject = "empty-subject";

    // Extensions.
    /// A critical extension must be one that is understood.
    UnknownCriticalExtension = "unknown-critical-extension";
    /// An extension that is acted on must be well formed.
    MalformedExtension = "malformed-extension";
    /// Extensions must be encoded in DER.
    ExtensionNotDer = "extension-not-der";
    /// Alternative names must be well formed.
    MalformedSan = "malformed-san";
    /// Alternative names must be critical where the subject is empty.
    SanNotCritical = "san-not-critical";
    /// Name constraints must be well formed and understood.
    NameConstraintsMalformed = "name-constraints-malformed";
    /// Name constraints must be critical.
    NameConstraintsNotCritical = "name-constraints-not-critical";
    /// Name constraints must only be in certificates of authorities.
    NameConstraintsInLeaf = "name-constraints-in-leaf";
    /// Policy constraints must be critical.
    PolicyConstraintsNotCritical = "policy-constraints-not-critical";
    /// inhibitAnyPolicy must be critical.
    InhibitAnyPolicyNotCritical = "inhibit-any-policy-not-critical";
    /// authorityInfoAccess must not be critical.
    AccessInformationCritical = "access-information-critical";
    /// The authority key identifier must not be critical.
    AkiCritical = "aki-critical";
    /// A certificate that is not self-signed must have an authority key identifier.
    AkiMissing = "aki-missing";
    /// The subject key identifier must not be critical.
    SkiCritical = "ski-critical";
    /// An authority must have a subject key identifier.
    SkiMissing = "ski-missing";
    /// Extended key usages must hold at least one purpose.
    EkuMalformed = "eku-malformed";

    // Authorities.
    /// An authority must have basicConstraints.
    BasicConstraintsMissing = "basic-constraints-missing";
    /// The basicConstraints of an authority must be critical.
    BasicConstraintsNotCritical = "basic-constraints-not-critical";
    /// An issuer must be an authority: basicConstraints with cA.
    NotACa = "not-a-ca";
    /// The key usage of an authority, where present, must hold keyCertSign.
    KeyCertSignMissing = "key-cert-sign-missing";
    /// keyCertSign must only be asserted by authorities.
    KeyCertSignWithoutCa = "key-cert-sign-without-ca";

    // Links and paths.
    /// The issuer's name must be the subject of the next certificate, octet for octet.
    IssuerNameMismatch = "issuer-name-mismatch";
    /// Authority and subject key identifier must be equal where both are present.
    KeyIdMismatch = "key-id-mismatch";
    /// The issuer and serial number that an authority key identifier names must be those of the issuer's certificate.
    AuthorityCertificateMismatch = "authority-certificate-mismatch";
    /// An authority's path length must not be exceeded.
    PathLengthExceeded = "path-length-exceeded";
    /// Names must keep the name constraints of every authority above.
    NameConstraintViolated = "name-constraint-violated";
    /// A path must have a valid policy where an authority requires one.
    PolicyRequired = "policy-required";
    /// The extended key usages of every certificate must allow the purpose.
    EkuMismatch = "eku-mismatch";
    /// The key usage must allow what the certificate is used for.
    KeyUsageMismatch = "key-usage-mismatch";
    /// The certificate must be valid for each expected name.
    NameMismatch = "name-mismatch";
    /// The certificate must not be on a revocation list.
    Revoked = "revoked";
    /// A revocation list of the issuer must be valid.
    CrlInvalid = "crl-invalid";
    /// A path must not have more intermediate certificates than are allowed.
    DepthExceeded = "depth-exceeded";
    /// A path must lead to a trusted certificate.
    Untrusted = "untrusted";
    /// Finding and checking a path must not take more work than is allowed.
    BudgetExhausted = "budget-exhausted";

    // Exactly these certificates.
    /// A certificate must be given once.
    DuplicateCertificate = "duplicate-certificate";
    /// The chain must not hold the certificate that it belongs to.
    SubjectInChain = "subject-in-chain";
    /// Every given certificate must be part of the path.
    UnusedCertificate = "unused-certificate";

    // The public web (CA/Browser Forum Baseline Requirements).
    /// On the public web the common name must be one of the alternative names.
    WebCommonName = "web-common-name";
    /// On the public web a certificate must have alternative names, critical only where the subject is empty.
    WebSan = "web-san";
    /// On the public web extended key usages must be present, not critical, without anyExtendedKeyUsage, and absent in roots.
    WebEku = "web-eku";
    /// On the public web an end entity must not be an authority.
    WebLeafIsCa = "web-leaf-is-ca";
    /// On the public web the authority key identifier of a root must be its own key identifier and nothing else.
    WebRootAki = "web-root-aki";
    /// On the public web the lifetime must not exceed the limit of its time.
    WebLifetime = "web-lifetime";
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) rule: Rule,
    pub(super) message: String,
}

impl Breach {
    pub(super) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }

    pub(super) fn of(self, certificate: Place) -> Refused {
        Refused { certificate, rule: self.rule, message: self.message }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_rule_has_its_own_name_and_sentence() {
        let names: HashSet<&str> = Rule::ALL.iter().map(|rule| rule.as_str()).collect();
        let sentences: HashSet<&str> = Rule::ALL.iter().map(|rule| rule.explanation()).collect();
        assert_eq!((names.len(), sentences.len()), (Rule::ALL.len(), Rule::ALL.len()));
        for rule in Rule::ALL {
            assert!(rule.as_str().bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'-' || octet == b'3'));
            assert!(rule.explanation().ends_with('.') && !rule.explanation().starts_with(' '), "{rule}");
        }
    }
}
