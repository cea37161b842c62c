//! Certificates that somebody else issued (contract §6.9): by the project's short name, and in the cert-manager family.

use crate::app::App;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, any, object, optional, required, text, uuid};
use domain::caller::Caller;
use domain::secret::SecretText;
use domain::{CollectionId, ProfileId, ProjectId};
use serde::Deserialize;
use serde_json::json;
use services::import_leaf::ForeignCertificate;

const TAG: &str = "Certificates";
const DESCRIPTION: &str = "Each certificate of the chain must have signed the one before it; a copy of the certificate itself \
                           may lead them. The key is PKCS#8, PKCS#1 or SEC 1, not encrypted, and is kept sealed. All of it \
                           is kept, or nothing. What is imported is renewed and revoked by whoever issued it.";
const CERTIFICATE_CHARACTERS_MAX: i64 = 64 << 10;
const CHAIN_CHARACTERS_MAX: i64 = 192 << 10;
const KEY_CHARACTERS_MAX: i64 = 16 << 10;

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::post("/api/v1/pki/certificates/import-certificate", TAG, "Import a certificate")
            .describe(DESCRIPTION)
            .body(object([
                required("projectSlug", text().at_least(1)),
                required("certificatePem", pem(CERTIFICATE_CHARACTERS_MAX)),
                required("privateKeyPem", pem(KEY_CHARACTERS_MAX)),
                required("chainPem", pem(CHAIN_CHARACTERS_MAX)),
                optional("friendlyName", friendly_name()),
                optional("pkiCollectionId", uuid()),
            ]))
            .returns(object([
                required("certificate", text()),
                required("certificateChain", text()),
                required("privateKey", text()),
                required("serialNumber", text()),
            ]))
            .bearer(import_by_slug),
        Endpoint::post("/api/v1/cert-manager/certificates/import-certificate", TAG, "Import a certificate")
            .describe(DESCRIPTION)
            .body(object([
                optional("projectId", uuid().describe("The default project when absent")),
                required("certificatePem", pem(CERTIFICATE_CHARACTERS_MAX)),
                optional("privateKeyPem", pem(KEY_CHARACTERS_MAX).nullable()),
                optional("chainPem", pem(CHAIN_CHARACTERS_MAX).nullable()),
                optional("friendlyName", friendly_name()),
                optional("pkiCollectionId", uuid()),
                optional("profileId", uuid().describe("Looked for and not kept: nothing here judged the certificate")),
                optional("applicationId", any()),
            ]))
            .returns(object([
                required("certificate", text()),
                required("certificateChain", text().nullable()),
                required("privateKey", text().nullable()),
                required("serialNumber", text()),
                required("certificateId", uuid()),
            ]))
            .bearer(import),
    ]
}

fn pem(characters_max: i64) -> Schema {
    text().at_least(1).at_most(characters_max)
}

fn friendly_name() -> Schema {
    text().at_least(1).at_most(255)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Import {
    project_slug: Option<String>,
    project_id: Option<ProjectId>,
    certificate_pem: String,
    private_key_pem: Option<SecretText>,
    chain_pem: Option<String>,
    friendly_name: Option<String>,
    pki_collection_id: Option<CollectionId>,
    profile_id: Option<ProfileId>,
}

impl Import {
    fn foreign(&self) -> ForeignCertificate {
        ForeignCertificate {
            certificate: self.certificate_pem.clone(),
            chain: self.chain_pem.clone(),
            key: self.private_key_pem.clone(),
            friendly_name: self.friendly_name.clone(),
            collection: self.pki_collection_id,
            profile: self.profile_id,
        }
    }
}

async fn import_by_slug(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Import = input.body()?;
    let slug = body.project_slug.as_deref().unwrap_or_default();
    let project = app.services.certificate_project_by_slug(&caller, slug).await?.id;
    let imported = app.services.import_leaf_certificate(&caller, project, body.foreign()).await?;
    let answer = json!({
        "certificate": body.certificate_pem,
        "certificateChain": body.chain_pem,
        "privateKey": body.private_key_pem,
        "serialNumber": imported.serial_number,
    });
    Ok(Reply::json(&answer)?.no_store())
}

async fn import(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Import = input.body()?;
    let project = app.services.project_for(&caller, body.project_id).await?;
    let imported = app.services.import_leaf_certificate(&caller, project, body.foreign()).await?;
    let answer = json!({
        "certificate": body.certificate_pem,
        "certificateChain": body.chain_pem,
        "privateKey": body.private_key_pem,
        "serialNumber": imported.serial_number,
        "certificateId": imported.id,
    });
    Ok(Reply::json(&answer)?.no_store())
}
