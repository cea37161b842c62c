//! Distinguished names (RFC 5280 §4.1.2.4, RFC 4514): raw DER together with the attributes that it holds.
//!
//! Two names are equal when their DER is: an issuer is written into a certificate octet by octet as its own subject.
//! Reading accepts every string type that RFC 5280 lists; building writes the types that it recommends.

use std::borrow::Cow;
use std::fmt;

use crate::der::{Element, Reader, Writer, tag};
use crate::error::{NameError, ParseError};
use crate::oid;

/// The kind of an attribute of a distinguished name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeType {
    /// commonName, CN.
    CommonName,
    /// surname, SN.
    Surname,
    /// serialNumber.
    SerialNumber,
    /// countryName, C.
    Country,
    /// localityName, L.
    Locality,
    /// stateOrProvinceName, ST.
    State,
    /// streetAddress, STREET.
    Street,
    /// organizationName, O.
    Organization,
    /// organizationalUnitName, OU.
    OrganizationalUnit,
    /// title.
    Title,
    /// postalCode.
    PostalCode,
    /// givenName, GN.
    GivenName,
    /// dnQualifier.
    DnQualifier,
    /// userId, UID.
    UserId,
    /// domainComponent, DC.
    DomainComponent,
    /// emailAddress (PKCS#9, deprecated in names).
    EmailAddress,
    /// Any other: the contents octets of its object identifier.
    Other(Vec<u8>),
}

/// A distinguished name.
#[derive(Clone)]
pub struct DistinguishedName {
    der: Vec<u8>,
    text: String,
    attributes: Vec<Attribute>,
}

/// One attribute: its value is a part of the name's text.
#[derive(Clone)]
struct Attribute {
    kind: AttributeType,
    value_end: usize,
    string_tag: u8,
    joins_previous: bool,
}

/// What is known about a kind of attribute.
struct Rule {
    short_name: &'static str,
    label: &'static str,
    characters_max: usize,
    string_tag: u8,
}

impl AttributeType {
    /// Every kind that has a name.
    pub const NAMED: [Self; 16] = [
        Self::CommonName,
        Self::Surname,
        Self::SerialNumber,
        Self::Country,
        Self::Locality,
        Self::State,
        Self::Street,
        Self::Organization,
        Self::OrganizationalUnit,
        Self::Title,
        Self::PostalCode,
        Self::GivenName,
        Self::DnQualifier,
        Self::UserId,
        Self::DomainComponent,
        Self::EmailAddress,
    ];

    /// The contents octets of its object identifier.
    pub fn oid(&self) -> &[u8] {
        match self {
            Self::CommonName => oid::COMMON_NAME,
            Self::Surname => oid::SURNAME,
            Self::SerialNumber => oid::SERIAL_NUMBER,
            Self::Country => oid::COUNTRY,
            Self::Locality => oid::LOCALITY,
            Self::State => oid::STATE,
            Self::Street => oid::STREET,
            Self::Organization => oid::ORGANIZATION,
            Self::OrganizationalUnit => oid::ORGANIZATIONAL_UNIT,
            Self::Title => oid::TITLE,
            Self::PostalCode => oid::POSTAL_CODE,
            Self::GivenName => oid::GIVEN_NAME,
            Self::DnQualifier => oid::DN_QUALIFIER,
            Self::UserId => oid::USER_ID,
            Self::DomainComponent => oid::DOMAIN_COMPONENT,
            Self::EmailAddress => oid::EMAIL_ADDRESS,
            Self::Other(content) => content,
        }
    }

    /// The kind with this object identifier.
    pub fn from_oid(content: &[u8]) -> Self {
        // All but three named kinds are arcs of 2.5.4, which the last octet tells apart.
        if let [0x55, 4, arc] = content {
            return match arc {
                3 => Self::CommonName,
                4 => Self::Surname,
                5 => Self::SerialNumber,
                6 => Self::Country,
                7 => Self::Locality,
                8 => Self::State,
                9 => Self::Street,
                10 => Self::Organization,
                11 => Self::OrganizationalUnit,
                12 => Self::Title,
                17 => Self::PostalCode,
                42 => Self::GivenName,
                46 => Self::DnQualifier,
                _ => Self::Other(content.to_vec()),
            };
        }
        match content {
            oid::USER_ID => Self::UserId,
            oid::DOMAIN_COMPONENT => Self::DomainComponent,
            oid::EMAIL_ADDRESS => Self::EmailAddress,
            _ => Self::Other(content.to_vec()),
        }
    }

    /// The short name in a rendered name: `CN`, `O`, …; the dotted identifier of a kind without one.
    pub fn short_name(&self) -> Cow<'static, str> {
        match self {
            Self::Other(content) => Cow::Owned(oid::to_dotted(content)),
            named => Cow::Borrowed(named.rule().short_name),
        }
    }

    fn rule(&self) -> Rule {
        let utf8 = |short_name, label, characters_max| Rule {
            short_name,
            label,
            characters_max,
            string_tag: tag::UTF8_STRING,
        };
        let printable = |short_name, label, characters_max| Rule {
            short_name,
            label,
            characters_max,
            string_tag: tag::PRINTABLE_STRING,
        };
        let ia5 =
            |short_name, label, characters_max| Rule { short_name, label, characters_max, string_tag: tag::IA5_STRING };
        // Upper bounds: RFC 5280 Appendix A.1, X.520 Annex C; a domain component is one DNS label (RFC 4519 §2.4).
        match self {
            Self::CommonName => utf8("CN", "common name", 64),
            Self::Surname => utf8("SN", "surname", 64),
            Self::SerialNumber => printable("serialNumber", "serial number attribute", 64),
            Self::Country => printable("C", "country", 2),
            Self::Locality => utf8("L", "locality", 128),
            Self::State => utf8("ST", "state", 128),
            Self::Street => utf8("STREET", "street", 128),
            Self::Organization => utf8("O", "organization", 64),
            Self::OrganizationalUnit => utf8("OU", "organizational unit", 64),
            Self::Title => utf8("title", "title", 64),
            Self::PostalCode => utf8("postalCode", "postal code", 40),
            Self::GivenName => utf8("GN", "given name", 64),
            Self::DnQualifier => printable("dnQualifier", "DN qualifier", 64),
            Self::UserId => utf8("UID", "user id", 256),
            Self::DomainComponent => ia5("DC", "domain component", 63),
            Self::EmailAddress => ia5("emailAddress", "e-mail address attribute", 255),
            Self::Other(_) => utf8("", "attribute", 256),
        }
    }
}

impl DistinguishedName {
    /// The name without attributes.
    pub fn empty() -> Self {
        Self { der: vec![tag::SEQUENCE, 0], text: String::new(), attributes: Vec::new() }
    }

    /// Builds a name: each attribute is its own relative distinguished name, in the order given. Country, serial number
    /// and DN qualifier become PrintableString, domain component and e-mail address IA5String, all others UTF8String.
    pub fn build(attributes: &[(AttributeType, &str)]) -> Result<Self, NameError> {
        let mut writer =
            Writer::with_capacity(16 + attributes.iter().map(|(_, value)| value.len() + 16).sum::<usize>());
        let mut name = Self::empty();
        for (kind, value) in attributes {
            let string_tag = kind.rule().string_tag;
            check_value(kind, value, string_tag)?;
            name.push(kind.clone(), value, string_tag, false);
        }
        writer.sequence(|writer| {
            for (kind, value) in attributes {
                writer.set_of_one(|writer| {
                    writer.sequence(|writer| {
                        writer.oid(kind.oid());
                        writer.primitive(kind.rule().string_tag, value.as_bytes());
                    });
                });
            }
        });
        name.der = writer.into_bytes();
        Ok(name)
    }

    /// Reads a name that fills the input.
    pub fn from_der(der: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(der);
        let element = reader.tagged(tag::SEQUENCE, "name")?;
        reader.finish("name")?;
        Self::from_element(&element, "name")
    }

    /// Reads a name out of the SEQUENCE that holds it.
    pub(crate) fn from_element(element: &Element<'_>, field: &'static str) -> Result<Self, ParseError> {
        let mut name = Self { der: element.whole.to_vec(), text: String::new(), attributes: Vec::new() };
        let mut rdns = element.open(field)?;
        while !rdns.is_empty() {
            let mut rdn = rdns.set(field)?;
            let mut previous: Option<&[u8]> = None;
            while !rdn.is_empty() || previous.is_none() {
                let attribute = rdn.tagged(tag::SEQUENCE, field)?;
                // X.690 §11.6: the elements of a SET OF are sorted.
                if previous.is_some_and(|previous| previous > attribute.whole) {
                    return Err(ParseError::invalid(field, "attributes are not in DER order").at(attribute.offset));
                }
                name.read_attribute(&attribute, previous.is_some(), field)?;
                previous = Some(attribute.whole);
            }
        }
        Ok(name)
    }

    /// The DER of the name.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Whether the name has no attribute.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The attributes, in the order in which they are encoded.
    pub fn attributes(&self) -> impl Iterator<Item = (AttributeType, &str)> {
        self.values().map(|(attribute, value)| (attribute.kind.clone(), value))
    }

    /// The value of the first attribute of this kind.
    pub fn first(&self, kind: AttributeType) -> Option<&str> {
        self.values().find(|(attribute, _)| attribute.kind == kind).map(|(_, value)| value)
    }

    /// The DER of each relative distinguished name, in order: what a directory name constraint compares.
    pub fn relative_names(&self) -> Vec<&[u8]> {
        let mut relative_names = Vec::new();
        if let Ok(mut rdns) = Reader::new(&self.der).sequence("name") {
            while let Ok(rdn) = rdns.any("name") {
                relative_names.push(rdn.whole);
            }
        }
        relative_names
    }

    /// Whether every value keeps the rules that [`DistinguishedName::build`] holds its own values to: no control
    /// character, no upper bound passed, a string type of RFC 5280 §4.1.2.4 for new certificates.
    pub fn validate(&self) -> Result<(), NameError> {
        self.values().try_for_each(|(attribute, value)| check_value(&attribute.kind, value, attribute.string_tag))
    }

    /// The same attributes built anew, each in the string type that [`DistinguishedName::build`] gives it and in its own
    /// relative distinguished name: for a requested name whose types are others, as some libraries write them.
    pub fn reencoded(&self) -> Result<Self, NameError> {
        Self::build(&self.attributes().collect::<Vec<_>>())
    }

    /// The text form, in the order of the encoding, without spaces: `C=DE,O=Acme,CN=Root`. Escaped as RFC 4514 §2.4.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(self.text.len() + 8 * self.attributes.len());
        for (index, (attribute, value)) in self.values().enumerate() {
            if index > 0 {
                text.push(if attribute.joins_previous { '+' } else { ',' });
            }
            text.push_str(&attribute.kind.short_name());
            text.push('=');
            if attribute.string_tag == NOT_A_STRING { text.push_str(value) } else { push_escaped(&mut text, value) }
        }
        text
    }

    fn values(&self) -> impl Iterator<Item = (&Attribute, &str)> {
        let starts = std::iter::once(0).chain(self.attributes.iter().map(|attribute| attribute.value_end));
        self.attributes.iter().zip(starts).map(|(attribute, start)| (attribute, &self.text[start..attribute.value_end]))
    }

    fn push(&mut self, kind: AttributeType, value: &str, string_tag: u8, joins_previous: bool) {
        self.text.push_str(value);
        self.attributes.push(Attribute { kind, value_end: self.text.len(), string_tag, joins_previous });
    }

    fn read_attribute(
        &mut self,
        attribute: &Element<'_>,
        joins_previous: bool,
        field: &'static str,
    ) -> Result<(), ParseError> {
        let mut parts = attribute.open(field)?;
        let kind = AttributeType::from_oid(parts.oid(field)?);
        let value = parts.any(field)?;
        parts.finish(field)?;
        match decode_string(value.tag, value.content) {
            Some(Ok(text)) => self.push(kind, &text, value.tag, joins_previous),
            Some(Err(problem)) => return Err(ParseError::invalid(field, problem).at(value.offset)),
            // RFC 4514 §2.4: a value that has no text form is `#` and its DER in hexadecimal.
            None => self.push(kind, &format!("#{}", crate::hex(value.whole)), NOT_A_STRING, joins_previous),
        }
        Ok(())
    }
}

/// Stands for the tag of a value that is not a string.
const NOT_A_STRING: u8 = 0;

/// The text of a string of one of the types that names use; nothing for other types.
fn decode_string(string_tag: u8, content: &[u8]) -> Option<Result<Cow<'_, str>, &'static str>> {
    let ascii = |allowed: fn(&u8) -> bool, problem| {
        let text = content.iter().all(allowed).then(|| std::str::from_utf8(content).ok()).flatten();
        Some(text.map(Cow::Borrowed).ok_or(problem))
    };
    match string_tag {
        tag::UTF8_STRING => {
            Some(std::str::from_utf8(content).map(Cow::Borrowed).map_err(|_| "a UTF8String is not valid UTF-8"))
        }
        tag::PRINTABLE_STRING => ascii(is_printable, "a PrintableString holds a character that it cannot"),
        tag::NUMERIC_STRING => {
            ascii(|octet| octet.is_ascii_digit() || *octet == b' ', "a NumericString holds a character that it cannot")
        }
        tag::IA5_STRING | tag::VISIBLE_STRING => ascii(u8::is_ascii, "an IA5String is not ASCII"),
        // T.61 was hardly ever written as such: what says it is, is Latin-1.
        tag::TELETEX_STRING => Some(Ok(content.iter().map(|octet| char::from(*octet)).collect())),
        tag::BMP_STRING => Some(decode_bmp(content).map(Cow::Owned).ok_or("a BMPString is not valid UCS-2")),
        tag::UNIVERSAL_STRING => {
            Some(decode_universal(content).map(Cow::Owned).ok_or("a UniversalString is not valid UCS-4"))
        }
        _ => None,
    }
}

fn decode_bmp(content: &[u8]) -> Option<String> {
    let (pairs, []) = content.as_chunks::<2>() else { return None };
    // A surrogate is not a character of UCS-2, and no character either.
    pairs.iter().map(|pair| char::from_u32(u32::from(u16::from_be_bytes(*pair)))).collect()
}

fn decode_universal(content: &[u8]) -> Option<String> {
    let (quads, []) = content.as_chunks::<4>() else { return None };
    quads.iter().map(|quad| char::from_u32(u32::from_be_bytes(*quad))).collect()
}

/// X.680 §41.4.
fn is_printable(octet: &u8) -> bool {
    octet.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(octet)
}

fn check_value(kind: &AttributeType, value: &str, string_tag: u8) -> Result<(), NameError> {
    let rule = kind.rule();
    let refuse = |problem| Err(NameError::new(rule.label, value, problem));
    if value.is_empty() {
        return refuse("it must not be empty");
    }
    if value.chars().any(char::is_control) {
        return refuse("it must not hold control characters");
    }
    let characters = if value.len() <= rule.characters_max { value.len() } else { value.chars().count() };
    if characters > rule.characters_max {
        return refuse("it is longer than RFC 5280 allows");
    }
    match (rule.string_tag, string_tag) {
        (tag::PRINTABLE_STRING, tag::PRINTABLE_STRING) if !value.bytes().all(|octet| is_printable(&octet)) => {
            refuse("only letters, digits, space and '()+,-./:=? are allowed")
        }
        (tag::PRINTABLE_STRING, tag::PRINTABLE_STRING) if *kind == AttributeType::Country => check_country(value),
        (tag::IA5_STRING, tag::IA5_STRING) if !value.is_ascii() => refuse("only ASCII characters are allowed"),
        (tag::PRINTABLE_STRING | tag::IA5_STRING, found) if found != rule.string_tag => {
            refuse("it is written in another string type than RFC 5280 asks for")
        }
        (tag::IA5_STRING, tag::IA5_STRING) => Ok(()),
        // RFC 5280 §4.1.2.4: new names are UTF8String or PrintableString; the other types are not even among its choices,
        // or for names that were there before.
        (_, tag::UTF8_STRING | tag::PRINTABLE_STRING) => Ok(()),
        _ => refuse("it is written in another string type than RFC 5280 asks for"),
    }
}

fn check_country(value: &str) -> Result<(), NameError> {
    if value.len() == 2 && value.bytes().all(|octet| octet.is_ascii_alphabetic()) {
        return Ok(());
    }
    Err(NameError::new("country", value, "it is two letters"))
}

/// RFC 4514 §2.4; control characters are written as octets, so that a rendered name is one line.
fn push_escaped(text: &mut String, value: &str) {
    let special = |octet: u8| octet < 0x20 || octet == 0x7f || b"\"+,;<>\\".contains(&octet);
    let edge = value.starts_with([' ', '#']) || value.ends_with(' ');
    if !edge && !value.bytes().any(special) {
        text.push_str(value);
        return;
    }
    let last = value.len() - 1;
    for (index, character) in value.char_indices() {
        match character {
            '#' if index == 0 => text.push_str("\\#"),
            ' ' if index == 0 || index == last => text.push_str("\\ "),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(character);
            }
            control if control.is_ascii_control() => text.push_str(&format!("\\{:02X}", u32::from(control))),
            other => text.push(other),
        }
    }
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for DistinguishedName {}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render())
    }
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DistinguishedName({})", self.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: AttributeType, value: &str) -> bool {
        DistinguishedName::build(&[(kind, value)]).is_err()
    }

    #[test]
    fn a_built_name_is_read_back_in_its_order() {
        let attributes = [
            (AttributeType::Country, "DE"),
            (AttributeType::Organization, "Acme"),
            (AttributeType::DomainComponent, "example"),
            (AttributeType::EmailAddress, "ca@example.com"),
            (AttributeType::SerialNumber, "0815"),
            (AttributeType::Other(vec![0x2a, 3, 4]), "ünï"),
            (AttributeType::CommonName, "Root"),
        ];
        let built = DistinguishedName::build(&attributes).unwrap();
        let read = DistinguishedName::from_der(built.as_der()).unwrap();
        assert_eq!(built, read);
        assert!(read.attributes().eq(attributes.clone()));
        assert!(built.attributes().eq(attributes));
        assert_eq!(read.first(AttributeType::CommonName), Some("Root"));
        assert_eq!(read.first(AttributeType::Title), None);
        let text = "C=DE,O=Acme,DC=example,emailAddress=ca@example.com,serialNumber=0815,1.2.3.4=ünï,CN=Root";
        assert_eq!(read.render(), text);
        assert_eq!(read.relative_names().len(), 7);
        assert_eq!(read.validate(), Ok(()));
        assert!(!read.is_empty());
        assert!(DistinguishedName::from_der(&[0x30, 0]).unwrap().is_empty());
    }

    #[test]
    fn each_kind_has_its_string_type() {
        let tag_of = |kind: AttributeType, value: &str| {
            let der = DistinguishedName::build(&[(kind.clone(), value)]).unwrap().as_der().to_vec();
            der[8 + kind.oid().len()]
        };
        for kind in AttributeType::NAMED {
            let expected = match kind {
                AttributeType::Country | AttributeType::SerialNumber | AttributeType::DnQualifier => 0x13,
                AttributeType::DomainComponent | AttributeType::EmailAddress => 0x16,
                _ => 0x0c,
            };
            assert_eq!(tag_of(kind.clone(), "DE"), expected, "{kind:?}");
            assert_eq!(AttributeType::from_oid(kind.oid()), kind);
        }
    }

    #[test]
    fn values_that_rfc_5280_does_not_allow_are_refused() {
        let long = "x".repeat(65);
        for kind in [AttributeType::CommonName, AttributeType::Organization, AttributeType::OrganizationalUnit] {
            assert!(refused(kind.clone(), &long));
            assert!(refused(kind.clone(), ""));
            assert!(!refused(kind.clone(), &"ü".repeat(64)));
            for bad in ["a\0b", "a\nb", "\u{7f}", "\u{85}"] {
                assert!(refused(kind.clone(), bad), "{bad:?}");
            }
        }
        for country in ["D", "DEU", "D1", "Dé", "ДЕ"] {
            assert!(refused(AttributeType::Country, country), "{country}");
        }
        assert!(refused(AttributeType::SerialNumber, "a*b"));
        assert!(refused(AttributeType::EmailAddress, "ü@example.com"));
        assert!(refused(AttributeType::DomainComponent, &"x".repeat(64)));
    }

    #[test]
    fn all_string_types_are_read_strictly() {
        let cases: [(u8, &[u8], Option<&str>); 12] = [
            (tag::UTF8_STRING, "é".as_bytes(), Some("é")),
            (tag::UTF8_STRING, &[0xc3], None),
            (tag::PRINTABLE_STRING, b"Acme", Some("Acme")),
            (tag::PRINTABLE_STRING, b"A*", None),
            (tag::IA5_STRING, b"a@b", Some("a@b")),
            (tag::IA5_STRING, &[0xe9], None),
            (tag::TELETEX_STRING, &[b'a', 0xe9], Some("aé")),
            (tag::BMP_STRING, &[0, 0x61, 0x04, 0x10], Some("aА")),
            (tag::BMP_STRING, &[0, 0x61, 0x04], None),
            (tag::BMP_STRING, &[0xd8, 0], None),
            (tag::UNIVERSAL_STRING, &[0, 1, 0xf6, 0], Some("😀")),
            (tag::BIT_STRING, &[0, 1], Some("#03020001")),
        ];
        for (string_tag, content, expected) in cases {
            let mut writer = Writer::new();
            writer.sequence(|writer| {
                writer.set_of_one(|writer| {
                    writer.sequence(|writer| {
                        writer.oid(oid::COMMON_NAME);
                        writer.primitive(string_tag, content);
                    });
                });
            });
            let name = DistinguishedName::from_der(&writer.into_bytes()).ok();
            let value = name.as_ref().and_then(|name| name.first(AttributeType::CommonName));
            assert_eq!(value, expected, "{string_tag:#x} {content:02x?}");
        }
    }

    #[test]
    fn a_new_name_is_in_the_string_types_of_rfc_5280_or_written_anew() {
        let in_type = |string_tag: u8| {
            let mut writer = Writer::new();
            writer.sequence(|writer| {
                writer.set_of_one(|writer| {
                    writer.sequence(|writer| {
                        writer.oid(oid::ORGANIZATION);
                        writer.primitive(string_tag, b"4711");
                    });
                });
            });
            DistinguishedName::from_der(&writer.into_bytes()).unwrap()
        };
        for (string_tag, is_right) in [
            (tag::UTF8_STRING, true),
            (tag::PRINTABLE_STRING, true),
            (tag::IA5_STRING, false),
            (tag::NUMERIC_STRING, false),
            (tag::VISIBLE_STRING, false),
            (tag::TELETEX_STRING, false),
        ] {
            let name = in_type(string_tag);
            assert_eq!(name.validate().is_ok(), is_right, "{string_tag:#x}");
            assert_eq!(name.reencoded().unwrap(), in_type(tag::UTF8_STRING));
        }
    }

    #[test]
    fn a_rendered_name_is_escaped() {
        let name = DistinguishedName::build(&[
            (AttributeType::Organization, "Acme, Inc. <a+b>"),
            (AttributeType::CommonName, "#x\"y\\z; "),
            (AttributeType::OrganizationalUnit, " "),
        ]);
        assert_eq!(name.unwrap().render(), "O=Acme\\, Inc. \\<a\\+b\\>,CN=\\#x\\\"y\\\\z\\;\\ ,OU=\\ ");
    }

    #[test]
    fn several_attributes_of_one_relative_name_are_joined_and_sorted() {
        let attribute = |arc: u8, value: u8| vec![0x30, 8, 6, 3, 0x55, 4, arc, 0x0c, 1, value];
        let name = |parts: [Vec<u8>; 2]| [vec![0x30, 22, 0x31, 20], parts.concat()].concat();
        let sorted = DistinguishedName::from_der(&name([attribute(3, b'a'), attribute(10, b'b')])).unwrap();
        assert_eq!(sorted.render(), "CN=a+O=b");
        assert_eq!(sorted.relative_names().len(), 1);
        assert!(DistinguishedName::from_der(&name([attribute(10, b'b'), attribute(3, b'a')])).is_err());
        assert!(DistinguishedName::from_der(&[0x30, 2, 0x31, 0]).is_err());
    }
}
