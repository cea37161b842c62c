//! Under which policies a certificate was issued: certificatePolicies, policyConstraints and inhibitAnyPolicy (RFC 5280
//! §4.2.1.4, §4.2.1.11, §4.2.1.14).

use super::{implicit_u32, whole_sequence};
use crate::der::{Reader, Writer};
use crate::error::ParseError;

/// The policies of a certificate, none of them twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificatePolicies {
    /// At least one policy.
    pub policies: Vec<Policy>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The contents octets of its object identifier.
    pub oid: Vec<u8>,
    /// The DER of its qualifiers, a SEQUENCE; empty when there are none.
    pub qualifiers: Vec<u8>,
}

/// What the policies of a path must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyConstraints {
    /// After how many certificates a path needs a policy.
    pub require_explicit_policy: Option<u32>,
    /// After how many certificates policies are no longer mapped.
    pub inhibit_policy_mapping: Option<u32>,
}

/// After how many certificates anyPolicy no longer stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InhibitAnyPolicy(pub u32);

/// The most policies of one certificate.
const POLICIES_MAX: usize = 64;

impl CertificatePolicies {
    /// Reads the value of a certificatePolicies extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "certificatePolicies";
        let mut reader = whole_sequence(value, field)?;
        let mut policies: Vec<Policy> = Vec::new();
        while !reader.is_empty() {
            let mut policy = reader.sequence(field)?;
            let oid = policy.oid(field)?;
            let qualifiers = policy.rest();
            if !policy.is_empty() && policy.sequence(field)?.is_empty() {
                return Err(ParseError::invalid(field, "a list of qualifiers is empty"));
            }
            policy.finish(field)?;
            if policies.iter().any(|known| known.oid == oid) {
                return Err(ParseError::invalid(field, "a policy is there twice"));
            }
            if policies.len() == POLICIES_MAX {
                return Err(ParseError::invalid(field, "there are too many policies"));
            }
            policies.push(Policy { oid: oid.to_vec(), qualifiers: qualifiers.to_vec() });
        }
        if policies.is_empty() {
            return Err(ParseError::invalid(field, "at least one policy must be there"));
        }
        Ok(Self { policies })
    }

    /// Writes the value with these policies, without qualifiers.
    pub fn encode_oids(policies: &[&[u8]], writer: &mut Writer) {
        writer.sequence(|writer| policies.iter().for_each(|oid| writer.sequence(|writer| writer.oid(oid))));
    }
}

impl PolicyConstraints {
    /// Reads the value of a policyConstraints extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "policyConstraints";
        let mut reader = whole_sequence(value, field)?;
        let require_explicit_policy = implicit_u32(&mut reader, 0, field)?;
        let inhibit_policy_mapping = implicit_u32(&mut reader, 1, field)?;
        reader.finish(field)?;
        if require_explicit_policy.is_none() && inhibit_policy_mapping.is_none() {
            return Err(ParseError::invalid(field, "it constrains nothing"));
        }
        Ok(Self { require_explicit_policy, inhibit_policy_mapping })
    }
}

impl InhibitAnyPolicy {
    /// Reads the value of an inhibitAnyPolicy extension.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "inhibitAnyPolicy";
        let mut reader = Reader::new(value);
        let skip = reader.unsigned_u32(field)?;
        reader.finish(field)?;
        Ok(Self(skip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oid;

    #[test]
    fn policies_are_written_and_read_back() {
        let mut writer = Writer::new();
        CertificatePolicies::encode_oids(&[oid::ANY_POLICY, &[0x2a, 3]], &mut writer);
        let read = CertificatePolicies::decode(&writer.into_bytes()).unwrap();
        let oids: Vec<&[u8]> = read.policies.iter().map(|policy| &policy.oid[..]).collect();
        assert_eq!(oids, [oid::ANY_POLICY, &[0x2a, 3]]);
        let qualified = CertificatePolicies::decode(&[0x30, 9, 0x30, 7, 6, 1, 0x2a, 0x30, 2, 5, 0]).unwrap();
        assert_eq!(qualified.policies[0].qualifiers, [0x30, 2, 5, 0]);
    }

    #[test]
    fn malformed_policies_are_refused() {
        let policies: [&[u8]; 4] = [
            &[0x30, 0],
            &[0x30, 2, 0x30, 0],
            &[0x30, 10, 0x30, 3, 6, 1, 0x2a, 0x30, 3, 6, 1, 0x2a],
            &[0x30, 7, 0x30, 5, 6, 1, 0x2a, 0x30, 0],
        ];
        for der in policies {
            assert!(CertificatePolicies::decode(der).is_err(), "{der:02x?}");
        }
    }

    #[test]
    fn numbers_of_policy_constraints_are_strict() {
        let both = PolicyConstraints::decode(&[0x30, 6, 0x80, 1, 0, 0x81, 1, 7]).unwrap();
        assert_eq!((both.require_explicit_policy, both.inhibit_policy_mapping), (Some(0), Some(7)));
        let bad: [&[u8]; 6] = [
            &[0x30, 0],
            &[0x30, 3, 0x80, 1, 0xff],
            &[0x30, 2, 0x80, 0],
            &[0x30, 4, 0x80, 2, 0, 1],
            &[0x30, 8, 0x80, 6, 1, 0, 0, 0, 0, 0],
            &[0x30, 6, 0x81, 1, 0, 0x80, 1, 0],
        ];
        for der in bad {
            assert!(PolicyConstraints::decode(der).is_err(), "{der:02x?}");
        }
        assert_eq!(InhibitAnyPolicy::decode(&[2, 1, 3]), Ok(InhibitAnyPolicy(3)));
        assert!(InhibitAnyPolicy::decode(&[2, 1, 0x83]).is_err());
    }
}
