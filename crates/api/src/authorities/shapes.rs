//! How an authority looks in requests and replies: flat in the v1 family, nested in the typed ones.

use crate::error::Result;
use crate::render::{KEY_ALGORITHMS, timestamp};
use crate::schema::{
    Schema, any, boolean, date, integer, list, number, object, one_of, optional, required, text, uuid,
};
use domain::authority::{Authority, AuthorityConfiguration, AuthorityKind, NameConstraintsConfiguration, Switch};
use domain::{Error, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::authorities::{NewAuthority, distinguished_name};
use x509::KeyAlgorithm;

const KINDS: &[&str] = &["root", "intermediate"];
const NAME_TYPES: &[&str] = &["dns_name", "ip_address", "email", "uri", "directory_name"];
const USAGES: &[&str] =
    &["client_auth", "server_auth", "code_signing", "email_protection", "ocsp_signing", "time_stamping"];

/// The body of `POST /api/v1/pki/ca`.
pub(super) fn flat_create_schema() -> Schema {
    object([
        required("projectSlug", text()),
        required("type", one_of(KINDS)),
        optional("friendlyName", text().at_most(255)),
        required("commonName", text().at_most(255)),
        required("organization", text().at_most(255)),
        required("ou", text().at_most(255)),
        required("country", text().at_most(255)),
        required("province", text().at_most(255)),
        required("locality", text().at_most(255)),
        optional("notBefore", date()),
        optional("notAfter", date()),
        optional("maxPathLength", integer().at_least(-1).at_most(255).default(json!(-1))),
        optional("keyAlgorithm", one_of(&KEY_ALGORITHMS).default(json!("RSA_2048"))),
        optional("requireTemplateForIssuance", boolean().default(json!(false))),
    ])
    .rule(
        &[],
        "At least one of commonName, organization, ou, country, province and locality must not be empty",
        has_subject,
    )
}

fn has_subject(body: &Value) -> bool {
    ["commonName", "organization", "ou", "country", "province", "locality"]
        .iter()
        .any(|name| body.get(*name).and_then(Value::as_str).is_some_and(|value| !value.is_empty()))
}

/// `configuration` of the typed families. `nameConstraints`, `policyOids`, `extendedKeyUsages`, `publicationUrl` and
/// `isOcspEnabled` are extensions of ours.
pub(super) fn configuration_schema() -> Schema {
    let names = || {
        list(object([required("type", one_of(NAME_TYPES)), required("value", text().at_least(1).at_most(255))]))
            .at_most(100)
            .default(json!([]))
    };
    object([
        required("type", one_of(KINDS)),
        optional("friendlyName", text().at_most(255)),
        optional("commonName", text().at_most(255)),
        optional("organization", text().at_most(255)),
        optional("ou", text().at_most(255)),
        optional("country", text().at_most(255)),
        optional("province", text().at_most(255)),
        optional("locality", text().at_most(255)),
        optional("notBefore", date().nullable()),
        optional("notAfter", date().nullable()),
        optional("maxPathLength", integer().at_least(-1).at_most(255).nullable()),
        required("keyAlgorithm", one_of(&KEY_ALGORITHMS)),
        optional("nameConstraints", object([optional("permitted", names()), optional("excluded", names())])),
        optional("policyOids", list(text().at_least(3).at_most(128)).at_most(20)),
        optional("extendedKeyUsages", list(one_of(USAGES)).at_most(10)),
        optional("publicationUrl", text().at_least(1).at_most(255)),
        optional("isOcspEnabled", boolean().default(json!(true))),
    ])
    .rule(
        &[],
        "At least one of commonName, organization, ou, country, province and locality must not be empty",
        has_subject,
    )
}

/// A flat authority.
pub(super) fn flat_schema() -> Schema {
    object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("name", text()),
        required("status", one_of(&["active", "disabled", "pending-certificate"])),
        required("enableDirectIssuance", boolean()),
        required("requireTemplateForIssuance", boolean()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("type", one_of(KINDS)),
        required("friendlyName", text()),
        required("organization", text()),
        required("ou", text()),
        required("country", text()),
        required("province", text()),
        required("locality", text()),
        required("commonName", text()),
        required("dn", text()),
        required("serialNumber", text().nullable()),
        required("maxPathLength", number().nullable()),
        required("keyAlgorithm", one_of(&KEY_ALGORITHMS)),
        optional("notBefore", date()),
        optional("notAfter", date()),
        required("activeCaCertId", uuid().nullable()),
        required("parentCaId", uuid().nullable()),
    ])
}

/// A nested authority.
pub(super) fn nested_schema() -> Schema {
    object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("name", text()),
        required("status", one_of(&["active", "disabled", "pending-certificate"])),
        required("enableDirectIssuance", boolean()),
        required("type", one_of(&["internal"])),
        required("createdAt", date()),
        required("updatedAt", date()),
        required(
            "configuration",
            object([
                required("type", one_of(KINDS)),
                optional("friendlyName", text()),
                required("commonName", text()),
                required("organization", text()),
                required("ou", text()),
                required("country", text()),
                required("province", text()),
                required("locality", text()),
                optional("notBefore", date()),
                optional("notAfter", date()),
                optional("maxPathLength", number()),
                required("keyAlgorithm", one_of(&KEY_ALGORITHMS)),
                required("dn", text()),
                optional("parentCaId", uuid()),
                optional("serialNumber", text()),
                optional("activeCaCertId", uuid()),
                optional("nameConstraints", any()),
                optional("policyOids", list(text())),
                optional("extendedKeyUsages", list(text())),
                optional("publicationUrl", text()),
                optional("isOcspEnabled", boolean()),
            ]),
        ),
    ])
}

/// The body of `POST /api/v1/pki/ca`, checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateFlat {
    pub(super) project_slug: String,
    require_template_for_issuance: bool,
    #[serde(flatten)]
    configuration: Configuration,
}

impl CreateFlat {
    pub(super) fn into_new(self) -> Result<NewAuthority> {
        self.configuration.into_new(None, !self.require_template_for_issuance)
    }
}

/// The configuration of a new authority, checked. An absent part of the subject is empty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Configuration {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    friendly_name: String,
    #[serde(default)]
    common_name: String,
    #[serde(default)]
    organization: String,
    #[serde(default)]
    ou: String,
    #[serde(default)]
    country: String,
    #[serde(default)]
    province: String,
    #[serde(default)]
    locality: String,
    not_before: Option<Time>,
    not_after: Option<Time>,
    max_path_length: Option<i64>,
    key_algorithm: String,
    #[serde(default)]
    name_constraints: NameConstraintsConfiguration,
    #[serde(default)]
    policy_oids: Vec<String>,
    #[serde(default)]
    extended_key_usages: Vec<String>,
    publication_url: Option<String>,
    is_ocsp_enabled: Option<bool>,
}

impl Configuration {
    pub(super) fn into_new(self, name: Option<String>, enable_direct_issuance: bool) -> Result<NewAuthority> {
        let unknown = || Error::failed("a checked word of a request is not known");
        Ok(NewAuthority {
            name,
            kind: AuthorityKind::parse(&self.kind).ok_or_else(unknown)?,
            key_algorithm: KeyAlgorithm::parse(&self.key_algorithm).ok_or_else(unknown)?,
            path_length_max: path_length(self.max_path_length),
            not_before: self.not_before,
            not_after: self.not_after,
            enable_direct_issuance,
            configuration: AuthorityConfiguration {
                friendly_name: self.friendly_name,
                common_name: self.common_name,
                organization: self.organization,
                ou: self.ou,
                country: self.country,
                province: self.province,
                locality: self.locality,
                name_constraints: self.name_constraints,
                policy_oids: self.policy_oids,
                extended_key_usages: self.extended_key_usages,
                publication_url: self.publication_url,
                ocsp: if self.is_ocsp_enabled == Some(false) { Switch::Off } else { Switch::On },
            },
        })
    }
}

/// -1 and nothing are both "without limit".
pub(super) fn path_length(sent: Option<i64>) -> Option<u32> {
    sent.and_then(|length| u32::try_from(length).ok())
}

fn shown_path_length(authority: &Authority) -> Value {
    match (authority.path_length_max, authority.active_certificate) {
        (Some(length), _) => json!(length),
        (None, Some(_)) => json!(-1),
        (None, None) => Value::Null,
    }
}

/// An authority of the v1 family.
pub(super) fn flat(authority: &Authority) -> Value {
    let configuration = &authority.configuration;
    let mut shown = json!({
        "id": authority.id,
        "projectId": authority.project,
        "name": authority.name,
        "status": authority.status.as_str(),
        "enableDirectIssuance": authority.enable_direct_issuance,
        "requireTemplateForIssuance": !authority.enable_direct_issuance,
        "createdAt": timestamp(authority.created_at),
        "updatedAt": timestamp(authority.updated_at),
        "type": authority.kind.as_str(),
        "friendlyName": configuration.friendly_name,
        "organization": configuration.organization,
        "ou": configuration.ou,
        "country": configuration.country,
        "province": configuration.province,
        "locality": configuration.locality,
        "commonName": configuration.common_name,
        "dn": distinguished_name(configuration),
        "serialNumber": authority.serial_number,
        "maxPathLength": shown_path_length(authority),
        "keyAlgorithm": authority.key_algorithm.as_str(),
        "activeCaCertId": authority.active_certificate,
        "parentCaId": authority.parent,
    });
    add_lifetime(&mut shown, authority);
    shown
}

/// An authority of the typed families. What it does not have is left out.
pub(super) fn nested(authority: &Authority) -> Value {
    let configuration = &authority.configuration;
    let mut inner = json!({
        "type": authority.kind.as_str(),
        "friendlyName": configuration.friendly_name,
        "commonName": configuration.common_name,
        "organization": configuration.organization,
        "ou": configuration.ou,
        "country": configuration.country,
        "province": configuration.province,
        "locality": configuration.locality,
        "keyAlgorithm": authority.key_algorithm.as_str(),
        "dn": distinguished_name(configuration),
    });
    add_lifetime(&mut inner, authority);
    let path_length = shown_path_length(authority);
    let optional = [
        ("maxPathLength", path_length),
        ("parentCaId", json!(authority.parent)),
        ("serialNumber", json!(authority.serial_number)),
        ("activeCaCertId", json!(authority.active_certificate)),
        ("publicationUrl", json!(configuration.publication_url)),
    ];
    for (name, value) in optional.into_iter().filter(|(_, value)| !value.is_null()) {
        inner[name] = value;
    }
    if !configuration.ocsp.is_on() {
        inner["isOcspEnabled"] = json!(false);
    }
    if !configuration.name_constraints.is_empty() {
        inner["nameConstraints"] = json!(configuration.name_constraints);
    }
    if !configuration.policy_oids.is_empty() {
        inner["policyOids"] = json!(configuration.policy_oids);
    }
    if !configuration.extended_key_usages.is_empty() {
        inner["extendedKeyUsages"] = json!(configuration.extended_key_usages);
    }
    json!({
        "id": authority.id,
        "projectId": authority.project,
        "name": authority.name,
        "status": authority.status.as_str(),
        "enableDirectIssuance": authority.enable_direct_issuance,
        "type": "internal",
        "createdAt": timestamp(authority.created_at),
        "updatedAt": timestamp(authority.updated_at),
        "configuration": inner,
    })
}

fn add_lifetime(shown: &mut Value, authority: &Authority) {
    if let (Some(not_before), Some(not_after)) = (authority.not_before, authority.not_after) {
        shown["notBefore"] = timestamp(not_before).into();
        shown["notAfter"] = timestamp(not_after).into();
    }
}
