//! How objects at a destination are named: the name schema, its placeholders, and each destination's rules
//! (contract syncs §1.7).

use super::DestinationKind;
use crate::{CertificateId, Error, ProfileId, Result};

/// What a destination takes as a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// Characters beside letters and digits.
    pub others: &'static str,
    /// Whether capital letters are taken.
    pub has_capitals: bool,
    /// The fewest characters.
    pub length_min: usize,
    /// The most characters.
    pub length_max: usize,
}

/// What a certificate gives to its name.
#[derive(Clone, Debug)]
pub struct NameFacts<'a> {
    /// The certificate.
    pub certificate: CertificateId,
    /// Its profile; the certificate itself stands for one that is not there.
    pub profile: Option<ProfileId>,
    /// Its common name.
    pub common_name: &'a str,
}

/// The longest name schema, in characters.
pub const SCHEMA_CHARACTERS_MAX: usize = 1024;

impl NameRule {
    /// The rule of a destination.
    pub const fn of(kind: DestinationKind) -> Self {
        let (others, has_capitals, length_max) = match kind {
            DestinationKind::AzureKeyVault => ("-", true, 127),
            DestinationKind::AwsCertificateManager => ("-_ \t", true, 256),
            DestinationKind::AwsSecretsManager => ("-_", true, 512),
            DestinationKind::Chef | DestinationKind::CloudflareCustomCertificate => ("-_", true, 255),
            DestinationKind::F5BigIp | DestinationKind::HashicorpVault | DestinationKind::Webhook => ("._-", true, 255),
            DestinationKind::GcpCertificateManager => ("-", false, 63),
            DestinationKind::KubernetesTlsSecret => (".-", false, 253),
            DestinationKind::LinuxServer | DestinationKind::LocalDirectory => ("._-", true, 200),
        };
        Self { others, has_capitals, length_min: 1, length_max }
    }

    /// The allowed characters as a regular expression, for clients.
    pub fn pattern(self) -> String {
        let capitals = if self.has_capitals { "A-Z" } else { "" };
        let others: String =
            self.others.chars().map(|one| if one == '\t' { "\\s".into() } else { format!("\\{one}") }).collect();
        format!("^[a-z{capitals}0-9{others}]+$")
    }

    fn takes(self, character: char) -> bool {
        character.is_ascii_lowercase()
            || character.is_ascii_digit()
            || (self.has_capitals && character.is_ascii_uppercase())
            || self.others.contains(character)
    }
}

/// A part of a name schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Literal(&'a str),
    CertificateId,
    ShortCertificateId,
    ProfileId,
    CommonName,
    Environment,
}

/// A name schema that was read.
#[derive(Clone, Debug)]
pub struct NameSchema<'a> {
    parts: Vec<Part<'a>>,
    kind: DestinationKind,
}

impl<'a> NameSchema<'a> {
    /// Reads a schema and holds it against the destination's rule.
    pub fn parse(text: &'a str, kind: DestinationKind) -> Result<Self> {
        if text.is_empty() || text.chars().count() > SCHEMA_CHARACTERS_MAX {
            return Err(Error::invalid(format!(
                "certificateNameSchema must have between 1 and {SCHEMA_CHARACTERS_MAX} characters"
            )));
        }
        let schema = Self { parts: parts(text)?, kind };
        let names_one = schema.has_id();
        if !names_one && !kind.is_files() {
            return Err(Error::invalid(
                "certificateNameSchema must hold {{certificateId}} or {{shortCertificateId}}: otherwise two certificates \
                 have one name",
            ));
        }
        schema.must_fit()?;
        Ok(schema)
    }

    /// Whether each certificate has a name of its own by it.
    pub fn has_id(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::CertificateId | Part::ShortCertificateId))
    }

    /// Whether every certificate has the same name by it.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Literal(_) | Part::Environment))
    }

    /// A sample has to fit, so that no certificate fails for the schema's own sake.
    fn must_fit(&self) -> Result<()> {
        let rule = NameRule::of(self.kind);
        let name = self.kind.display_name();
        for part in &self.parts {
            let Part::Literal(text) = part else { continue };
            if let Some(wrong) = text.chars().find(|character| !rule.takes(*character)) {
                return Err(Error::invalid(format!("certificateNameSchema: {name} takes no \"{wrong}\" in names")));
            }
        }
        if self.kind == DestinationKind::GcpCertificateManager
            && !matches!(self.parts.first(), Some(Part::Literal(text)) if text.starts_with(|one: char| one.is_ascii_lowercase()))
        {
            return Err(Error::invalid(format!("certificateNameSchema: {name} wants names to begin with a letter")));
        }
        let nil = CertificateId(uuid::Uuid::nil());
        let sample = self.compose(&NameFacts { certificate: nil, profile: None, common_name: "a" });
        // Longer names of GCP are cut to what fits.
        if sample.len() > rule.length_max && self.kind != DestinationKind::GcpCertificateManager {
            return Err(Error::invalid(format!(
                "certificateNameSchema: {name} takes at most {} characters in names",
                rule.length_max
            )));
        }
        Ok(())
    }

    /// The name of a certificate. Characters of its own that the destination does not take become `-`.
    pub fn render(&self, facts: &NameFacts<'_>) -> Result<String> {
        let rule = NameRule::of(self.kind);
        let mut name = self.compose(facts);
        if self.kind == DestinationKind::GcpCertificateManager && name.len() > rule.length_max {
            const KEPT: usize = 54;
            let digest = x509::digest::sha256(name.as_bytes());
            let hex: String = digest.iter().take(4).map(|octet| format!("{octet:02x}")).collect();
            name = format!("{}-{hex}", &name[..KEPT]);
        }
        if self.kind == DestinationKind::KubernetesTlsSecret {
            name = name.trim_matches(['.', '-']).to_owned();
        }
        if name.trim_matches('.').is_empty() || name.len() > rule.length_max {
            return Err(Error::invalid(format!(
                "the name \"{name}\" must have between {} and {} characters at {}",
                rule.length_min,
                rule.length_max,
                self.kind.display_name()
            )));
        }
        Ok(name)
    }

    fn compose(&self, facts: &NameFacts<'_>) -> String {
        let rule = NameRule::of(self.kind);
        let simple = |id: uuid::Uuid| id.simple().to_string();
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => (*text).to_owned(),
                Part::CertificateId => simple(facts.certificate.0),
                Part::ShortCertificateId => short(facts.certificate.0),
                Part::ProfileId => simple(facts.profile.map_or(facts.certificate.0, |profile| profile.0)),
                Part::CommonName => {
                    let fold = |one: char| if rule.has_capitals { one } else { one.to_ascii_lowercase() };
                    let fit = |one: char| if rule.takes(one) { one } else { '-' };
                    facts.common_name.chars().map(|one| fit(fold(one))).collect()
                }
                Part::Environment => "global".to_owned(),
            })
            .collect()
    }
}

fn parts(text: &str) -> Result<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        if begin > 0 {
            parts.push(Part::Literal(&rest[..begin]));
        }
        let inner = &rest[begin + 2..];
        let end = inner.find("}}").ok_or_else(|| Error::invalid("certificateNameSchema: a {{ has no }}"))?;
        parts.push(match inner[..end].trim() {
            "certificateId" => Part::CertificateId,
            "shortCertificateId" => Part::ShortCertificateId,
            "profileId" => Part::ProfileId,
            // A certificate has no other friendly name here than its common name.
            "commonName" | "friendlyName" => Part::CommonName,
            "environment" => Part::Environment,
            other => {
                return Err(Error::invalid(format!(
                    "certificateNameSchema: there is no placeholder {{{{{other}}}}}; there are certificateId, \
                     shortCertificateId, profileId, commonName, friendlyName and environment"
                )));
            }
        });
        rest = &inner[end + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Ok(parts)
}

/// An id as a number with the digits 0-9A-Za-z, 22 of them.
fn short(id: uuid::Uuid) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 22;
    let mut left = id.as_u128();
    let mut text = ['0'; LENGTH];
    for place in text.iter_mut().rev() {
        *place = char::from(DIGITS[usize::try_from(left % 62).expect("a remainder of 62 fits")]);
        left /= 62;
    }
    text.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use DestinationKind::*;

    fn facts(common_name: &str) -> NameFacts<'_> {
        let id = uuid::Uuid::from_u128(0x0198_c5a0_0000_7000_8000_0000_0000_0001);
        NameFacts { certificate: CertificateId(id), profile: Some(ProfileId(uuid::Uuid::from_u128(7))), common_name }
    }

    #[test]
    fn placeholders_become_what_they_stand_for() {
        for (kind, schema, name) in [
            (AwsCertificateManager, "Infisical-{{certificateId}}", "Infisical-0198c5a0000070008000000000000001"),
            (Chef, "{{ shortCertificateId }}", "02sWnJxyFpKRCyaJuFbNS1"),
            (
                AzureKeyVault,
                "{{profileId}}-{{certificateId}}",
                "00000000000000000000000000000007-0198c5a0000070008000000000000001",
            ),
            (LinuxServer, "{{commonName}}", "www.example.com"),
            (
                AwsSecretsManager,
                "{{commonName}}-{{environment}}-{{shortCertificateId}}",
                "www-example-com-global-02sWnJxyFpKRCyaJuFbNS1",
            ),
            (
                KubernetesTlsSecret,
                "tls-{{commonName}}-{{certificateId}}",
                "tls-www.example.com-0198c5a0000070008000000000000001",
            ),
        ] {
            let read = NameSchema::parse(schema, kind).unwrap();
            let rendered = read.render(&facts("www.example.com")).unwrap();
            if schema.contains("short") {
                assert_eq!(rendered.len(), name.len(), "{rendered}");
            } else {
                assert_eq!(rendered, name, "{schema}");
            }
        }
        assert_eq!(short(uuid::Uuid::from_u128(61)), "000000000000000000000z");
        assert_eq!(short(uuid::Uuid::from_u128(62)), "0000000000000000000010");
        assert_eq!(short(uuid::Uuid::max()).len(), 22);
    }

    #[test]
    fn characters_that_are_not_taken_never_reach_a_destination() {
        let files = NameSchema::parse("{{commonName}}", LocalDirectory).unwrap();
        assert_eq!(files.render(&facts("../../x/y\0z")).unwrap(), "..-..-x-y-z");
        assert!(files.render(&facts("..")).is_err());
        assert!(files.render(&facts("")).is_err());
        assert!(files.render(&facts(&"a".repeat(201))).is_err());
        let lower = NameSchema::parse("a-{{commonName}}-{{certificateId}}", GcpCertificateManager).unwrap();
        let name = lower.render(&facts("*.WWW.Some-Long-Name.Example.com")).unwrap();
        assert!(name.len() == 63 && name.starts_with("a---www-some-long-name-example-com-0198c5a"), "{name}");
        assert_ne!(name, lower.render(&facts("*.WWW.Some-Long-Name.Example.org")).unwrap());
    }

    #[test]
    fn a_schema_that_cannot_work_is_refused_before_anything_is_sent() {
        for (kind, schema) in [
            (AwsCertificateManager, "constant"),
            (AwsCertificateManager, "a/{{certificateId}}"),
            (AwsSecretsManager, "a/{{certificateId}}"),
            (AzureKeyVault, "a_{{certificateId}}"),
            (GcpCertificateManager, "{{certificateId}}"),
            (GcpCertificateManager, "A{{certificateId}}"),
            (Chef, "{{certificateId"),
            (Chef, "{{secret}}{{certificateId}}"),
            (LinuxServer, "../{{commonName}}"),
            (LinuxServer, ""),
        ] {
            assert!(NameSchema::parse(schema, kind).is_err(), "{schema}");
        }
        let long = format!("{}{{{{certificateId}}}}", "a".repeat(100));
        assert!(NameSchema::parse(&long, AzureKeyVault).is_err());
        assert!(NameSchema::parse(&long, AwsCertificateManager).is_ok());
        assert!(NameSchema::parse("site", LinuxServer).unwrap().is_constant());
        for kind in DestinationKind::ALL {
            if let Some(schema) = kind.default_name_schema() {
                assert!(NameSchema::parse(schema, kind).is_ok(), "{schema}");
            }
        }
    }
}
