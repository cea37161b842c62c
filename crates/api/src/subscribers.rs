//! Subscribers (contract §7.1): who is given certificates of one name by one authority, addressed by name and project.

use crate::app::App;
use crate::certificates::answer::{Repeatable, Work, answer};
use crate::certificates::direct::{EXTENDED_KEY_USAGES, KEY_USAGES, issued_schema, signed_schema, without_id};
use crate::certificates::issue::{CSR_BODY_MAX, csr, ttl};
use crate::certificates::shapes::{record, record_schema};
use crate::error::Result;
use crate::render::{page, timestamp, wrapper};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, boolean, country, date, email, integer, list, object, one_of, optional, present, required, slug, text, uuid,
};
use domain::caller::Caller;
use domain::inventory::serial_hex;
use domain::issuance::{IssuanceRequest, Wishes, alt_name_type};
use domain::permission::Action;
use domain::subscriber::{Subscriber, SubscriberDocument, SubscriberProperties, SubscriberStatus};
use domain::{AuthorityId, Error, ProjectId};
use serde::Deserialize;
use serde_json::{Value, json};
use services::issue_from::Source;
use services::subscribers::{NewSubscriber, SubscriberChange, request_for};
use x509::pem;

const TAG: &str = "Subscribers";
const STATUSES: &[&str] = &["active", "disabled"];
/// The longest CSR of a subscriber, in characters (contract §7.1).
const CSR_CHARACTERS_MAX: i64 = 3000;

/// Every route of this family.
pub fn routes() -> Vec<Route<App>> {
    const ALL: &str = "/api/v1/pki/subscribers";
    const ONE: &str = "/api/v1/pki/subscribers/{subscriberName}";
    let name = || [required("subscriberName", text())];
    let of_project = || [required("projectId", uuid())];
    vec![
        Endpoint::post(ALL, TAG, "Make a subscriber")
            .body(new_subscriber_schema().with(of_project()))
            .returns(subscriber_schema())
            .bearer(create),
        Endpoint::get(ONE, TAG, "Get a subscriber")
            .path(name())
            .query(of_project())
            .returns(subscriber_schema())
            .bearer(show),
        Endpoint::patch(ONE, TAG, "Change a subscriber")
            .describe("The certificates that it has stay as they are; the next one is as the subscriber says by then.")
            .path(name())
            .body(
                new_subscriber_schema()
                    .partial()
                    .with([optional("autoRenewalPeriodInDays", days().nullable())])
                    .with(of_project()),
            )
            .returns(subscriber_schema())
            .bearer(change),
        Endpoint::delete(ONE, TAG, "Delete a subscriber")
            .describe("Its certificates stay, and are not renewed by this server any more.")
            .path(name())
            .body(object(of_project()))
            .returns(subscriber_schema())
            .bearer(delete),
        Endpoint::post("/api/v1/pki/subscribers/{subscriberName}/issue-certificate", TAG, "Issue for a subscriber")
            .describe("The caller is given the key, now and by the latest bundle.")
            .path(name())
            .body(object(of_project()))
            .returns(issued_schema())
            .bearer(issue),
        Endpoint::post("/api/v1/pki/subscribers/{subscriberName}/sign-certificate", TAG, "Sign for a subscriber")
            .describe("The names of the CSR must be the subscriber's.")
            .path(name())
            .body(object([required("csr", text().at_least(1).at_most(CSR_CHARACTERS_MAX))]).with(of_project()))
            .body_limit(CSR_BODY_MAX)
            .returns(signed_schema())
            .bearer(sign),
        Endpoint::post("/api/v1/pki/subscribers/{subscriberName}/order-certificate", TAG, "Order for a subscriber")
            .describe("For certificate authorities outside this server, which are not supported: always 400.")
            .path(name())
            .body(object(of_project()))
            .returns(wrapper("message", text()))
            .bearer(order),
        Endpoint::get(
            "/api/v1/pki/subscribers/{subscriberName}/latest-certificate-bundle",
            TAG,
            "Get the newest valid certificate of a subscriber, its chain and its private key",
        )
        .path(name())
        .query(of_project())
        .returns(object([
            required("certificate", text()),
            required("certificateChain", text().nullable()),
            required("privateKey", text()),
            required("serialNumber", text()),
        ]))
        .bearer(latest),
        Endpoint::get(
            "/api/v1/pki/subscribers/{subscriberName}/certificates",
            TAG,
            "List the certificates of a subscriber",
        )
        .path(name())
        .query(of_project())
        .query(page(25, 100))
        .returns(object([required("certificates", list(record_schema())), required("totalCount", integer())]))
        .bearer(certificates),
        Endpoint::get("/api/v2/workspace/{projectId}/pki-subscribers", TAG, "List the subscribers of a project")
            .path(of_project())
            .returns(wrapper("subscribers", list(subscriber_schema())))
            .bearer(list_all),
    ]
}

fn days() -> Schema {
    integer().at_least(1).at_most(3650)
}

fn new_subscriber_schema() -> Schema {
    let name = text()
        .at_least(1)
        .at_most(2048)
        .must("Must be a DNS name, an address, a URI or an e-mail address", |value| alt_name_type(value).is_some());
    object([
        required("caId", uuid()),
        required("name", slug(1, 64)),
        required("commonName", text().at_least(1).at_most(255)),
        optional("status", one_of(STATUSES).default(json!("active"))),
        optional("ttl", ttl().describe("Required: every authority is on this server")),
        optional("subjectAlternativeNames", list(name).at_most(100).default(json!([]))),
        optional("keyUsages", list(one_of(KEY_USAGES)).default(json!(["digitalSignature", "keyEncipherment"]))),
        optional("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES)).default(json!([]))),
        optional("enableAutoRenewal", boolean()),
        optional("autoRenewalPeriodInDays", days()),
        optional("properties", properties_schema()),
    ])
}

fn properties_schema() -> Schema {
    let part = || text().at_least(1).at_most(255);
    object([
        optional("azureTemplateType", part()),
        optional("organization", part()),
        optional("organizationalUnit", part()),
        optional("country", country()),
        optional("state", part()),
        optional("locality", part()),
        optional("emailAddress", email().at_most(320)),
    ])
}

fn subscriber_schema() -> Schema {
    object([
        required("id", uuid()),
        required("projectId", uuid()),
        required("caId", uuid()),
        required("name", text()),
        required("commonName", text()),
        required("status", one_of(STATUSES)),
        required("ttl", text()),
        required("subjectAlternativeNames", list(text())),
        required("keyUsages", list(one_of(KEY_USAGES))),
        required("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES))),
        required("enableAutoRenewal", boolean()),
        required("autoRenewalPeriodInDays", integer().nullable()),
        required("properties", properties_schema()),
        required("createdAt", date()),
        required("updatedAt", date()),
    ])
}

fn render(subscriber: &Subscriber) -> Value {
    let document = &subscriber.document;
    json!({
        "id": subscriber.id,
        "projectId": subscriber.project,
        "caId": subscriber.authority,
        "name": subscriber.name,
        "commonName": document.common_name,
        "status": subscriber.status.as_str(),
        "ttl": document.ttl,
        "subjectAlternativeNames": document.subject_alternative_names,
        "keyUsages": document.key_usages,
        "extendedKeyUsages": document.extended_key_usages,
        "enableAutoRenewal": document.enable_auto_renewal,
        "autoRenewalPeriodInDays": document.auto_renewal_period_in_days,
        "properties": document.properties,
        "createdAt": timestamp(subscriber.created_at),
        "updatedAt": timestamp(subscriber.updated_at),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct New {
    project_id: ProjectId,
    ca_id: AuthorityId,
    name: String,
    status: String,
    #[serde(flatten)]
    says: Says,
}

/// What a body says of a subscriber's certificates. Absent stays as it is, or is the default of the schema.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Says {
    common_name: Option<String>,
    ttl: Option<String>,
    subject_alternative_names: Option<Vec<String>>,
    key_usages: Option<Vec<String>>,
    extended_key_usages: Option<Vec<String>>,
    enable_auto_renewal: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    auto_renewal_period_in_days: Option<Option<u32>>,
    properties: Option<SubscriberProperties>,
}

impl Says {
    fn over(self, before: SubscriberDocument) -> SubscriberDocument {
        SubscriberDocument {
            common_name: self.common_name.unwrap_or(before.common_name),
            ttl: self.ttl.unwrap_or(before.ttl),
            subject_alternative_names: self.subject_alternative_names.unwrap_or(before.subject_alternative_names),
            key_usages: self.key_usages.unwrap_or(before.key_usages),
            extended_key_usages: self.extended_key_usages.unwrap_or(before.extended_key_usages),
            enable_auto_renewal: self.enable_auto_renewal.unwrap_or(before.enable_auto_renewal),
            auto_renewal_period_in_days: self.auto_renewal_period_in_days.unwrap_or(before.auto_renewal_period_in_days),
            properties: self.properties.unwrap_or(before.properties),
        }
    }
}

async fn create(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: New = input.body()?;
    let project = app.services.certificate_project(&caller, body.project_id).await?.id;
    let nothing = SubscriberDocument {
        common_name: String::new(),
        ttl: String::new(),
        subject_alternative_names: Vec::new(),
        key_usages: Vec::new(),
        extended_key_usages: Vec::new(),
        enable_auto_renewal: false,
        auto_renewal_period_in_days: None,
        properties: SubscriberProperties::default(),
    };
    let new = NewSubscriber {
        authority: body.ca_id,
        name: body.name,
        status: status(&body.status)?,
        document: body.says.over(nothing),
    };
    Reply::json(&render(&app.services.create_subscriber(&caller, project, new).await?))
}

fn status(text: &str) -> Result<SubscriberStatus> {
    let unknown = || Error::failed("a status that its schema does not let through");
    Ok(SubscriberStatus::parse(text).ok_or_else(unknown)?)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InProject {
    project_id: ProjectId,
}

/// The project that a request names, for its members.
async fn project_of(app: &App, caller: &Caller, named: ProjectId) -> Result<ProjectId> {
    Ok(app.services.certificate_project(caller, named).await?.id)
}

async fn show(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    let project = project_of(&app, &caller, project_id).await?;
    Reply::json(&render(&app.services.subscriber(&caller, project, input.parameter("subscriberName")).await?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    project_id: ProjectId,
    ca_id: Option<AuthorityId>,
    name: Option<String>,
    status: Option<String>,
    #[serde(flatten)]
    says: Says,
}

async fn change(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: Change = input.body()?;
    let project = project_of(&app, &caller, body.project_id).await?;
    let name = input.parameter("subscriberName");
    let subscriber = app.services.subscriber_to(&caller, project, name, Action::EditSubscriber).await?;
    let change = SubscriberChange {
        authority: body.ca_id,
        name: body.name,
        status: body.status.as_deref().map(status).transpose()?,
    };
    let document = body.says.over(subscriber.document.clone());
    Reply::json(&render(&app.services.change_subscriber(&caller, subscriber, change, document).await?))
}

async fn delete(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.body()?;
    let project = project_of(&app, &caller, project_id).await?;
    let name = input.parameter("subscriberName");
    Reply::json(&render(&app.services.delete_subscriber(&caller, project, name).await?))
}

async fn to_issue(app: &App, caller: &Caller, project: ProjectId, input: &Input) -> Result<Subscriber> {
    let project = project_of(app, caller, project).await?;
    let name = input.parameter("subscriberName");
    Ok(app.services.subscriber_to(caller, project, name, Action::IssueForSubscriber).await?)
}

async fn issue(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?.map(|once| once.about(input.parameter("subscriberName")));
    let InProject { project_id } = input.body()?;
    let subscriber = to_issue(&app, &caller, project_id, &input).await?;
    let work = Work::plain(Source::Subscriber(subscriber.id), request_for(&subscriber), without_id);
    answer(app, caller, repeatable, work).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sign {
    project_id: ProjectId,
    csr: String,
}

async fn sign(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?.map(|once| once.about(input.parameter("subscriberName")));
    let Sign { project_id, csr: text } = input.body()?;
    let subject = csr(&text)?;
    let subscriber = to_issue(&app, &caller, project_id, &input).await?;
    let request = IssuanceRequest { subject, wishes: Wishes::default() };
    answer(app, caller, repeatable, Work::plain(Source::Subscriber(subscriber.id), request, without_id)).await
}

async fn order(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.body()?;
    to_issue(&app, &caller, project_id, &input).await?;
    Err(Error::invalid("the subscriber's issuer is on this server: use issue-certificate or sign-certificate").into())
}

async fn latest(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.query()?;
    let project = project_of(&app, &caller, project_id).await?;
    let name = input.parameter("subscriberName");
    let (bundle, key) = app.services.latest_of_subscriber(&caller, project, name).await?;
    let shown = json!({
        "certificate": bundle.certificate_pem,
        "certificateChain": bundle.chain_pem,
        "privateKey": key.as_ref().map(|key| pem::encode(pem::PRIVATE_KEY, key.expose())),
        "serialNumber": serial_hex(&bundle.record.certificate),
    });
    Ok(Reply::json(&shown)?.no_store())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    project_id: ProjectId,
    offset: u32,
    limit: u32,
}

async fn certificates(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Asked { project_id, offset, limit } = input.query()?;
    let project = project_of(&app, &caller, project_id).await?;
    let name = input.parameter("subscriberName");
    let (records, total) = app.services.certificates_of_subscriber(&caller, project, name, offset, limit).await?;
    Reply::json(&json!({ "certificates": records.iter().map(record).collect::<Vec<_>>(), "totalCount": total }))
}

async fn list_all(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let InProject { project_id } = input.path()?;
    let project = project_of(&app, &caller, project_id).await?;
    let all = app.services.subscribers(&caller, project).await?;
    Reply::json(&json!({ "subscribers": all.iter().map(render).collect::<Vec<_>>() }))
}
