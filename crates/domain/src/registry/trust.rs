//! Authorities that a registry trusts, and the template by which it makes a device of a certificate of theirs.
//!
//! A template is a name and labels with placeholders: `{{commonName}}`, `{{serialNumber}}` (the certificate's own, as 40
//! hexadecimal digits) and `{{dnsName}}` (the first alternative name that is a DNS name). What a certificate says is free
//! text and a device's name is not, so other characters become `-` and what is too long is cut. Two certificates that
//! differ only in what was replaced or cut would be one device; [`Expanded::exact`] tells them apart.

use super::credential::Fingerprints;
use super::{Labels, RegistryId, TrustedAuthorityId};
use crate::error::Violation;
use crate::id::{AuthorityId, ProjectId};
use crate::inventory::serial_hex;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use x509::{AttributeType, Certificate, GeneralName, digest, pem};

/// How many authorities a registry trusts at most.
pub const TRUSTED_PER_REGISTRY_MAX: usize = 20;
/// The greatest length of a device's name.
pub const NAME_CHARACTERS_MAX: usize = 50;
/// The greatest length of a label's key and of its value.
const LABEL_CHARACTERS_MAX: usize = 63;
/// How many labels an object has at most.
const LABELS_MAX: usize = 64;
/// The greatest length of a template for one text.
const TEMPLATE_CHARACTERS_MAX: usize = 256;

/// An authority whose certificates a registry takes in by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedAuthority {
    /// Its id as a trusted one.
    pub id: TrustedAuthorityId,
    /// The registry that trusts it.
    pub registry: RegistryId,
    /// The project of that registry.
    pub project: ProjectId,
    /// The authority of ours, when it is one.
    pub authority: Option<AuthorityId>,
    /// Its certificate.
    pub der: Vec<u8>,
    /// SHA-256 of its SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// SHA-256 of its name.
    pub subject_sha256: [u8; 32],
    /// What becomes of a certificate of it.
    pub template: Template,
    /// When it was trusted.
    pub created_at: Time,
}

/// What a device is called and labelled that is made of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its name, with at least one placeholder.
    pub name: String,
    /// Its labels; the values may have placeholders.
    pub labels: Labels,
}

/// What of a certificate goes into a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The common name of the subject; empty when there is none.
    pub common_name: String,
    /// The serial number in hexadecimal.
    pub serial_number: String,
    /// The first alternative name that is a DNS name; empty when there is none.
    pub dns_name: String,
}

/// What a template comes to for one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// The device's name.
    pub name: String,
    /// That name before anything was replaced in it or cut from it.
    pub exact: String,
    /// The device's labels.
    pub labels: Labels,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placeholder {
    CommonName,
    SerialNumber,
    DnsName,
}

/// A piece of a template.
enum Piece<'a> {
    Literal(&'a str),
    Placeholder(Placeholder),
}

impl TrustedAuthority {
    /// Its certificate in PEM.
    pub fn certificate_data(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }

    /// The digests of its certificate.
    pub fn fingerprints(&self) -> Fingerprints {
        Fingerprints { sha256: digest::sha256(&self.der), sha1: digest::sha1(&self.der), imported: None }
    }
}

impl Default for Template {
    fn default() -> Self {
        Self { name: "{{commonName}}".into(), labels: Labels::new() }
    }
}

impl Template {
    /// The template that a caller asks for, or every rule that it breaks.
    pub fn parse(name: &str, labels: &Labels) -> Result<Self, Vec<Violation>> {
        let mut violations = Vec::new();
        match pieces(name) {
            Err(problem) => violations.push(Violation::new("template.name", "template", problem)),
            Ok(pieces) if !pieces.iter().any(|piece| matches!(piece, Piece::Placeholder(_))) => {
                let message = "template.name needs a placeholder: without one all certificates would be one device";
                violations.push(Violation::new("template.name", "template", message));
            }
            Ok(pieces) => {
                let allowed = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
                if let Some(other) = literals(&pieces).find(|character| !allowed(*character)) {
                    let message = format!("a name has letters, digits, \"-\" and \"_\", not \"{other}\"");
                    violations.push(Violation::new("template.name", "pattern", message));
                }
            }
        }
        if labels.len() > LABELS_MAX {
            let message = format!("there are at most {LABELS_MAX} labels, {} were given", labels.len());
            violations.push(Violation::new("template.labels", "size", message));
        }
        for (key, value) in labels.iter().take(LABELS_MAX) {
            violations.extend(
                problem_of_label(key, value).map(|(rule, message)| Violation::new("template.labels", rule, message)),
            );
        }
        if violations.is_empty() { Ok(Self { name: name.to_owned(), labels: labels.clone() }) } else { Err(violations) }
    }

    /// The device that a certificate of these names stands for; nothing when the certificate lacks what the name needs.
    pub fn expand(&self, names: &CertificateNames) -> Option<Expanded> {
        let exact = expanded(&self.name, names, Missing::IsRefused)?;
        let name = exact
            .chars()
            .take(NAME_CHARACTERS_MAX)
            .map(|character| if character.is_ascii_alphanumeric() || character == '_' { character } else { '-' })
            .collect();
        let label = |value: &String| Some(label_of(&expanded(value, names, Missing::IsEmpty)?));
        let labels = self.labels.iter().filter_map(|(key, value)| Some((key.clone(), label(value)?))).collect();
        Some(Expanded { name, exact, labels })
    }
}

impl CertificateNames {
    /// What this certificate says.
    pub fn of(certificate: &Certificate) -> Self {
        let names = certificate.extensions().subject_alt_names().ok().flatten();
        let dns_name = names.and_then(|names| {
            names.valid().find_map(|name| match name {
                GeneralName::Dns(name) => Some(name.as_str().to_owned()),
                _ => None,
            })
        });
        Self {
            common_name: certificate.subject().first(AttributeType::CommonName).unwrap_or_default().to_owned(),
            serial_number: serial_hex(certificate),
            dns_name: dns_name.unwrap_or_default(),
        }
    }

    fn value(&self, of: Placeholder) -> &str {
        match of {
            Placeholder::CommonName => &self.common_name,
            Placeholder::SerialNumber => &self.serial_number,
            Placeholder::DnsName => &self.dns_name,
        }
    }
}

impl Placeholder {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "commonName" => Some(Self::CommonName),
            "serialNumber" => Some(Self::SerialNumber),
            "dnsName" => Some(Self::DnsName),
            _ => None,
        }
    }
}

/// What becomes of a placeholder that the certificate has nothing for.
#[derive(Clone, Copy)]
enum Missing {
    IsRefused,
    IsEmpty,
}

fn expanded(text: &str, names: &CertificateNames, missing: Missing) -> Option<String> {
    let mut result = String::new();
    for piece in pieces(text).ok()? {
        match (piece, missing) {
            (Piece::Literal(text), _) => result.push_str(text),
            (Piece::Placeholder(of), Missing::IsRefused) if names.value(of).is_empty() => return None,
            (Piece::Placeholder(of), _) => result.push_str(names.value(of)),
        }
    }
    Some(result)
}

fn label_of(text: &str) -> String {
    let kept = |character: char| match character.to_ascii_lowercase() {
        lower if lower.is_ascii_lowercase() || lower.is_ascii_digit() || lower == '_' => lower,
        _ => '-',
    };
    text.chars().take(LABEL_CHARACTERS_MAX).map(kept).collect()
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    if text.chars().count() > TEMPLATE_CHARACTERS_MAX {
        return Err(format!("a template has at most {TEMPLATE_CHARACTERS_MAX} characters"));
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (word, after) =
            after.split_once("}}").ok_or_else(|| format!("\"{text}\" opens {{{{ and does not close it"))?;
        let placeholder = Placeholder::parse(word).ok_or_else(|| {
            format!("there is no placeholder {{{{{word}}}}}: use {{{{commonName}}}}, {{{{serialNumber}}}} or {{{{dnsName}}}}")
        })?;
        pieces.push(Piece::Literal(before));
        pieces.push(Piece::Placeholder(placeholder));
        rest = after;
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

fn literals<'a>(pieces: &'a [Piece<'_>]) -> impl Iterator<Item = char> + 'a {
    pieces.iter().flat_map(|piece| match piece {
        Piece::Literal(text) => text.chars(),
        Piece::Placeholder(_) => "".chars(),
    })
}

fn problem_of_label(key: &str, value: &str) -> Option<(&'static str, String)> {
    let allowed =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(character);
    let is_key = key.starts_with(|first: char| first.is_ascii_lowercase())
        && key.len() <= LABEL_CHARACTERS_MAX
        && key.chars().all(allowed);
    if !is_key {
        let message = format!(
            "the key of a label begins with a lower-case letter and has at most {LABEL_CHARACTERS_MAX} of them, digits, \
             \"-\" and \"_\", not \"{key}\""
        );
        return Some(("map_key", message));
    }
    match pieces(value) {
        Err(problem) => Some(("template", format!("the label {key}: {problem}"))),
        Ok(pieces) => literals(&pieces).find(|character| !allowed(*character)).map(|other| {
            (
                "pattern",
                format!("the value of a label has lower-case letters, digits, \"-\" and \"_\", not \"{other}\""),
            )
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(common_name: &str) -> CertificateNames {
        CertificateNames {
            common_name: common_name.into(),
            serial_number: "0a0b".into(),
            dns_name: "pump-7.Plant.example.com".into(),
        }
    }

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn placeholders_are_filled_and_what_a_name_cannot_hold_becomes_a_hyphen() {
        for (template, common_name, name) in [
            ("{{commonName}}", "pump-7", "pump-7"),
            ("{{commonName}}", "Pump 7.plant/é", "Pump-7-plant--"),
            ("dev_{{serialNumber}}-{{commonName}}", "x", "dev_0a0b-x"),
            ("{{dnsName}}", "", "pump-7-Plant-example-com"),
            ("{{commonName}}{{commonName}}", "{{dnsName}}", "--dnsName----dnsName--"),
        ] {
            let template = Template::parse(template, &Labels::new()).unwrap();
            let expanded = template.expand(&names(common_name)).unwrap();
            assert_eq!(expanded.name, name);
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_the_whole_is_still_told() {
        let template = Template::parse("{{commonName}}", &labels(&[("of", "{{commonName}}")])).unwrap();
        let long = "n".repeat(80);
        let expanded = template.expand(&names(&long)).unwrap();
        assert_eq!((expanded.name.len(), expanded.exact.len(), expanded.labels["of"].len()), (50, 80, 63));
    }

    #[test]
    fn a_name_needs_what_it_is_made_of_and_a_label_does_not() {
        let template = Template::parse("{{commonName}}", &labels(&[("where", "{{dnsName}}")])).unwrap();
        assert_eq!(template.expand(&names("")), None);
        let bare = CertificateNames { common_name: "x".into(), ..CertificateNames::default() };
        assert_eq!(template.expand(&bare).unwrap().labels["where"], "");
        let full = template.expand(&names("x")).unwrap();
        assert_eq!(full.labels["where"], "pump-7-plant-example-com");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for name in [
            "",
            "constant",
            "{{commonName",
            "{{}}",
            "{{CommonName}}",
            "{{ commonName }}",
            "{{owner}}",
            "a b {{commonName}}",
            "é{{commonName}}",
        ] {
            assert!(Template::parse(name, &Labels::new()).is_err(), "{name}");
        }
        assert!(Template::parse(&format!("{}{{{{commonName}}}}", "a".repeat(256)), &Labels::new()).is_err());
        for (key, value) in
            [("", "x"), ("Key", "x"), ("1", "x"), ("k", "X"), ("k", "{{nothing}}"), ("k", "{{commonName")]
        {
            let problems = Template::parse("{{commonName}}", &labels(&[(key, value)])).unwrap_err();
            assert_eq!(problems.len(), 1, "{key}={value}");
        }
        let many: Labels = (0..65).map(|number| (format!("k{number}"), "v".to_owned())).collect();
        assert!(Template::parse("{{commonName}}", &many).is_err());
    }
}
