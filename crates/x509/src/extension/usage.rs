//! What a key may be used for: keyUsage and extKeyUsage (RFC 5280 §4.2.1.3, §4.2.1.12), with their names on the wire
//! (contract §1.6).

use std::fmt;

use super::whole_sequence;
use crate::der::{Reader, Writer, tag};
use crate::error::ParseError;
use crate::oid;

/// One use of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyUsage {
    /// digitalSignature.
    DigitalSignature,
    /// keyEncipherment.
    KeyEncipherment,
    /// nonRepudiation, also called contentCommitment.
    NonRepudiation,
    /// dataEncipherment.
    DataEncipherment,
    /// keyAgreement.
    KeyAgreement,
    /// keyCertSign.
    KeyCertSign,
    /// cRLSign.
    CrlSign,
    /// encipherOnly.
    EncipherOnly,
    /// decipherOnly.
    DecipherOnly,
}

/// A set of uses of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyUsages(u16);

/// One purpose of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ExtendedKeyUsage {
    /// clientAuth.
    ClientAuth,
    /// serverAuth.
    ServerAuth,
    /// codeSigning.
    CodeSigning,
    /// emailProtection.
    EmailProtection,
    /// OCSPSigning.
    OcspSigning,
    /// timeStamping.
    TimeStamping,
    /// Any other: the contents octets of its object identifier.
    Other(Vec<u8>),
}

impl KeyUsage {
    /// Every use, in the order of contract §1.6.
    pub const ALL: [Self; 9] = [
        Self::DigitalSignature,
        Self::KeyEncipherment,
        Self::NonRepudiation,
        Self::DataEncipherment,
        Self::KeyAgreement,
        Self::KeyCertSign,
        Self::CrlSign,
        Self::EncipherOnly,
        Self::DecipherOnly,
    ];

    /// The name with underscores: `digital_signature`.
    pub const fn snake_name(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digital_signature",
            Self::KeyEncipherment => "key_encipherment",
            Self::NonRepudiation => "non_repudiation",
            Self::DataEncipherment => "data_encipherment",
            Self::KeyAgreement => "key_agreement",
            Self::KeyCertSign => "key_cert_sign",
            Self::CrlSign => "crl_sign",
            Self::EncipherOnly => "encipher_only",
            Self::DecipherOnly => "decipher_only",
        }
    }

    /// The name with capitals: `digitalSignature`.
    pub const fn camel_name(self) -> &'static str {
        match self {
            Self::DigitalSignature => "digitalSignature",
            Self::KeyEncipherment => "keyEncipherment",
            Self::NonRepudiation => "nonRepudiation",
            Self::DataEncipherment => "dataEncipherment",
            Self::KeyAgreement => "keyAgreement",
            Self::KeyCertSign => "keyCertSign",
            Self::CrlSign => "cRLSign",
            Self::EncipherOnly => "encipherOnly",
            Self::DecipherOnly => "decipherOnly",
        }
    }

    /// The use with this name with underscores.
    pub fn from_snake_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.snake_name() == name)
    }

    /// The use with this name with capitals.
    pub fn from_camel_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.camel_name() == name)
    }

    /// RFC 5280 §4.2.1.3 numbers the bits from the most significant one.
    const fn bit(self) -> u16 {
        let number = match self {
            Self::DigitalSignature => 0,
            Self::NonRepudiation => 1,
            Self::KeyEncipherment => 2,
            Self::DataEncipherment => 3,
            Self::KeyAgreement => 4,
            Self::KeyCertSign => 5,
            Self::CrlSign => 6,
            Self::EncipherOnly => 7,
            Self::DecipherOnly => 8,
        };
        0x8000 >> number
    }
}

impl KeyUsages {
    /// No use at all.
    pub const NONE: Self = Self(0);

    /// The set of these uses.
    pub const fn of(usages: &[KeyUsage]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < usages.len() {
            bits |= usages[index].bit();
            index += 1;
        }
        Self(bits)
    }

    /// Whether the set holds this use.
    pub const fn contains(self, usage: KeyUsage) -> bool {
        self.0 & usage.bit() != 0
    }

    /// The set with this use.
    pub const fn with(self, usage: KeyUsage) -> Self {
        Self(self.0 | usage.bit())
    }

    /// The set without this use.
    pub const fn without(self, usage: KeyUsage) -> Self {
        Self(self.0 & !usage.bit())
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each use in the set, in the order of contract §1.6.
    pub fn iter(self) -> impl Iterator<Item = KeyUsage> {
        KeyUsage::ALL.into_iter().filter(move |usage| self.contains(*usage))
    }

    /// Reads the value of a keyUsage extension, which has at least one bit.
    pub fn decode(value: &[u8]) -> Result<Self, ParseError> {
        let field = "keyUsage";
        let mut reader = Reader::new(value);
        let bits = reader.named_bits(field)?;
        reader.finish(field)?;
        if bits == 0 {
            return Err(ParseError::invalid(field, "at least one use must be set"));
        }
        if bits & !Self::of(&KeyUsage::ALL).0 != 0 {
            return Err(ParseError::invalid(field, "a bit without a meaning is set"));
        }
        Ok(Self(bits))
    }

    /// Writes the value of a keyUsage extension.
    pub fn encode(self, writer: &mut Writer) {
        writer.named_bits(tag::BIT_STRING, self.0);
    }
}

impl FromIterator<KeyUsage> for KeyUsages {
    fn from_iter<I: IntoIterator<Item = KeyUsage>>(usages: I) -> Self {
        usages.into_iter().fold(Self::NONE, Self::with)
    }
}

impl ExtendedKeyUsage {
    /// Every purpose that has a name, in the order of contract §1.6.
    pub const NAMED: [Self; 6] = [
        Self::ClientAuth,
        Self::ServerAuth,
        Self::CodeSigning,
        Self::EmailProtection,
        Self::OcspSigning,
        Self::TimeStamping,
    ];

    /// The contents octets of its object identifier.
    pub fn oid(&self) -> &[u8] {
        match self {
            Self::ClientAuth => oid::CLIENT_AUTH,
            Self::ServerAuth => oid::SERVER_AUTH,
            Self::CodeSigning => oid::CODE_SIGNING,
            Self::EmailProtection => oid::EMAIL_PROTECTION,
            Self::OcspSigning => oid::OCSP_SIGNING,
            Self::TimeStamping => oid::TIME_STAMPING,
            Self::Other(content) => content,
        }
    }

    /// The purpose with this object identifier.
    pub fn from_oid(content: &[u8]) -> Self {
        match content {
            oid::CLIENT_AUTH => Self::ClientAuth,
            oid::SERVER_AUTH => Self::ServerAuth,
            oid::CODE_SIGNING => Self::CodeSigning,
            oid::EMAIL_PROTECTION => Self::EmailProtection,
            oid::OCSP_SIGNING => Self::OcspSigning,
            oid::TIME_STAMPING => Self::TimeStamping,
            other => Self::Other(other.to_vec()),
        }
    }

    /// Whether it stands for every purpose: anyExtendedKeyUsage.
    pub fn is_any(&self) -> bool {
        self.oid() == oid::ANY_EXTENDED_KEY_USAGE
    }

    /// The name with underscores: `client_auth`; nothing for others.
    pub const fn snake_name(&self) -> Option<&'static str> {
        match self {
            Self::ClientAuth => Some("client_auth"),
            Self::ServerAuth => Some("server_auth"),
            Self::CodeSigning => Some("code_signing"),
            Self::EmailProtection => Some("email_protection"),
            Self::OcspSigning => Some("ocsp_signing"),
            Self::TimeStamping => Some("time_stamping"),
            Self::Other(_) => None,
        }
    }

    /// The name with capitals: `clientAuth`; nothing for others.
    pub const fn camel_name(&self) -> Option<&'static str> {
        match self {
            Self::ClientAuth => Some("clientAuth"),
            Self::ServerAuth => Some("serverAuth"),
            Self::CodeSigning => Some("codeSigning"),
            Self::EmailProtection => Some("emailProtection"),
            Self::OcspSigning => Some("ocspSigning"),
            Self::TimeStamping => Some("timeStamping"),
            Self::Other(_) => None,
        }
    }

    /// The purpose with this name with underscores.
    pub fn from_snake_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|usage| usage.snake_name() == Some(name))
    }

    /// The purpose with this name with capitals.
    pub fn from_camel_name(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find(|usage| usage.camel_name() == Some(name))
    }
}

impl fmt::Display for KeyUsage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.snake_name())
    }
}

impl fmt::Display for ExtendedKeyUsage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.snake_name() {
            Some(name) => formatter.write_str(name),
            None => formatter.write_str(&oid::to_dotted(self.oid())),
        }
    }
}

/// Reads the value of an extKeyUsage extension: at least one purpose, none twice.
pub fn decode_extended_key_usages(value: &[u8]) -> Result<Vec<ExtendedKeyUsage>, ParseError> {
    let field = "extKeyUsage";
    let mut reader = whole_sequence(value, field)?;
    let mut usages = Vec::new();
    while !reader.is_empty() {
        let usage = ExtendedKeyUsage::from_oid(reader.oid(field)?);
        if usages.contains(&usage) {
            return Err(ParseError::invalid(field, format!("the purpose {usage} is there twice")));
        }
        if usages.len() == USAGES_MAX {
            return Err(ParseError::invalid(field, "there are too many purposes"));
        }
        usages.push(usage);
    }
    if usages.is_empty() {
        return Err(ParseError::invalid(field, "at least one purpose must be there"));
    }
    Ok(usages)
}

/// Writes the value of an extKeyUsage extension.
pub fn encode_extended_key_usages(usages: &[ExtendedKeyUsage], writer: &mut Writer) {
    writer.sequence(|writer| usages.iter().for_each(|usage| writer.oid(usage.oid())));
}

/// The most purposes of one certificate.
const USAGES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_key_usages_is_read_back() {
        for bits in 1..512u16 {
            let usages: KeyUsages = KeyUsage::ALL
                .into_iter()
                .enumerate()
                .filter(|(index, _)| bits >> index & 1 == 1)
                .map(|(_, usage)| usage)
                .collect();
            let mut writer = Writer::new();
            usages.encode(&mut writer);
            assert_eq!(KeyUsages::decode(&writer.into_bytes()), Ok(usages));
            assert_eq!(usages.iter().collect::<KeyUsages>(), usages);
        }
        let certificate_authority = KeyUsages::of(&[KeyUsage::CrlSign, KeyUsage::KeyCertSign]);
        let mut writer = Writer::new();
        certificate_authority.encode(&mut writer);
        assert_eq!(writer.into_bytes(), [3, 2, 1, 6]);
        assert!(KeyUsages::decode(&[3, 1, 0]).is_err());
        assert!(KeyUsages::decode(&[3, 3, 6, 0, 0x40]).is_err());
        assert!(KeyUsages::decode(&[3, 2, 1, 6, 0]).is_err());
    }

    #[test]
    fn names_go_both_ways() {
        for usage in KeyUsage::ALL {
            assert_eq!(KeyUsage::from_snake_name(usage.snake_name()), Some(usage));
            assert_eq!(KeyUsage::from_camel_name(usage.camel_name()), Some(usage));
        }
        for usage in ExtendedKeyUsage::NAMED {
            assert_eq!(ExtendedKeyUsage::from_snake_name(usage.snake_name().unwrap()).as_ref(), Some(&usage));
            assert_eq!(ExtendedKeyUsage::from_camel_name(usage.camel_name().unwrap()).as_ref(), Some(&usage));
            assert_eq!(ExtendedKeyUsage::from_oid(usage.oid()), usage);
        }
        assert_eq!(KeyUsage::from_snake_name("digitalSignature"), None);
        assert!(ExtendedKeyUsage::from_oid(oid::ANY_EXTENDED_KEY_USAGE).is_any());
    }

    #[test]
    fn purposes_are_read_in_their_order() {
        let usages =
            [ExtendedKeyUsage::ServerAuth, ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::Other(vec![0x2a, 3])];
        let mut writer = Writer::new();
        encode_extended_key_usages(&usages, &mut writer);
        assert_eq!(decode_extended_key_usages(&writer.into_bytes()).as_deref(), Ok(&usages[..]));
        for bad in [&[0x30, 0][..], &[0x30, 8, 6, 2, 0x2a, 3, 6, 2, 0x2a, 3], &[0x31, 4, 6, 2, 0x2a, 3]] {
            assert!(decode_extended_key_usages(bad).is_err(), "{bad:02x?}");
        }
    }
}
