//! What a sync is told and what it shows, for each destination (contract syncs §1.3, 1.4, 2).

use crate::render::{optional_timestamp, timestamp};
use crate::schema::{
    Schema, any, boolean, date, integer, list, number, object, one_of, optional, required, text, uuid, verbatim,
};
use domain::connection::Connection;
use domain::inventory::serial_hex;
use domain::sync::name::NameRule;
use domain::sync::region::AWS_REGIONS;
use domain::sync::{DestinationKind, LastRun, Sync, SyncLink, SyncOptions, SyncStatus};
use serde_json::{Value, json};
use services::sync_plan::PlannedChange;
use services::syncs::{LinkedCertificate, SyncWithConnection};
use x509::AttributeType;

const STATUSES: &[&str] = &["pending", "running", "succeeded", "failed", "proven"];

/// The place inside the system, by kind.
pub(super) fn config_schema(kind: DestinationKind) -> Schema {
    let words = |max| text().at_least(1).at_most(max);
    match kind {
        DestinationKind::AwsCertificateManager => object([required("region", one_of(AWS_REGIONS))]),
        DestinationKind::AwsSecretsManager => {
            object([required("region", one_of(AWS_REGIONS)), optional("keyId", words(2048))])
        }
        DestinationKind::AzureKeyVault => object([required("vaultBaseUrl", words(2048))]),
        DestinationKind::Chef => object([required("dataBagName", words(255))]),
        DestinationKind::CloudflareCustomCertificate => object([required("zoneId", words(64))]),
        DestinationKind::F5BigIp => object([
            optional("partition", words(255).default(json!("Common"))),
            optional("profileType", one_of(&["none", "client-ssl", "server-ssl"])),
            optional("profileName", words(511)),
            optional("createProfileIfMissing", boolean()),
            optional("parentProfile", words(511)),
        ]),
        DestinationKind::GcpCertificateManager => object([
            required("gcpProjectId", text().at_least(6).at_most(30)),
            required("location", words(63)),
            optional(
                "scope",
                one_of(&["default", "edge-cache", "all-regions", "client-auth"]).default(json!("default")),
            ),
            optional(
                "certificateMapBinding",
                object([required("certificateMap", words(63)), optional("hostname", words(253))]),
            ),
        ]),
        DestinationKind::HashicorpVault => object([required("mount", words(255)), required("path", words(1024))]),
        DestinationKind::KubernetesTlsSecret => object([required("namespace", words(63))]),
        DestinationKind::LinuxServer | DestinationKind::LocalDirectory => {
            object([required("destinationPath", text().at_least(1).at_most(4096))])
        }
        DestinationKind::Webhook => object([]),
    }
}

/// How a sync of a kind goes about its work. What is left out gets its default.
pub(super) fn options_schema(kind: DestinationKind) -> Schema {
    let defaults = SyncOptions::default_of(kind);
    let mut schema = object([
        optional("canImportCertificates", boolean().default(json!(false))),
        optional("canRemoveCertificates", boolean().default(json!(defaults.can_remove_certificates))),
        optional("includeRootCa", boolean().default(json!(false))),
        match kind.default_name_schema() {
            None => required("certificateNameSchema", text().at_least(1).at_most(1024)),
            Some(_) => optional("certificateNameSchema", text().at_least(1).at_most(1024)),
        },
        optional("prove", prove_schema()),
    ]);
    let switch = |name, on: bool| optional(name, boolean().default(json!(on)));
    schema = match kind {
        DestinationKind::AwsCertificateManager => schema.with([switch("preserveArn", true)]),
        DestinationKind::AwsSecretsManager => schema.with([
            switch("preserveSecretOnRenewal", true),
            switch("updateExistingCertificates", true),
            optional("fieldMappings", mappings_schema().default(json!(defaults.field_mappings))),
        ]),
        DestinationKind::AzureKeyVault => schema.with([switch("enableVersioning", true)]),
        DestinationKind::Chef => schema.with([
            switch("preserveItemOnRenewal", true),
            switch("updateExistingCertificates", true),
            optional("fieldMappings", mappings_schema().default(json!(defaults.field_mappings))),
        ]),
        DestinationKind::F5BigIp | DestinationKind::HashicorpVault | DestinationKind::KubernetesTlsSecret => {
            schema.with([switch("preserveItemOnRenewal", true)])
        }
        DestinationKind::GcpCertificateManager => schema.with([
            switch("preserveItemOnRenewal", true),
            optional(
                "labels",
                list(object([required("key", text().at_least(1).at_most(63)), required("value", text().at_most(63))]))
                    .at_most(62),
            ),
        ]),
        DestinationKind::LinuxServer | DestinationKind::LocalDirectory => schema.with([
            switch("includePrivateKey", true),
            optional("exportFormat", one_of(&["pem", "pkcs12"]).default(json!("pem"))),
            optional("pemCertificateExtension", one_of(&["pem", "crt"]).default(json!("pem"))),
            switch("combineCertificateChain", false),
            optional("fileMode", text().at_least(3).at_most(4)),
            optional("privateKeyFileMode", text().at_least(3).at_most(4)),
            optional("owner", text().at_least(1).at_most(32)),
            optional("group", text().at_least(1).at_most(32)),
            optional("postSyncCommand", verbatim().at_most(8192)),
            optional("healthCheckCommand", verbatim().at_most(8192)),
        ]),
        DestinationKind::CloudflareCustomCertificate | DestinationKind::Webhook => schema,
    };
    schema
}

fn mappings_schema() -> Schema {
    let name = |default: &str| text().at_least(1).at_most(255).default(json!(default));
    object([
        optional("certificate", name("certificate")),
        optional("privateKey", name("private_key")),
        optional("certificateChain", name("certificate_chain")),
        optional("caCertificate", name("ca_certificate")),
    ])
}

fn prove_schema() -> Schema {
    let host = text().at_least(1).at_most(253).rule(&[], "Must be a host name or an IP address", |host| {
        let host = host.as_str().unwrap_or_default();
        host.parse::<std::net::IpAddr>().is_ok() || x509::DnsName::parse_host(host).is_ok()
    });
    let address = object([
        required("host", host),
        required("port", integer().at_least(1).at_most(65_535)),
        optional("serverName", text().at_least(1).at_most(253)),
        optional("startTls", one_of(&["smtp", "imap", "postgres"])),
    ]);
    object([
        required("addresses", list(address).at_least(1).at_most(20)),
        optional("timeoutSeconds", integer().at_least(1).at_most(600).default(json!(60))),
    ])
    .describe("Where the certificate has to be served after delivery, and within how many seconds.")
}

/// What a sync is made with.
pub(super) fn new_schema(kind: DestinationKind) -> Schema {
    let options = options_schema(kind);
    object([
        required("name", text().at_least(1).at_most(256)),
        optional("description", text().at_most(1024).nullable()),
        optional("isAutoSyncEnabled", boolean().default(json!(true))),
        required("destinationConfig", config_schema(kind)),
        match kind.default_name_schema() {
            None => required("syncOptions", options),
            Some(_) => optional("syncOptions", options),
        },
        optional("subscriberId", text().nullable()),
        optional("connectionId", uuid().nullable()),
        optional("projectId", uuid()),
        optional("applicationId", uuid().nullable()),
        optional("certificateIds", list(uuid()).at_most(1000)),
        optional("credentials", credentials_schema()),
    ])
}

/// What can change in a sync.
pub(super) fn change_schema(kind: DestinationKind) -> Schema {
    object([
        optional("name", text().at_least(1).at_most(256)),
        optional("description", text().at_most(1024).nullable()),
        optional("isAutoSyncEnabled", boolean()),
        optional("destinationConfig", config_schema(kind)),
        optional("syncOptions", options_schema(kind)),
        optional("subscriberId", text().nullable()),
        optional("connectionId", uuid()),
        optional("credentials", credentials_schema()),
    ])
}

fn credentials_schema() -> Schema {
    object([optional("exportPassword", verbatim().at_least(6).at_most(256))])
        .describe("Of files in the format pkcs12; kept sealed and never shown.")
}

/// A sync as the routes of its destination show it.
pub(super) fn of_destination_schema(kind: DestinationKind) -> Schema {
    object([
        required("id", uuid()),
        required("name", text()),
        optional("description", text().nullable()),
        required("destination", text()),
        required("isAutoSyncEnabled", boolean()),
        required("destinationConfig", config_schema(kind)),
        required("syncOptions", any()),
        required("projectId", uuid()),
        optional("subscriberId", uuid().nullable()),
        optional("connectionId", uuid().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
        optional("syncStatus", one_of(STATUSES).nullable()),
        optional("lastSyncedAt", date().nullable()),
    ])
}

pub(super) fn of_destination(sync: &Sync) -> Value {
    json!({
        "id": sync.id,
        "name": sync.name,
        "description": sync.description,
        "destination": sync.destination.slug(),
        "isAutoSyncEnabled": sync.is_automatic,
        "destinationConfig": sync.config,
        "syncOptions": sync.options,
        "projectId": sync.project,
        "subscriberId": null,
        "connectionId": sync.connection,
        "createdAt": timestamp(sync.created_at),
        "updatedAt": timestamp(sync.updated_at),
        "syncStatus": sync.last_run.status.map(SyncStatus::as_str),
        "lastSyncedAt": optional_timestamp(sync.last_run.succeeded_at),
    })
}

/// A sync as the routes of all destinations show it.
pub(super) fn general_schema() -> Schema {
    let mut schema = object([
        required("id", uuid()),
        required("name", text()),
        optional("description", text().nullable()),
        required("destination", text()),
        required("isAutoSyncEnabled", boolean()),
        required("destinationConfig", any()),
        required("syncOptions", any()),
        required("projectId", uuid()),
        optional("applicationId", uuid().nullable()),
        optional("subscriberId", uuid().nullable()),
        optional("connectionId", uuid().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
        optional("appConnectionName", text().nullable()),
        optional("appConnectionApp", text().nullable()),
        optional("connection", any()),
        optional("subscriber", any()),
        optional("hasCertificate", boolean()),
    ]);
    for [status, job, message, at] in RUN_FIELDS {
        schema = schema.with([
            optional(status, one_of(STATUSES).nullable()),
            optional(job, text().nullable()),
            optional(message, text().nullable()),
            optional(at, date().nullable()),
        ]);
    }
    schema
}

const RUN_FIELDS: [[&str; 4]; 3] = [
    ["syncStatus", "lastSyncJobId", "lastSyncMessage", "lastSyncedAt"],
    ["importStatus", "lastImportJobId", "lastImportMessage", "lastImportedAt"],
    ["removeStatus", "lastRemoveJobId", "lastRemoveMessage", "lastRemovedAt"],
];

pub(super) fn general(
    SyncWithConnection { sync, connection }: &SyncWithConnection,
    has_certificate: Option<bool>,
) -> Value {
    let mut shown = of_destination(sync);
    let nothing = LastRun::default();
    for ([status, job, message, at], run) in RUN_FIELDS.into_iter().zip([&sync.last_run, &nothing, &sync.last_removal])
    {
        shown[status] = json!(run.status.map(SyncStatus::as_str));
        shown[job] = json!(run.job);
        shown[message] = json!(run.message);
        shown[at] = optional_timestamp(run.succeeded_at);
    }
    shown["applicationId"] = json!(sync.application);
    shown["subscriber"] = Value::Null;
    shown["appConnectionName"] = json!(connection.as_ref().map(|connection| &connection.name));
    shown["appConnectionApp"] = json!(connection.as_ref().map(|connection| connection.kind.slug()));
    shown["connection"] = connection.as_ref().map_or(Value::Null, of_connection);
    if let Some(has_certificate) = has_certificate {
        shown["hasCertificate"] = has_certificate.into();
    }
    shown
}

/// A connection inside a sync: the sealed credentials are never in it.
fn of_connection(connection: &Connection) -> Value {
    json!({
        "id": connection.id,
        "name": connection.name,
        "app": connection.kind.slug(),
        "encryptedCredentials": null,
        "orgId": connection.organization,
        "projectId": connection.project,
        "method": connection.method,
        "description": connection.description,
        "version": connection.version,
        "gatewayId": null,
        "createdAt": timestamp(connection.created_at),
        "updatedAt": timestamp(connection.updated_at),
        "isPlatformManagedCredentials": false,
    })
}

/// What a destination can do.
pub(super) fn option_schema() -> Schema {
    object([
        required("name", text()),
        required("connection", text().nullable()),
        required("destination", text()),
        required("canImportCertificates", boolean()),
        required("canRemoveCertificates", boolean()),
        optional("defaultCertificateNameSchema", text()),
        optional("forbiddenCharacters", text()),
        optional("allowedCharacterPattern", text()),
        optional("maxCertificateNameLength", number()),
        optional("minCertificateNameLength", number()),
        optional("canRunPostSyncCommand", boolean()),
        optional("canRunHealthCheckCommand", boolean()),
    ])
}

pub(super) fn option(kind: DestinationKind) -> Value {
    let rule = NameRule::of(kind);
    let mut shown = json!({
        "name": kind.display_name(),
        "connection": kind.connection().map(domain::connection::ConnectionKind::slug),
        "destination": kind.slug(),
        "canImportCertificates": false,
        "canRemoveCertificates": kind.can_remove(),
        "allowedCharacterPattern": rule.pattern(),
        "maxCertificateNameLength": rule.length_max,
        "minCertificateNameLength": rule.length_min,
        "canRunPostSyncCommand": kind.is_files(),
        "canRunHealthCheckCommand": kind.is_files(),
    });
    if let Some(schema) = kind.default_name_schema() {
        shown["defaultCertificateNameSchema"] = schema.into();
    }
    shown
}

/// A link as adding answers with it.
pub(super) fn link_schema() -> Schema {
    object([
        required("id", uuid()),
        required("pkiSyncId", uuid()),
        required("certificateId", uuid()),
        optional("syncStatus", one_of(STATUSES).nullable()),
        optional("lastSyncMessage", text().nullable()),
        optional("lastSyncedAt", date().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

pub(super) fn link(link: &SyncLink) -> Value {
    json!({
        "id": link.id,
        "pkiSyncId": link.sync,
        "certificateId": link.certificate,
        "syncStatus": link.status.as_str(),
        "lastSyncMessage": link.message,
        "lastSyncedAt": optional_timestamp(link.last_synced_at),
        "createdAt": timestamp(link.created_at),
        "updatedAt": timestamp(link.updated_at),
    })
}

/// A link with what is known of its certificate.
pub(super) fn linked_schema() -> Schema {
    link_schema().with([
        optional("certificateSerialNumber", text()),
        optional("certificateCommonName", text()),
        optional("certificateAltNames", text()),
        optional("certificateStatus", text()),
        optional("certificateNotBefore", date()),
        optional("certificateNotAfter", date()),
        optional("certificateRenewBeforeDays", integer().nullable()),
        optional("certificateRenewalError", text().nullable()),
        optional("pkiSyncName", text()),
        optional("pkiSyncDestination", text()),
        optional("externalIdentifier", text().nullable()),
        optional("syncMetadata", any()),
    ])
}

pub(super) fn linked(sync: &Sync, linked: &LinkedCertificate) -> Value {
    let mut shown = link(&linked.link);
    shown["pkiSyncName"] = sync.name.as_str().into();
    shown["pkiSyncDestination"] = sync.destination.slug().into();
    shown["externalIdentifier"] = json!(linked.object.as_ref().and_then(|object| object.external_id.as_ref()));
    if let Some(object) = &linked.object
        && sync.destination.is_files()
    {
        shown["syncMetadata"] = json!({ "files": object.details });
    }
    if let Some(record) = &linked.record {
        let certificate = &record.certificate;
        let common_name = certificate.subject().first(AttributeType::CommonName).unwrap_or_default();
        shown["certificateSerialNumber"] = serial_hex(certificate).into();
        shown["certificateCommonName"] = common_name.into();
        shown["certificateAltNames"] = domain::inventory::alt_names(certificate).join(", ").into();
        shown["certificateStatus"] = record.status.as_str().into();
        shown["certificateNotBefore"] = timestamp(domain::Time::from_seconds(certificate.not_before())).into();
        shown["certificateNotAfter"] = timestamp(domain::Time::from_seconds(certificate.not_after())).into();
        if record.row.renewed_by.is_none() {
            shown["certificateRenewBeforeDays"] = json!(record.row.renew_before_days);
        }
        shown["certificateRenewalError"] = json!(record.row.renewal_error);
    }
    shown
}

/// A row of a preview.
pub(super) fn planned_schema() -> Schema {
    object([
        required("certificateId", uuid()),
        required("name", text()),
        optional("externalIdentifier", text()),
        optional("reason", text()),
    ])
}

pub(super) fn planned(changes: &[PlannedChange]) -> Vec<Value> {
    changes
        .iter()
        .map(|change| {
            let mut row = json!({ "certificateId": change.certificate, "name": change.name });
            if let Some(id) = &change.external_id {
                row["externalIdentifier"] = id.as_str().into();
            }
            if let Some(reason) = &change.reason {
                row["reason"] = reason.as_str().into();
            }
            row
        })
        .collect()
}
