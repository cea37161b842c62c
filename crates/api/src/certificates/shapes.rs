//! How a certificate looks in requests and replies.

use crate::render::{optional_timestamp, timestamp};
use crate::schema::{
    Schema, any, boolean, date, integer, list, number, object, one_of, optional, required, text, uuid,
};
use domain::Time;
use domain::inventory::{is_authority, serial_hex};
use serde_json::{Value, json};
use services::certificates::{Bundle, Record};
use services::issue::Issued;
use x509::{AttributeType, Certificate, pem};

/// SAN types by their names on the wire.
pub(super) const SAN_TYPES: &[&str] = &["dns_name", "ip_address", "email", "uri"];
/// Key usages in snake form.
pub(super) const KEY_USAGES: &[&str] = &[
    "digital_signature",
    "key_encipherment",
    "non_repudiation",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
];
/// Extended key usages in snake form.
pub(super) const EXTENDED_KEY_USAGES: &[&str] =
    &["client_auth", "server_auth", "code_signing", "email_protection", "ocsp_signing", "time_stamping"];

/// Alternative names of a request.
pub(super) fn alt_names_schema() -> Schema {
    list(object([required("type", one_of(SAN_TYPES)), required("value", text().at_least(1))]))
}

/// What issuing answers with.
pub(super) fn issued_schema() -> Schema {
    object([
        required("certificate", text()),
        required("issuingCaCertificate", text()),
        required("certificateChain", text()),
        optional("privateKey", text()),
        required("serialNumber", text()),
        required("certificateId", text()),
    ])
}

/// A certificate's record.
pub(crate) fn record_schema() -> Schema {
    object([
        required("id", uuid()),
        required("createdAt", date()),
        required("updatedAt", date()),
        required("caId", uuid().nullable()),
        required("caCertId", uuid().nullable()),
        required("status", one_of(&["active", "expired", "revoked"])),
        required("serialNumber", text()),
        required("friendlyName", text()),
        required("commonName", text()),
        required("altNames", text().nullable()),
        required("notBefore", date()),
        required("notAfter", date()),
        required("revokedAt", date().nullable()),
        required("revocationReason", number().nullable()),
        required("certificateTemplateId", uuid().nullable()),
        required("keyUsages", list(text()).nullable()),
        required("extendedKeyUsages", list(text()).nullable()),
        required("projectId", uuid()),
        required("pkiSubscriberId", uuid().nullable()),
        required("profileId", uuid().nullable()),
        required("renewBeforeDays", number().nullable()),
        required("renewedFromCertificateId", uuid().nullable()),
        required("renewedByCertificateId", uuid().nullable()),
        required("renewalError", text().nullable()),
        required("keyAlgorithm", text().nullable()),
        required("signatureAlgorithm", text().nullable()),
        required("subjectOrganization", text().nullable()),
        required("subjectOrganizationalUnit", text().nullable()),
        required("subjectCountry", text().nullable()),
        required("subjectState", text().nullable()),
        required("subjectLocality", text().nullable()),
        required("fingerprintSha256", text()),
        required("fingerprintSha1", text()),
        required("isCA", boolean()),
        required("pathLength", number().nullable()),
        required("hasPrivateKey", boolean()),
        required("source", one_of(&["issued", "imported"])),
        optional("applicationId", uuid()),
        optional("droppedKeyUsages", list(text())),
        optional("metadata", list(any())),
    ])
}

/// What issuing answers with. `removeRootsFromChain` drops the last certificate of the chain, whatever it is.
pub(super) fn issued(issued: &Issued, remove_roots: bool) -> Value {
    let mut shown = json!({
        "certificate": issued.certificate_pem,
        "issuingCaCertificate": issued.issuing_ca_pem,
        "certificateChain": chain(&issued.chain_pem, remove_roots),
        "serialNumber": serial_hex(&issued.certificate),
        "certificateId": issued.id,
    });
    if let Some(key) = &issued.private_key {
        shown["privateKey"] = pem::encode(pem::PRIVATE_KEY, key.expose()).into();
    }
    shown
}

/// A chain without its last certificate, when that is asked for.
pub(super) fn chain(chain: &str, remove_roots: bool) -> String {
    if !remove_roots {
        return chain.to_owned();
    }
    chain.rfind("-----BEGIN").map_or("", |start| chain[..start].trim_end()).to_owned()
}

/// A record as lists and the v1 family show it.
pub(crate) fn record(record: &Record) -> Value {
    let certificate = &record.certificate;
    let issued = &record.row.issued;
    let extensions = certificate.extensions();
    let key_usages = extensions.key_usages().ok().flatten();
    let extended = extensions.extended_key_usages().ok().flatten();
    let camel = |usages: Vec<x509::ExtendedKeyUsage>| -> Vec<String> {
        usages
            .iter()
            .map(|usage| usage.camel_name().map_or_else(|| x509::oid::to_dotted(usage.oid()), str::to_owned))
            .collect()
    };
    let common_name = certificate.subject().first(AttributeType::CommonName).unwrap_or_default();
    let alt_names = domain::inventory::alt_names(certificate);
    let subject = |kind| certificate.subject().first(kind);
    let mut shown = json!({
        "id": issued.id,
        "createdAt": timestamp(issued.created_at),
        "updatedAt": timestamp(record.row.revoked_at.unwrap_or(issued.created_at)),
        "caId": issued.issuer.map(|by| by.authority),
        "caCertId": issued.issuer.map(|by| by.certificate),
        "status": record.status.as_str(),
        "serialNumber": serial_hex(certificate),
        "friendlyName": friendly_name(record),
        "commonName": common_name,
        "altNames": (!alt_names.is_empty()).then(|| alt_names.join(", ")),
        "notBefore": timestamp(Time::from_seconds(certificate.not_before())),
        "notAfter": timestamp(Time::from_seconds(certificate.not_after())),
        "revokedAt": optional_timestamp(record.row.revoked_at),
        "revocationReason": record.row.revocation_reason.map(|reason| reason.code()),
        "certificateTemplateId": record.row.origin.template,
        "keyUsages": key_usages.map(|usages| usages.iter().map(x509::KeyUsage::camel_name).collect::<Vec<_>>()),
        "extendedKeyUsages": extended.map(camel),
        "projectId": issued.project,
        "pkiSubscriberId": record.row.origin.subscriber,
        "profileId": issued.judged_by.map(|judged| judged.profile),
        "renewBeforeDays": record.row.renew_before_days,
        "renewedFromCertificateId": record.row.renewed_from,
        "renewedByCertificateId": record.row.renewed_by,
        "renewalError": record.row.renewal_error,
        "keyAlgorithm": certificate.key_algorithm().ok().map(|algorithm| algorithm.as_str()),
        "signatureAlgorithm": certificate.signature_algorithm().map(|algorithm| algorithm.as_str()),
    });
    let more = json!({
        "subjectOrganization": subject(AttributeType::Organization),
        "subjectOrganizationalUnit": subject(AttributeType::OrganizationalUnit),
        "subjectCountry": subject(AttributeType::Country),
        "subjectState": subject(AttributeType::State),
        "subjectLocality": subject(AttributeType::Locality),
        "fingerprintSha256": fingerprint(&certificate.sha256()),
        "fingerprintSha1": fingerprint(&certificate.sha1()),
        "isCA": is_authority(certificate),
        "pathLength": extensions.basic_constraints().ok().flatten().and_then(|constraints| constraints.path_length),
        "hasPrivateKey": record.row.has_key,
        "source": if record.is_imported() { "imported" } else { "issued" },
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    if let Some(application) = record.application() {
        shown["applicationId"] = json!(application);
    }
    if !issued.details.dropped_key_usages.is_empty() {
        shown["droppedKeyUsages"] = json!(issued.details.dropped_key_usages);
    }
    if !issued.details.metadata.is_empty() {
        shown["metadata"] = json!(issued.details.metadata);
    }
    shown
}

/// The name for people: the one that was given, else the common name.
fn friendly_name(record: &Record) -> &str {
    match (&record.row.issued.details.friendly_name, record.certificate.subject().first(AttributeType::CommonName)) {
        (Some(given), _) => given,
        (None, Some(common_name)) if !common_name.is_empty() => common_name,
        (None, Some(_) | None) => "Certificate",
    }
}

/// The record of the cert-manager family: grouped values beside the flat ones.
pub(super) fn detailed(bundle: &Bundle, profile_name: Option<&str>, authority_name: Option<&str>) -> Value {
    let certificate = &bundle.record.certificate;
    let mut shown = record(&bundle.record);
    for (name, kind) in SUBJECT_PARTS {
        shown["subject"][name] = certificate.subject().first(kind).into();
    }
    shown["fingerprints"] =
        json!({ "sha256": fingerprint(&certificate.sha256()), "sha1": fingerprint(&certificate.sha1()) });
    shown["basicConstraints"] = basic_constraints(certificate);
    shown["applicationId"] = json!(bundle.record.application());
    shown["certificateChain"] = bundle.chain_pem.clone().into();
    if let Some(name) = authority_name {
        shown["caName"] = name.into();
        shown["caType"] = "internal".into();
    }
    if let Some(name) = profile_name {
        shown["profileName"] = name.into();
    }
    shown
}

/// Whether a certificate is that of an authority, and how many authorities may follow.
pub(super) fn basic_constraints(certificate: &Certificate) -> Value {
    let mut shown = json!({ "isCA": is_authority(certificate) });
    let constraints = certificate.extensions().basic_constraints().ok().flatten();
    if let Some(length) = constraints.and_then(|constraints| constraints.path_length) {
        shown["pathLength"] = length.into();
    }
    shown
}

/// What the cert-manager family adds to a record.
pub(super) fn detailed_schema() -> Schema {
    let part = || text().nullable();
    record_schema().with([
        required(
            "subject",
            object([
                required("commonName", part()),
                required("organization", part()),
                required("organizationalUnit", part()),
                required("country", part()),
                required("state", part()),
                required("locality", part()),
            ]),
        ),
        required("fingerprints", object([required("sha256", text()), required("sha1", text())])),
        required("basicConstraints", object([required("isCA", boolean()), optional("pathLength", integer())])),
        required("certificateChain", text()),
        required("applicationId", uuid().nullable()),
        optional("caName", text()),
        optional("caType", one_of(&["internal", "external"])),
        optional("profileName", text()),
    ])
}

/// The parts of a subject under their names on the wire.
pub(super) const SUBJECT_PARTS: [(&str, AttributeType); 6] = [
    ("commonName", AttributeType::CommonName),
    ("organization", AttributeType::Organization),
    ("organizationalUnit", AttributeType::OrganizationalUnit),
    ("country", AttributeType::Country),
    ("state", AttributeType::State),
    ("locality", AttributeType::Locality),
];

/// A certificate with its chain.
pub(super) fn body(bundle: &Bundle) -> Value {
    json!({
        "certificate": bundle.certificate_pem,
        "certificateChain": (!bundle.chain_pem.is_empty()).then_some(&bundle.chain_pem),
        "serialNumber": serial_hex(&bundle.record.certificate),
    })
}

/// The shape of [`body`].
pub(super) fn body_schema() -> Schema {
    object([
        required("certificate", text()),
        required("certificateChain", text().nullable()),
        required("serialNumber", text()),
    ])
}

/// Upper-case hex with colons.
fn fingerprint(digest: &[u8]) -> String {
    digest.iter().map(|octet| format!("{octet:02X}")).collect::<Vec<_>>().join(":")
}
