//! What an authority's configuration means in X.509 terms: its subject, name constraints, policies and usages.

use domain::authority::{AuthorityConfiguration, ConstrainedName};
use domain::{Error, Result};
use x509::extension::Subtree;
use x509::{AttributeType, DistinguishedName, ExtendedKeyUsage, NameConstraints, Uri};

/// The subject in the order of contract §1.8: C, O, OU, ST, CN, L.
pub(crate) fn subject_of(configuration: &AuthorityConfiguration) -> Result<DistinguishedName> {
    let attributes = [
        (AttributeType::Country, configuration.country.as_str()),
        (AttributeType::Organization, configuration.organization.as_str()),
        (AttributeType::OrganizationalUnit, configuration.ou.as_str()),
        (AttributeType::State, configuration.province.as_str()),
        (AttributeType::CommonName, configuration.common_name.as_str()),
        (AttributeType::Locality, configuration.locality.as_str()),
    ];
    let present: Vec<(AttributeType, &str)> = attributes.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    if present.is_empty() {
        return Err(Error::invalid("a certificate authority needs at least one part of a subject"));
    }
    DistinguishedName::build(&present).map_err(|error| Error::invalid(error.to_string()))
}

/// Refuses a configuration whose extensions cannot be written.
pub(crate) fn check(configuration: &AuthorityConfiguration) -> Result<()> {
    name_constraints(configuration)?;
    policies(configuration)?;
    extended_key_usages(configuration)?;
    let Some(url) = &configuration.publication_url else { return Ok(()) };
    match Uri::parse(url) {
        // invariants §2f: lists are fetched over http, since https would need a certificate to be checked first.
        Ok(uri) if uri.scheme() == "http" && uri.host().is_some() && !url.contains(['@', '?', '#']) => Ok(()),
        Ok(_) => Err(Error::invalid(
            "publicationUrl must be an http URL of a host and perhaps a path, such as http://pki.example.com",
        )),
        Err(error) => Err(Error::invalid(format!("publicationUrl: {error}"))),
    }
}

pub(crate) fn name_constraints(configuration: &AuthorityConfiguration) -> Result<Option<NameConstraints>> {
    if configuration.name_constraints.is_empty() {
        return Ok(None);
    }
    let read = |names: &[ConstrainedName]| names.iter().map(subtree).collect::<Result<Vec<_>>>();
    Ok(Some(NameConstraints {
        permitted: read(&configuration.name_constraints.permitted)?,
        excluded: read(&configuration.name_constraints.excluded)?,
    }))
}

fn subtree(name: &ConstrainedName) -> Result<Subtree> {
    let value = name.value.as_str();
    let bad =
        |problem: String| Error::invalid(format!("nameConstraints: \"{value}\" is not a {}: {problem}", name.kind));
    match name.kind.as_str() {
        "dns_name" => Subtree::dns(value).map_err(|error| bad(error.to_string())),
        "email" => Subtree::email(value).map_err(|error| bad(error.to_string())),
        "uri" => Subtree::uri(value).map_err(|error| bad(error.to_string())),
        "ip_address" => {
            value.parse().map(Subtree::Ip).map_err(|_| bad("write it as a network, such as 10.0.0.0/8".into()))
        }
        "directory_name" => directory_name(value).map(Subtree::Directory).map_err(bad),
        kind => Err(Error::invalid(format!(
            "nameConstraints: the type {kind} is not one of dns_name, ip_address, email, uri, directory_name"
        ))),
    }
}

/// `C=DE,O=Acme`: the attributes in the order in which they are encoded.
fn directory_name(text: &str) -> std::result::Result<DistinguishedName, String> {
    let mut attributes = Vec::new();
    for part in text.split(',') {
        let (kind, value) = part.split_once('=').ok_or("write it as C=DE,O=Acme")?;
        let kind = match kind.trim().to_ascii_uppercase().as_str() {
            "C" => AttributeType::Country,
            "O" => AttributeType::Organization,
            "OU" => AttributeType::OrganizationalUnit,
            "ST" => AttributeType::State,
            "L" => AttributeType::Locality,
            "CN" => AttributeType::CommonName,
            "DC" => AttributeType::DomainComponent,
            other => return Err(format!("the attribute {other} is not one of C, O, OU, ST, L, CN, DC")),
        };
        attributes.push((kind, value.trim()));
    }
    DistinguishedName::build(&attributes).map_err(|error| error.to_string())
}

/// The contents of the configured policy OIDs. RFC 5280 §4.2.1.4: none of them twice.
pub(crate) fn policies(configuration: &AuthorityConfiguration) -> Result<Vec<Vec<u8>>> {
    let mut policies = Vec::new();
    for text in &configuration.policy_oids {
        let policy =
            x509::oid::from_dotted(text).ok_or_else(|| Error::invalid(format!("policyOids: {text} is not an OID")))?;
        if policies.contains(&policy) {
            return Err(Error::invalid(format!("policyOids: {text} is there twice")));
        }
        policies.push(policy);
    }
    Ok(policies)
}

/// The configured extended key usages, none of them twice: a certificate that names one twice is refused when it is read.
pub(crate) fn extended_key_usages(configuration: &AuthorityConfiguration) -> Result<Vec<ExtendedKeyUsage>> {
    let mut usages = Vec::new();
    for name in &configuration.extended_key_usages {
        let usage = ExtendedKeyUsage::from_snake_name(name)
            .ok_or_else(|| Error::invalid(format!("extendedKeyUsages: {name} is not a known usage")))?;
        if usages.contains(&usage) {
            return Err(Error::invalid(format!("extendedKeyUsages: {name} is there twice")));
        }
        usages.push(usage);
    }
    Ok(usages)
}
