//! Object identifiers as their contents octets (X.690 §8.19), and their dotted text.

/// A table of object identifiers: contents octets and what they name.
macro_rules! identifiers {
    ($($(#[$meta:meta])* $name:ident = $octets:expr;)*) => {
        $($(#[$meta])* pub const $name: &[u8] = &$octets;)*
    };
}

identifiers! {
    /// 2.5.4.3 commonName.
    COMMON_NAME = [0x55, 4, 3];
    /// 2.5.4.4 surname.
    SURNAME = [0x55, 4, 4];
    /// 2.5.4.5 serialNumber.
    SERIAL_NUMBER = [0x55, 4, 5];
    /// 2.5.4.6 countryName.
    COUNTRY = [0x55, 4, 6];
    /// 2.5.4.7 localityName.
    LOCALITY = [0x55, 4, 7];
    /// 2.5.4.8 stateOrProvinceName.
    STATE = [0x55, 4, 8];
    /// 2.5.4.9 streetAddress.
    STREET = [0x55, 4, 9];
    /// 2.5.4.10 organizationName.
    ORGANIZATION = [0x55, 4, 10];
    /// 2.5.4.11 organizationalUnitName.
    ORGANIZATIONAL_UNIT = [0x55, 4, 11];
    /// 2.5.4.12 title.
    TITLE = [0x55, 4, 12];
    /// 2.5.4.17 postalCode.
    POSTAL_CODE = [0x55, 4, 17];
    /// 2.5.4.42 givenName.
    GIVEN_NAME = [0x55, 4, 42];
    /// 2.5.4.46 dnQualifier.
    DN_QUALIFIER = [0x55, 4, 46];
    /// 0.9.2342.19200300.100.1.1 userId.
    USER_ID = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1];
    /// 0.9.2342.19200300.100.1.25 domainComponent.
    DOMAIN_COMPONENT = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
    /// 1.2.840.113549.1.9.1 emailAddress.
    EMAIL_ADDRESS = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
    /// 1.2.840.113549.1.9.7 challengePassword.
    CHALLENGE_PASSWORD = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
    /// 1.2.840.113549.1.9.14 extensionRequest.
    EXTENSION_REQUEST = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];

    /// 1.2.840.113549.1.1.1 rsaEncryption.
    RSA_ENCRYPTION = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    /// 1.2.840.113549.1.1.11 sha256WithRSAEncryption.
    RSA_SHA256 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    /// 1.2.840.113549.1.1.12 sha384WithRSAEncryption.
    RSA_SHA384 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
    /// 1.2.840.113549.1.1.13 sha512WithRSAEncryption.
    RSA_SHA512 = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
    /// 1.2.840.10045.2.1 ecPublicKey.
    EC_PUBLIC_KEY = [0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    /// 1.2.840.10045.3.1.7 prime256v1, also called P-256.
    CURVE_P256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    /// 1.3.132.0.34 secp384r1, also called P-384.
    CURVE_P384 = [0x2b, 0x81, 0x04, 0, 34];
    /// 1.3.132.0.35 secp521r1, also called P-521.
    CURVE_P521 = [0x2b, 0x81, 0x04, 0, 35];
    /// 1.2.840.10045.4.3.2 ecdsa-with-SHA256.
    ECDSA_SHA256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    /// 1.2.840.10045.4.3.3 ecdsa-with-SHA384.
    ECDSA_SHA384 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
    /// 1.2.840.10045.4.3.4 ecdsa-with-SHA512.
    ECDSA_SHA512 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];
    /// 1.3.101.112 Ed25519, key and signature alike.
    ED25519 = [0x2b, 0x65, 0x70];

    /// 2.5.29.14 subjectKeyIdentifier.
    SUBJECT_KEY_IDENTIFIER = [0x55, 0x1d, 14];
    /// 2.5.29.15 keyUsage.
    KEY_USAGE = [0x55, 0x1d, 15];
    /// 2.5.29.17 subjectAltName.
    SUBJECT_ALT_NAME = [0x55, 0x1d, 17];
    /// 2.5.29.18 issuerAltName.
    ISSUER_ALT_NAME = [0x55, 0x1d, 18];
    /// 2.5.29.19 basicConstraints.
    BASIC_CONSTRAINTS = [0x55, 0x1d, 19];
    /// 2.5.29.20 cRLNumber.
    CRL_NUMBER = [0x55, 0x1d, 20];
    /// 2.5.29.21 reasonCode.
    REASON_CODE = [0x55, 0x1d, 21];
    /// 2.5.29.27 deltaCRLIndicator.
    DELTA_CRL_INDICATOR = [0x55, 0x1d, 27];
    /// 2.5.29.28 issuingDistributionPoint.
    ISSUING_DISTRIBUTION_POINT = [0x55, 0x1d, 28];
    /// 2.5.29.29 certificateIssuer.
    CERTIFICATE_ISSUER = [0x55, 0x1d, 29];
    /// 2.5.29.30 nameConstraints.
    NAME_CONSTRAINTS = [0x55, 0x1d, 30];
    /// 2.5.29.31 cRLDistributionPoints.
    CRL_DISTRIBUTION_POINTS = [0x55, 0x1d, 31];
    /// 2.5.29.32 certificatePolicies.
    CERTIFICATE_POLICIES = [0x55, 0x1d, 32];
    /// 2.5.29.32.0 anyPolicy.
    ANY_POLICY = [0x55, 0x1d, 32, 0];
    /// 2.5.29.33 policyMappings.
    POLICY_MAPPINGS = [0x55, 0x1d, 33];
    /// 2.5.29.35 authorityKeyIdentifier.
    AUTHORITY_KEY_IDENTIFIER = [0x55, 0x1d, 35];
    /// 2.5.29.36 policyConstraints.
    POLICY_CONSTRAINTS = [0x55, 0x1d, 36];
    /// 2.5.29.37 extKeyUsage.
    EXTENDED_KEY_USAGE = [0x55, 0x1d, 37];
    /// 2.5.29.37.0 anyExtendedKeyUsage.
    ANY_EXTENDED_KEY_USAGE = [0x55, 0x1d, 37, 0];
    /// 2.5.29.46 freshestCRL.
    FRESHEST_CRL = [0x55, 0x1d, 46];
    /// 2.5.29.54 inhibitAnyPolicy.
    INHIBIT_ANY_POLICY = [0x55, 0x1d, 54];
    /// 1.3.6.1.5.5.7.1.1 authorityInfoAccess.
    AUTHORITY_INFORMATION_ACCESS = [0x2b, 6, 1, 5, 5, 7, 1, 1];
    /// 1.3.6.1.5.5.7.48.1 ocsp.
    ACCESS_OCSP = [0x2b, 6, 1, 5, 5, 7, 0x30, 1];
    /// 1.3.6.1.5.5.7.48.2 caIssuers.
    ACCESS_CA_ISSUERS = [0x2b, 6, 1, 5, 5, 7, 0x30, 2];
    /// 1.3.6.1.5.5.7.48.1.1 id-pkix-ocsp-basic.
    OCSP_BASIC = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    /// 1.3.6.1.5.5.7.48.1.2 id-pkix-ocsp-nonce.
    OCSP_NONCE = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2];
    /// 1.3.6.1.5.5.7.48.1.5 id-pkix-ocsp-nocheck.
    OCSP_NO_CHECK = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 5];
    /// 1.3.14.3.2.26 SHA-1.
    SHA1 = [0x2b, 14, 3, 2, 26];
    /// 2.16.840.1.101.3.4.2.1 SHA-256.
    SHA256 = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
    /// 1.3.6.1.5.5.7.3.1 serverAuth.
    SERVER_AUTH = [0x2b, 6, 1, 5, 5, 7, 3, 1];
    /// 1.3.6.1.5.5.7.3.2 clientAuth.
    CLIENT_AUTH = [0x2b, 6, 1, 5, 5, 7, 3, 2];
    /// 1.3.6.1.5.5.7.3.3 codeSigning.
    CODE_SIGNING = [0x2b, 6, 1, 5, 5, 7, 3, 3];
    /// 1.3.6.1.5.5.7.3.4 emailProtection.
    EMAIL_PROTECTION = [0x2b, 6, 1, 5, 5, 7, 3, 4];
    /// 1.3.6.1.5.5.7.3.8 timeStamping.
    TIME_STAMPING = [0x2b, 6, 1, 5, 5, 7, 3, 8];
    /// 1.3.6.1.5.5.7.3.9 OCSPSigning.
    OCSP_SIGNING = [0x2b, 6, 1, 5, 5, 7, 3, 9];
}

/// The most contents octets of an object identifier that is read or written.
pub const OCTETS_MAX: usize = 128;

/// Whether these are the contents octets of an object identifier: at least one arc, each in its shortest form.
pub fn is_valid(content: &[u8]) -> bool {
    let starts = std::iter::once(true).chain(content.iter().map(|octet| octet & 0x80 == 0));
    content.len() <= OCTETS_MAX
        && content.last().is_some_and(|last| last & 0x80 == 0)
        && content.iter().zip(starts).all(|(octet, starts_arc)| !(starts_arc && *octet == 0x80))
}

/// The dotted text of contents octets, such as `2.5.4.3`. An arc of more than 64 bits is written as its octets in
/// hexadecimal between brackets, since no text needs it.
pub fn to_dotted(content: &[u8]) -> String {
    let mut text = String::with_capacity(content.len() * 3);
    for (index, arc) in content.split_inclusive(|octet| octet & 0x80 == 0).enumerate() {
        match (index, arc_value(arc)) {
            (0, Some(value)) => {
                let first = (value / 40).min(2);
                text.push_str(&format!("{first}.{}", value - first * 40));
            }
            (_, Some(value)) => text.push_str(&format!(".{value}")),
            (_, None) => text.push_str(&format!(".[{}]", crate::hex(arc))),
        }
    }
    text
}

/// The contents octets of a dotted text; nothing when the text is not an object identifier.
pub fn from_dotted(text: &str) -> Option<Vec<u8>> {
    let mut arcs = text.split('.').map(arc_number);
    let first = arcs.next()??;
    let second = arcs.next()??;
    if first > 2 || (first < 2 && second > 39) {
        return None;
    }
    let mut content = Vec::with_capacity(text.len());
    push_arc(&mut content, (first * 40).checked_add(second)?);
    for arc in arcs {
        push_arc(&mut content, arc?);
    }
    (content.len() <= OCTETS_MAX).then_some(content)
}

fn arc_value(octets: &[u8]) -> Option<u64> {
    octets.iter().try_fold(0u64, |value, octet| {
        let shifted = value.checked_mul(0x80)?;
        Some(shifted | u64::from(octet & 0x7f))
    })
}

/// A decimal number without sign or leading zeros.
fn arc_number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|octet| octet.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn push_arc(content: &mut Vec<u8>, value: u64) {
    let groups = (64 - value.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let continues = if group == 0 { 0 } else { 0x80 };
        content.push(((value >> (7 * group)) & 0x7f) as u8 | continues);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_text_and_octets_agree() {
        let cases: [(&str, &[u8]); 8] = [
            ("2.5.4.3", COMMON_NAME),
            ("1.2.840.113549.1.1.11", RSA_SHA256),
            ("1.3.132.0.35", CURVE_P521),
            ("0.9.2342.19200300.100.1.25", DOMAIN_COMPONENT),
            ("1.2.840.10045.3.1.7", CURVE_P256),
            ("1.3.6.1.5.5.7.48.2", ACCESS_CA_ISSUERS),
            ("2.999.3", &[0x88, 0x37, 3]),
            ("0.0", &[0]),
        ];
        for (text, octets) in cases {
            assert_eq!(to_dotted(octets), text);
            assert_eq!(from_dotted(text).as_deref(), Some(octets), "{text}");
            assert!(is_valid(octets));
        }
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        for text in ["", "1", "3.1", "1.40", "1.02", "1..2", "1.2.", ".1.2", "1.-2", "1.+2", "1.2.18446744073709551616"]
        {
            assert_eq!(from_dotted(text), None, "{text}");
        }
        for octets in [&[][..], &[0x80], &[0x2a, 0x80, 0x01], &[0x2a, 0x81], &[1; OCTETS_MAX + 1]] {
            assert!(!is_valid(octets), "{octets:02x?}");
        }
    }
}
