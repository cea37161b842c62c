//! Distinguished names that mean the same although they are written differently (RFC 5280 §7.1).
//!
//! Text is compared without regard to case, to the string type, and to the number of spaces. Unicode is not normalised
//! further: names that differ in that count as different. Issuer and subject of a chain are not compared here but octet
//! by octet.

use crate::der::{Reader, tag};
use crate::name::DistinguishedName;

/// A name whose relative names can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ComparableName {
    relative_names: Vec<Vec<ComparableAttribute>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ComparableAttribute {
    oid: Vec<u8>,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// Not a string: its DER.
    Der(Vec<u8>),
}

impl ComparableName {
    pub(super) fn new(name: &DistinguishedName) -> Self {
        let mut texts = name.attributes().map(|(_, text)| text);
        let relative_names = name
            .relative_names()
            .into_iter()
            .map(|der| {
                let mut attributes = read_attributes(der, &mut texts);
                attributes.sort_unstable();
                attributes
            })
            .collect();
        Self { relative_names }
    }

    /// Whether the first relative names are those of the other name.
    pub(super) fn begins_with(&self, other: &Self) -> bool {
        self.relative_names.starts_with(&other.relative_names)
    }
}

/// The attributes of one relative name; `texts` gives the text of each attribute of the whole name in turn.
fn read_attributes<'a>(der: &[u8], texts: &mut impl Iterator<Item = &'a str>) -> Vec<ComparableAttribute> {
    let mut attributes = Vec::new();
    let Ok(mut set) = Reader::new(der).set("name") else {
        return attributes;
    };
    while let Ok(mut attribute) = set.sequence("name") {
        let (Ok(oid), Ok(value), Some(text)) = (attribute.oid("name"), attribute.any("name"), texts.next()) else {
            break;
        };
        let value = if is_string(value.tag) { Value::Text(fold(text)) } else { Value::Der(value.whole.to_vec()) };
        attributes.push(ComparableAttribute { oid: oid.to_vec(), value });
    }
    attributes
}

fn is_string(value_tag: u8) -> bool {
    matches!(
        value_tag,
        tag::UTF8_STRING
            | tag::PRINTABLE_STRING
            | tag::NUMERIC_STRING
            | tag::IA5_STRING
            | tag::VISIBLE_STRING
            | tag::TELETEX_STRING
            | tag::BMP_STRING
            | tag::UNIVERSAL_STRING
    )
}

/// RFC 4518 §2.2 and §2.6.1, for what occurs: lower case, no space at the ends, one space between words.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::Writer;
    use crate::name::AttributeType;
    use crate::oid;

    fn one_relative_name(attributes: &[(&[u8], u8, &[u8])]) -> DistinguishedName {
        let mut writer = Writer::new();
        writer.sequence(|writer| {
            writer.set_of_one(|writer| {
                for (oid, value_tag, value) in attributes {
                    writer.sequence(|writer| {
                        writer.oid(oid);
                        writer.primitive(*value_tag, value);
                    });
                }
            });
        });
        DistinguishedName::from_der(&writer.into_bytes()).unwrap()
    }

    #[test]
    fn the_string_type_and_the_case_do_not_matter() {
        let names = [
            one_relative_name(&[(oid::COMMON_NAME, tag::PRINTABLE_STRING, b"Acme  Root")]),
            one_relative_name(&[(oid::COMMON_NAME, tag::UTF8_STRING, b"acme root ")]),
            one_relative_name(&[(oid::COMMON_NAME, tag::BMP_STRING, b"\0A\0C\0M\0E\0 \0r\0o\0o\0t")]),
            DistinguishedName::build(&[(AttributeType::CommonName, "ACME ROOT")]).unwrap(),
        ];
        for name in &names {
            assert_eq!(ComparableName::new(name), ComparableName::new(&names[0]));
        }
    }

    #[test]
    fn attributes_of_one_relative_name_have_no_order_but_stay_together() {
        let both = one_relative_name(&[
            (oid::COMMON_NAME, tag::UTF8_STRING, b"A"),
            (oid::COMMON_NAME, tag::UTF8_STRING, b"b"),
        ]);
        let other = one_relative_name(&[
            (oid::COMMON_NAME, tag::UTF8_STRING, b"B"),
            (oid::COMMON_NAME, tag::UTF8_STRING, b"a"),
        ]);
        assert_eq!(ComparableName::new(&both), ComparableName::new(&other));
        let apart =
            DistinguishedName::build(&[(AttributeType::CommonName, "A"), (AttributeType::CommonName, "b")]).unwrap();
        assert_ne!(ComparableName::new(&both), ComparableName::new(&apart));
        assert!(!ComparableName::new(&both).begins_with(&ComparableName::new(&one_relative_name(&[(
            oid::COMMON_NAME,
            tag::UTF8_STRING,
            b"A"
        )]))));
    }

    #[test]
    fn what_is_not_text_is_compared_as_it_is() {
        let number = one_relative_name(&[(&[0x2a, 3], tag::INTEGER, &[5])]);
        let text = one_relative_name(&[(&[0x2a, 3], tag::UTF8_STRING, b"#020105")]);
        assert_eq!(number.render(), "1.2.3=#020105");
        assert_ne!(ComparableName::new(&number), ComparableName::new(&text));
        assert_eq!(ComparableName::new(&number), ComparableName::new(&number.clone()));
    }
}
