//! The shapes of certificate profiles on the wire, with the rules over several members (contract §5.3).

use domain::policy::{EXTENDED_KEY_USAGES, KEY_USAGES};
use domain::profile::{Enrollment, IssuerKind};
use serde_json::{Value, json};

use crate::render::{KEY_ALGORITHMS, SIGNATURE_ALGORITHMS};
use crate::schema::{
    Schema, any, boolean, country, date, integer, list, object, one_of, optional, profile_slug, record, required,
    template_field, text, uuid, verbatim,
};

pub(super) const ENROLLMENTS: &[&str] =
    &[Enrollment::Api.as_str(), Enrollment::Est.as_str(), Enrollment::Acme.as_str()];
pub(super) const ISSUERS: &[&str] = &[IssuerKind::Ca.as_str(), IssuerKind::SelfSigned.as_str()];

/// The body of a POST.
pub(super) fn new_profile_schema() -> Schema {
    object([
        optional("projectId", uuid().describe("The default project when absent")),
        optional("caId", uuid().nullable().describe("The authority that signs; none for self-signed certificates")),
        optional("certificateTemplateId", uuid().nullable().describe("The older name of certificatePolicyId")),
        optional("certificatePolicyId", uuid().nullable().describe("The policy that certificates are judged by")),
        required("slug", profile_slug()),
        optional("description", text().at_most(1000).nullable()),
        optional("enrollmentType", one_of(ENROLLMENTS).nullable().describe("api when absent")),
        optional("issuerType", one_of(ISSUERS).default(json!(IssuerKind::Ca.as_str()))),
        optional("apiConfig", api_schema().nullable()),
        optional("estConfig", est_schema().nullable()),
        optional("acmeConfig", acme_schema().nullable()),
        optional("externalConfigs", record(any()).nullable()),
        optional("defaults", defaults_schema().nullable()),
    ])
    .rule(&["certificatePolicyId"], "certificatePolicyId or certificateTemplateId is required", |it| {
        is_there(it, "certificatePolicyId") || is_there(it, "certificateTemplateId")
    })
    .rule(&["certificateTemplateId"], "certificatePolicyId and certificateTemplateId must name the same", |it| {
        !is_there(it, "certificatePolicyId")
            || !is_there(it, "certificateTemplateId")
            || it["certificatePolicyId"] == it["certificateTemplateId"]
    })
    .rule(&["caId"], "caId is required for issuerType ca and has no place with self-signed", |it| {
        is_there(it, "caId") == (it["issuerType"] == IssuerKind::Ca.as_str())
    })
    .rule(&["enrollmentType"], "self-signed certificates are enrolled with api only", |it| {
        it["issuerType"] != IssuerKind::SelfSigned.as_str() || enrollment_of(it) == Enrollment::Api.as_str()
    })
    .rule(&["apiConfig"], "apiConfig goes with enrollmentType api, and only with that", |it| {
        let is_optional = !is_there(it, "enrollmentType");
        config_fits(it, "apiConfig", Enrollment::Api) || (is_optional && !is_there(it, "apiConfig"))
    })
    .rule(&["estConfig"], "estConfig goes with enrollmentType est, and only with that", |it| {
        config_fits(it, "estConfig", Enrollment::Est)
    })
    .rule(&["acmeConfig"], "acmeConfig goes with enrollmentType acme, and only with that", |it| {
        config_fits(it, "acmeConfig", Enrollment::Acme)
    })
}

fn is_there(body: &Value, name: &str) -> bool {
    !body[name].is_null()
}

fn enrollment_of(body: &Value) -> &str {
    body["enrollmentType"].as_str().unwrap_or(Enrollment::Api.as_str())
}

fn config_fits(body: &Value, name: &str, enrollment: Enrollment) -> bool {
    is_there(body, name) == (enrollment_of(body) == enrollment.as_str())
}

/// The body of a PATCH.
pub(super) fn change_schema() -> Schema {
    object([
        optional("slug", profile_slug()),
        optional("description", text().at_most(1000).nullable()),
        optional("enrollmentType", one_of(ENROLLMENTS).nullable()),
        optional("issuerType", one_of(ISSUERS).nullable()),
        optional("apiConfig", api_schema().partial().nullable()),
        optional("estConfig", est_schema().partial().nullable()),
        optional("acmeConfig", acme_schema().nullable()),
        optional("externalConfigs", record(any()).nullable()),
        optional("defaults", defaults_schema().nullable()),
    ])
}

fn api_schema() -> Schema {
    object([
        optional("autoRenew", boolean().default(json!(false))),
        optional("renewBeforeDays", integer().at_least(1).at_most(30).nullable()),
    ])
}

fn est_schema() -> Schema {
    object([
        optional("disableBootstrapCaValidation", boolean().default(json!(false))),
        required("passphrase", verbatim().at_least(1).at_most(1024)),
        optional("caChain", text().nullable().describe("PEM, each certificate signed by the one that follows")),
    ])
}

fn acme_schema() -> Schema {
    object([optional("skipDnsOwnershipVerification", boolean()), optional("skipEabBinding", boolean())]).rule(
        &["skipEabBinding"],
        "either names are proved or accounts are bound: both cannot be skipped",
        |it| it["skipDnsOwnershipVerification"] != true || it["skipEabBinding"] != true,
    )
}

fn defaults_schema() -> Schema {
    object([
        optional("ttlDays", integer().at_least(1).at_most(3_652_500).nullable()),
        optional("commonName", template_field().nullable()),
        optional("keyAlgorithm", one_of(&KEY_ALGORITHMS).nullable()),
        optional("signatureAlgorithm", one_of(&SIGNATURE_ALGORITHMS).nullable()),
        optional("keyUsages", list(one_of(&KEY_USAGES)).nullable()),
        optional("extendedKeyUsages", list(one_of(&EXTENDED_KEY_USAGES)).nullable()),
        optional(
            "basicConstraints",
            object([
                required("isCA", boolean()),
                optional("pathLength", integer().at_least(0).at_most(255).nullable()),
            ])
            .nullable(),
        ),
        optional("organization", text().at_most(64).nullable()),
        optional("organizationalUnit", text().at_most(64).nullable()),
        optional("country", country().nullable()),
        optional("state", text().at_most(128).nullable()),
        optional("locality", text().at_most(128).nullable()),
    ])
}

/// A profile in a reply.
pub(super) fn profile_schema() -> Schema {
    object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("caId", uuid().nullable()),
        required("certificateTemplateId", uuid()),
        required("certificatePolicyId", uuid()),
        required("slug", profile_slug()),
        required("description", text().nullable()),
        required("enrollmentType", one_of(ENROLLMENTS)),
        required("issuerType", one_of(ISSUERS)),
        required("apiConfigId", uuid().nullable()),
        required("estConfigId", uuid().nullable()),
        required("acmeConfigId", uuid().nullable()),
        required("externalConfigs", record(any()).nullable()),
        required("defaults", defaults_schema().nullable()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

/// A profile in a reply, with what it names.
pub(super) fn profile_with_parts_schema() -> Schema {
    let policy = object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("name", text()),
        required("description", text().nullable()),
    ]);
    let authority = object([
        required("id", uuid()),
        required("name", text()),
        required("status", text()),
        required("isExternal", boolean()),
    ]);
    profile_schema().with([
        optional("certificateAuthority", authority),
        optional("certificateTemplate", policy.clone()),
        optional("certificatePolicy", policy),
        optional("apiConfig", api_schema().with([required("id", uuid())])),
        optional(
            "estConfig",
            est_schema().with([
                required("id", uuid()),
                required("passphrase", text().describe("Always empty: it is not kept in a form that could be shown")),
            ]),
        ),
        optional("acmeConfig", acme_schema().with([required("id", uuid()), required("directoryUrl", text())])),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0198c5a0-0000-7000-8000-000000000001";
    const OTHER: &str = "0198c5a0-0000-7000-8000-000000000002";

    /// The paths of the issues of a body that is the least one with these members, joined with dots.
    fn check(members: Value, expected: &[&str]) {
        let mut body = json!({"slug": "web", "caId": ID, "certificatePolicyId": ID});
        for (name, value) in members.as_object().unwrap() {
            body[name] = value.clone();
        }
        let issues = new_profile_schema().check(body.clone()).err().unwrap_or_default();
        let found: Vec<String> = issues
            .iter()
            .map(|issue| {
                let path = serde_json::to_value(&issue.path).unwrap();
                path.as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect::<Vec<_>>().join(".")
            })
            .collect();
        assert_eq!(found, expected, "{body}");
    }

    #[test]
    fn a_profile_has_the_shape_of_the_table() {
        let est = json!({"passphrase": "secret"});
        for (members, paths) in [
            (json!({}), &[][..]),
            (json!({"certificatePolicyId": null, "certificateTemplateId": ID}), &[]),
            (json!({"certificateTemplateId": ID}), &[]),
            (json!({"certificateTemplateId": OTHER}), &["certificateTemplateId"]),
            (json!({"certificatePolicyId": null}), &["certificatePolicyId"]),
            (json!({"caId": null}), &["caId"]),
            (json!({"issuerType": "self-signed"}), &["caId"]),
            (json!({"issuerType": "self-signed", "caId": null}), &[]),
            (
                json!({"issuerType": "self-signed", "caId": null, "enrollmentType": "est", "estConfig": est}),
                &["enrollmentType"],
            ),
            (json!({"enrollmentType": "api"}), &["apiConfig"]),
            (json!({"enrollmentType": "api", "apiConfig": {}}), &[]),
            (json!({"apiConfig": {"autoRenew": true, "renewBeforeDays": 30}}), &[]),
            (json!({"apiConfig": {"renewBeforeDays": 31}}), &["apiConfig.renewBeforeDays"]),
            (json!({"enrollmentType": "est"}), &["estConfig"]),
            (json!({"enrollmentType": "est", "estConfig": est}), &[]),
            (json!({"enrollmentType": "est", "estConfig": {"passphrase": ""}}), &["estConfig.passphrase"]),
            (json!({"enrollmentType": "est", "estConfig": est, "apiConfig": {}}), &["apiConfig"]),
            (json!({"estConfig": est}), &["estConfig"]),
            (json!({"enrollmentType": "acme", "acmeConfig": {}}), &[]),
            (
                json!({"enrollmentType": "acme",
                    "acmeConfig": {"skipDnsOwnershipVerification": true, "skipEabBinding": true}}),
                &["acmeConfig.skipEabBinding"],
            ),
            (json!({"enrollmentType": "scep"}), &["enrollmentType"]),
            (json!({"slug": "Web"}), &["slug"]),
            (
                json!({"defaults": {"ttlDays": 0, "keyAlgorithm": "RSA"}}),
                &["defaults.ttlDays", "defaults.keyAlgorithm"],
            ),
            (json!({"defaults": {"ttlDays": 30, "keyAlgorithm": "RSA_2048", "commonName": null}}), &[]),
        ] {
            check(members, paths);
        }
    }

    #[test]
    fn a_profile_is_not_changed_to_what_it_could_not_be_made_as() {
        let schema = change_schema();
        for (body, is_right) in [
            (json!({}), true),
            (json!({"description": null, "defaults": null, "externalConfigs": null, "apiConfig": null}), true),
            (json!({"estConfig": {"disableBootstrapCaValidation": true}}), true),
            (json!({"estConfig": {"passphrase": ""}}), false),
            (json!({"acmeConfig": {"skipDnsOwnershipVerification": true, "skipEabBinding": true}}), false),
        ] {
            assert_eq!(schema.check(body.clone()).is_ok(), is_right, "{body}");
        }
    }
}
