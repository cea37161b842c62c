//! Verification of certificates: why one is good, or which rule it breaks.

use crate::app::App;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, boolean, date, integer, list, object, one_of, optional, required, text, uuid};
use domain::caller::Caller;
use domain::{AuthorityId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::verify::{Question, RefusedCertificate, Verified};
use x509::chain::Purpose;

/// The longest request: some two hundred thousand revoked certificates.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How many texts a list may have.
const TEXTS_MAX: i64 = 100;
/// How many intermediate certificates a path may have at most.
const DEPTH_MAX: i64 = 100;

const PURPOSES: &[&str] =
    &["server_auth", "client_auth", "code_signing", "email_protection", "time_stamping", "ocsp_signing", "web-pki"];

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::post("/api/v1/pki/verify", "Verification", "Verify a certificate")
            .also_at("/api/v1/cert-manager/verify")
            .describe(
                "Looks for a path from the certificate to a trusted one that keeps all rules of RFC 5280 §6, and says which \
                 certificates were refused on the way and by which rule. Trusted are the anchors, and with caId the \
                 certificates of that authority; then this server's own revocation lists are looked at, too. Certificates \
                 and lists are in PEM. Nothing is fetched.",
            )
            .body_limit(BYTES_MAX)
            .body(body())
            .returns(object([
                required("valid", boolean()),
                required("path", list(text())),
                required(
                    "refused",
                    list(object([required("certificate", text()), required("rule", text()), required("message", text())])),
                ),
            ]))
            .bearer(verify),
    ]
}

fn body() -> Schema {
    let pems = || list(text().at_least(1)).at_most(TEXTS_MAX);
    object([
        required("leaf", text().at_least(1)),
        optional("anchors", pems()),
        optional("caId", uuid()),
        optional("intermediates", pems()),
        optional("crls", pems()),
        optional("time", date()),
        optional("purpose", one_of(PURPOSES)),
        optional("names", list(text().at_least(1)).at_most(TEXTS_MAX)),
        optional("maxDepth", integer().at_least(0).at_most(DEPTH_MAX)),
    ])
    .rule(&["anchors"], "anchors or caId must say what is trusted", |body| {
        body.get("caId").is_some() || body["anchors"].as_array().is_some_and(|anchors| !anchors.is_empty())
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    leaf: String,
    #[serde(default)]
    anchors: Vec<String>,
    ca_id: Option<AuthorityId>,
    #[serde(default)]
    intermediates: Vec<String>,
    #[serde(default)]
    crls: Vec<String>,
    time: Option<Time>,
    purpose: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    max_depth: Option<u32>,
}

async fn verify(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Body = input.body()?;
    let question = Question {
        leaf: body.leaf,
        anchors: body.anchors,
        authority: body.ca_id,
        intermediates: body.intermediates,
        crls: body.crls,
        time: body.time,
        purpose: purpose(body.purpose.as_deref()),
        names: body.names,
        depth_max: body.max_depth,
    };
    let Verified { valid, path, refused } = app.services.verify(&caller, question).await?;
    Reply::json(&json!({ "valid": valid, "path": path, "refused": refused.iter().map(shown).collect::<Vec<_>>() }))
}

/// What the schema accepts.
fn purpose(name: Option<&str>) -> Purpose {
    match name {
        Some("server_auth") => Purpose::ServerAuth,
        Some("client_auth") => Purpose::ClientAuth,
        Some("code_signing") => Purpose::CodeSigning,
        Some("email_protection") => Purpose::EmailProtection,
        Some("time_stamping") => Purpose::TimeStamping,
        Some("ocsp_signing") => Purpose::OcspSigning,
        Some("web-pki") => Purpose::WebPki,
        Some(_) | None => Purpose::Any,
    }
}

fn shown(refused: &RefusedCertificate) -> Value {
    json!({ "certificate": refused.certificate, "rule": refused.rule.as_str(), "message": refused.message })
}
