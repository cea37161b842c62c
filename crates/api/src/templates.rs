//! Templates of the first family (contract §5.1, 3.14). Policies, which are also called templates, are in `policies.rs`.

use crate::app::App;
use crate::authorities::authority_id;
use crate::certificates::direct::{EXTENDED_KEY_USAGES, KEY_USAGES};
use crate::certificates::issue::ttl;
use crate::error::Result;
use crate::render::wrapper;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, list, object, one_of, optional, present, required, slug, template_field, text, uuid};
use domain::caller::Caller;
use domain::template::{NamePattern, TemplateDocument};
use domain::{AuthorityId, CollectionId, Error, ProjectId, TemplateId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::templates::{NewTemplate, ShownTemplate, TemplateChange};

const TAG: &str = "Certificate templates";

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/pki/certificate-templates";
    const ONE: &str = "/api/v1/pki/certificate-templates/{certificateTemplateId}";
    let id = || [required("certificateTemplateId", text())];
    let shown = || wrapper("certificateTemplates", list(template_schema()));
    vec![
        Endpoint::post(ALL, TAG, "Make a certificate template")
            .describe("The two patterns are regular expressions, looked for anywhere in a name; `.*` takes every name.")
            .body(new_template_schema())
            .returns(template_schema())
            .bearer(create),
        Endpoint::get(ONE, TAG, "Get a certificate template").path(id()).returns(template_schema()).bearer(show),
        Endpoint::patch(ONE, TAG, "Change a certificate template")
            .path(id())
            .body(new_template_schema().partial().with([optional("pkiCollectionId", text().nullable())]))
            .returns(template_schema())
            .bearer(change),
        Endpoint::delete(ONE, TAG, "Delete a certificate template")
            .describe("What was issued from it stays.")
            .path(id())
            .returns(template_schema())
            .bearer(delete),
        Endpoint::get("/api/v1/pki/ca/{caId}/certificate-templates", TAG, "List the templates of an authority")
            .path([required("caId", text())])
            .returns(shown())
            .bearer(list_of_authority),
        Endpoint::get("/api/v2/workspace/{projectId}/certificate-templates", TAG, "List the templates of a project")
            .path([required("projectId", uuid())])
            .returns(shown())
            .bearer(list_of_project),
    ]
}

fn new_template_schema() -> Schema {
    let pattern = || {
        template_field().must(
            "Must be a regular expression with something before its first *, such as .*\\.example\\.com",
            |text| NamePattern::parse(text).is_ok(),
        )
    };
    object([
        required("caId", text()),
        optional("pkiCollectionId", text()),
        required("name", slug(1, 64)),
        required("commonName", pattern()),
        required("subjectAlternativeName", pattern()),
        required("ttl", ttl()),
        optional("keyUsages", list(one_of(KEY_USAGES)).default(json!(["digitalSignature", "keyEncipherment"]))),
        optional("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES)).default(json!([]))),
    ])
}

fn template_schema() -> Schema {
    object([
        required("id", uuid()),
        required("caId", uuid()),
        required("name", text()),
        required("commonName", text()),
        required("subjectAlternativeName", text()),
        required("pkiCollectionId", uuid().nullable()),
        required("ttl", text()),
        required("keyUsages", list(one_of(KEY_USAGES))),
        required("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES))),
        required("projectId", uuid()),
        required("caName", text()),
    ])
}

fn render(shown: &ShownTemplate) -> Value {
    let ShownTemplate { template, authority_name } = shown;
    let document = &template.document;
    json!({
        "id": template.id,
        "caId": template.authority,
        "name": template.name,
        "commonName": document.common_name,
        "subjectAlternativeName": document.subject_alternative_name,
        "pkiCollectionId": template.collection,
        "ttl": document.ttl,
        "keyUsages": document.key_usages,
        "extendedKeyUsages": document.extended_key_usages,
        "projectId": template.project,
        "caName": authority_name,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    ca_id: String,
    pki_collection_id: Option<String>,
    name: String,
    common_name: String,
    subject_alternative_name: String,
    ttl: String,
    key_usages: Vec<String>,
    extended_key_usages: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    ca_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pki_collection_id: Option<Option<String>>,
    name: Option<String>,
    common_name: Option<String>,
    subject_alternative_name: Option<String>,
    ttl: Option<String>,
    key_usages: Option<Vec<String>>,
    extended_key_usages: Option<Vec<String>>,
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: New = input.body()?;
    let new = NewTemplate {
        authority: authority(&body.ca_id)?,
        collection: collection(body.pki_collection_id.as_deref())?,
        name: body.name,
        document: TemplateDocument {
            common_name: body.common_name,
            subject_alternative_name: body.subject_alternative_name,
            ttl: body.ttl,
            key_usages: body.key_usages,
            extended_key_usages: body.extended_key_usages,
        },
    };
    Reply::json(&render(&app.services.create_template(&caller, new).await?))
}

async fn show(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&render(&app.services.template(&caller, template_id(&input)?).await?))
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let id = template_id(&input)?;
    let body: Change = input.body()?;
    let change = TemplateChange {
        authority: body.ca_id.as_deref().map(authority).transpose()?,
        collection: match body.pki_collection_id {
            None => None,
            Some(text) => Some(collection(text.as_deref())?),
        },
        name: body.name,
        common_name: body.common_name,
        subject_alternative_name: body.subject_alternative_name,
        ttl: body.ttl,
        key_usages: body.key_usages,
        extended_key_usages: body.extended_key_usages,
    };
    Reply::json(&render(&app.services.change_template(&caller, id, change).await?))
}

async fn delete(app: App, caller: Caller, input: Input) -> Result<Reply> {
    Reply::json(&render(&app.services.delete_template(&caller, template_id(&input)?).await?))
}

async fn list_of_authority(app: App, caller: Caller, input: Input) -> Result<Reply> {
    reply(&app.services.templates_of_authority(&caller, authority_id(&input)?).await?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProject {
    project_id: ProjectId,
}

async fn list_of_project(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let project = app.services.certificate_project(&caller, project_id).await?;
    reply(&app.services.templates(&caller, project.id).await?)
}

fn reply(templates: &[ShownTemplate]) -> Result<Reply> {
    Reply::json(&json!({ "certificateTemplates": templates.iter().map(render).collect::<Vec<_>>() }))
}

/// Ids that are no UUIDs name nothing (contract §3).
fn template_id(input: &Input) -> Result<TemplateId> {
    let text = input.parameter("certificateTemplateId");
    let missing = || Error::not_found(format!("there is no certificate template {text}"));
    Ok(TemplateId::parse(text).ok_or_else(missing)?)
}

fn authority(text: &str) -> domain::Result<AuthorityId> {
    AuthorityId::parse(text).ok_or_else(|| Error::not_found(format!("there is no certificate authority {text}")))
}

/// A collection that a body names; an empty text names none.
pub(crate) fn collection(text: Option<&str>) -> domain::Result<Option<CollectionId>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let missing = || Error::not_found(format!("there is no collection {text}"));
    CollectionId::parse(text).ok_or_else(missing).map(Some)
}
