//! Revocation: what may follow on what, the lists that are to be signed, and the requests of authorities.

use crate::{Error, Result, Time};
use x509::{
    CrlTemplate, DistinguishedName, KeyAlgorithm, KeyUsage, KeyUsages, RevocationReason, RevokedCertificate,
    SignatureAlgorithm, Uri, build_request_info,
};

/// How long a list is valid (contract §1.8).
pub const LIST_LIFETIME_SECONDS: i64 = 7 * 24 * 60 * 60;
/// How long before its end a list is signed anew.
pub const LIST_RENEWAL_SECONDS: i64 = 4 * 24 * 60 * 60;

/// How long after a revocation its list is signed: those that come meanwhile share it.
pub const LIST_DELAY_MILLIS: i64 = 500;

/// How long lists of changes begin from the same complete list.
pub const DELTA_BASE_SECONDS: i64 = 24 * 60 * 60;
/// How far before the complete list the changes begin that a list of changes names: what was committed while that list was
/// read, by clocks that differ, is named twice rather than never.
pub const DELTA_OVERLAP_SECONDS: i64 = 15 * 60;

/// What may be chosen about an authority's lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSettings {
    /// Whether there is a list of the changes since a complete one, too (RFC 5280 §5.2.4).
    pub has_delta: bool,
    /// For how many seconds revocations are collected before a list is signed; 0 for those of the same moment.
    pub delay_seconds: u32,
}

/// How long revocations may be collected. A day is still long before any list runs out.
pub const LIST_DELAY_SECONDS_MAX: u32 = 24 * 60 * 60;

impl ListSettings {
    /// How long after a revocation the list is signed.
    pub fn delay_millis(self) -> i64 {
        LIST_DELAY_MILLIS.max(i64::from(self.delay_seconds) * 1000)
    }
}

/// How many certificates may name one list before their key opens another. A list of so many entries is some 1.2 MB: what a
/// client fetches, and what is written each time that one of them is revoked, while other commits wait.
pub const CERTIFICATES_PER_LIST: u32 = 25_000;

/// What a revocation does to a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationStep {
    /// It was active, and is revoked.
    Revoke,
    /// It is revoked for another reason already, and is for this one from now on.
    ChangeReason {
        /// The reason until now.
        from: RevocationReason,
    },
}

impl RevocationStep {
    /// What revoking for a reason does to a certificate that is revoked for another, or not at all. A revocation is never
    /// taken back by one; only a hold may become another reason, and any reason keyCompromise (RFC 5280 §5.3.1).
    pub fn of(present: Option<RevocationReason>, reason: RevocationReason) -> Result<Self> {
        match present {
            None => Ok(Self::Revoke),
            Some(from) if from == reason => {
                Err(Error::wrong_state(format!("the certificate is revoked for {} already", reason.as_str())))
            }
            Some(from @ RevocationReason::CertificateHold) => Ok(Self::ChangeReason { from }),
            Some(from) if reason == RevocationReason::KeyCompromise => Ok(Self::ChangeReason { from }),
            Some(from) => Err(Error::wrong_state(format!(
                "the certificate is revoked for {} already; only KEY_COMPROMISE may take the place of a reason",
                from.as_str()
            ))),
        }
    }
}

/// The serial numbers of a list that a later one does not name. Both are in the order of the octets.
pub fn missing_from<'a>(
    earlier: impl IntoIterator<Item = &'a [u8]>,
    later: &[RevokedCertificate],
) -> impl Iterator<Item = &'a [u8]> {
    let mut later = later.iter().map(|entry| entry.serial_number.integer_content()).peekable();
    earlier.into_iter().filter(move |serial| {
        while later.next_if(|named| named.as_slice() < *serial).is_some() {}
        later.peek().is_none_or(|named| named.as_slice() != *serial)
    })
}

/// The bytes of a revocation list. Signing takes it by value.
#[derive(Debug)]
pub struct ListToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

/// Who signs a list and which number it has.
#[derive(Debug)]
pub struct ListIssuer<'a> {
    /// The name of the authority, byte for byte as in its certificate.
    pub name: &'a DistinguishedName,
    /// The subject key identifier of the authority's certificate.
    pub key_id: &'a [u8],
    /// The algorithm of the key that signs.
    pub key_algorithm: KeyAlgorithm,
    /// The number of the list; each is greater than the one before.
    pub number: u64,
    /// Where the list is, when it is for the certificates alone that name one of these addresses; none when it is for all
    /// of the key.
    pub urls: &'a [Uri],
    /// Where the list of changes is, if there is one.
    pub delta_urls: &'a [Uri],
}

impl ListToBeSigned {
    /// A complete list of these entries.
    pub fn complete(issuer: &ListIssuer<'_>, entries: impl IntoIterator<Item = RevokedCertificate>, now: Time) -> Self {
        Self::new(issuer, None, entries, now)
    }

    /// A list of the changes since the complete list of that number (RFC 5280 §5.2.4).
    pub fn changes_since(
        base: u64,
        issuer: &ListIssuer<'_>,
        entries: impl IntoIterator<Item = RevokedCertificate>,
        now: Time,
    ) -> Self {
        // RFC 5280 §5.2.6: a list of changes does not say where one is.
        Self::new(&ListIssuer { delta_urls: &[], ..*issuer }, Some(base), entries, now)
    }

    fn new(
        issuer: &ListIssuer<'_>,
        base_number: Option<u64>,
        entries: impl IntoIterator<Item = RevokedCertificate>,
        now: Time,
    ) -> Self {
        let algorithm = issuer.key_algorithm.default_signature();
        let template = CrlTemplate {
            signature_algorithm: algorithm,
            issuer_der: issuer.name.as_der(),
            authority_key_id: issuer.key_id,
            number: issuer.number,
            this_update: now.seconds(),
            next_update: now.seconds() + LIST_LIFETIME_SECONDS,
            distribution_point_urls: issuer.urls,
            base_number,
            freshest_urls: issuer.delta_urls,
        };
        Self { bytes: template.to_be_signed(entries), algorithm }
    }

    /// The bytes to sign and how.
    pub fn into_bytes(self) -> (Vec<u8>, SignatureAlgorithm) {
        (self.bytes, self.algorithm)
    }
}

/// The bytes of an authority's own certification request (contract §3.5). Signing takes it by value.
#[derive(Debug)]
pub struct RequestToBeSigned {
    bytes: Vec<u8>,
    algorithm: SignatureAlgorithm,
}

impl RequestToBeSigned {
    /// A request for this subject and key.
    pub fn new(subject: &DistinguishedName, spki: &[u8], key_algorithm: KeyAlgorithm) -> Self {
        let usages = KeyUsages::of(&[KeyUsage::KeyCertSign, KeyUsage::CrlSign, KeyUsage::DigitalSignature]);
        let usages = match crate::policy::is_dropped(KeyUsage::KeyEncipherment.snake_name(), key_algorithm.family()) {
            true => usages,
            false => usages.with(KeyUsage::KeyEncipherment),
        };
        Self { bytes: build_request_info(subject, spki, usages), algorithm: key_algorithm.default_signature() }
    }

    /// The bytes to sign and how.
    pub fn into_bytes(self) -> (Vec<u8>, SignatureAlgorithm) {
        (self.bytes, self.algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509::SerialNumber;

    #[test]
    fn a_revocation_is_final_but_for_a_hold_and_a_compromised_key() {
        for reason in RevocationReason::ALL {
            assert_eq!(RevocationStep::of(None, reason).unwrap(), RevocationStep::Revoke);
            for from in RevocationReason::ALL {
                let step = RevocationStep::of(Some(from), reason);
                let may = from != reason
                    && (from == RevocationReason::CertificateHold || reason == RevocationReason::KeyCompromise);
                assert_eq!(step.is_ok(), may, "{from:?} {reason:?}");
                assert!(step.is_err() || step.unwrap() == RevocationStep::ChangeReason { from });
            }
        }
    }

    #[test]
    fn what_a_list_lost_is_found() {
        let entry = |octet: u8| RevokedCertificate {
            serial_number: SerialNumber::from_integer(&[octet]).unwrap(),
            revoked_at: 0,
            reason: x509::ListedReason::Revoked(RevocationReason::Unspecified),
        };
        let later = [entry(2), entry(4), entry(5)];
        let earlier: [&[u8]; 6] = [&[1], &[2], &[3], &[4], &[5], &[6]];
        assert_eq!(missing_from(earlier, &later).collect::<Vec<_>>(), [&[1_u8][..], &[3], &[6]]);
        assert_eq!(missing_from(earlier, &[]).count(), 6);
        assert_eq!(missing_from([], &later).count(), 0);
    }
}
