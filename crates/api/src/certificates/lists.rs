//! Lists of certificates: of a project by slug and by id, searched, and of a profile (contract §5.3, 6.7).

use super::shapes::{body, record, record_schema};
use crate::app::App;
use crate::error::Result;
use crate::render::{KEY_ALGORITHMS, SIGNATURE_ALGORITHMS, optional_timestamp, timestamp};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Field, Schema, any, boolean_or_text, date, integer, list, number, object, one_of, optional, required, search_text,
    text, uuid, verbatim,
};
use axum::http::{HeaderName, HeaderValue};
use domain::caller::Caller;
use domain::identity::MetadataEntry;
use domain::inventory::{ShownStatus, serial_hex};
use domain::profile::Enrollment;
use domain::{AuthorityId, ProfileId, ProjectId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::certificates::{
    AUTHORITIES_IN_FILTER_MAX, CertificateFilter, METADATA_IN_FILTER_MAX, PROFILES_IN_FILTER_MAX, Page, Period, Record,
    RecordSource, SortBy, SortOrder, Total,
};
use x509::{AttributeType, ExtendedKeyUsage, KeyAlgorithm, SignatureAlgorithm, pem};

const TAG: &str = "Certificates";

pub(super) fn routes() -> Vec<Route<App>> {
    const OF_PROFILE: &str = "/api/v1/pki/certificate-profiles/{profileId}/certificates";
    const OF_PROFILE_NEW: &str = "/api/v1/cert-manager/certificate-profiles/{profileId}/certificates";
    const LATEST: &str = "/api/v1/pki/certificate-profiles/{profileId}/certificates/latest-active-bundle";
    const LATEST_NEW: &str = "/api/v1/cert-manager/certificate-profiles/{profileId}/certificates/latest-active-bundle";
    let page = || object([required("certificates", list(record_schema())), required("totalCount", number())]);
    vec![
        Endpoint::get("/api/v2/workspace/{slug}/certificates", TAG, "List the certificates of a project by its slug")
            .path([required("slug", text())])
            .describe(ABOUT_TOTALS)
            .query([optional("friendlyName", search_text()), optional("commonName", search_text())])
            .query(bounds(25, 100))
            .returns(page())
            .bearer(list_by_slug),
        Endpoint::get("/api/v1/projects/{projectId}/certificates", TAG, "List the certificates of a project")
            .describe(ABOUT_TOTALS)
            .path([required("projectId", uuid())])
            .query([
                optional("friendlyName", search_text()),
                optional("commonName", search_text()),
                optional("search", search_text()),
                optional("status", one_of(STATUSES)),
                optional("profileIds", profile_ids()),
                optional("fromDate", date()),
                optional("toDate", date()),
                optional("forPkiSync", boolean_or_text()),
            ])
            .query(bounds(25, OFFSET_MAX))
            .returns(page())
            .bearer(list_by_id),
        Endpoint::post("/api/v1/projects/{projectId}/certificates/search", TAG, "Search the certificates of a project")
            .describe(ABOUT_TOTALS)
            .path([required("projectId", uuid())])
            .body(search_schema())
            .returns(page())
            .bearer(search),
        Endpoint::post("/api/v1/cert-manager/certificates/search", TAG, "Search certificates")
            .describe(ABOUT_TOTALS)
            .body(search_schema().with([optional("projectId", uuid().describe("The default project when absent"))]))
            .returns(page())
            .bearer(search_named),
        Endpoint::get(OF_PROFILE, TAG, "List the certificates of a profile")
            .also_at(OF_PROFILE_NEW)
            .describe(ABOUT_TOTALS)
            .path([required("profileId", uuid())])
            .query([optional("status", one_of(STATUSES)), optional("search", search_text())])
            .query(bounds(20, OFFSET_MAX))
            .returns(object([required("certificates", list(brief_schema())), required("totalCount", number())]))
            .bearer(list_of_profile),
        Endpoint::get(LATEST, TAG, "Get the newest valid certificate of a profile, its chain and its private key")
            .also_at(LATEST_NEW)
            .describe("Every member is null when there is none.")
            .path([required("profileId", uuid())])
            .returns(object([
                required("certificate", text().nullable()),
                required("certificateChain", text().nullable()),
                required("privateKey", text().nullable()),
                required("serialNumber", text().nullable()),
            ]))
            .bearer(latest_active_bundle),
    ]
}

const ABOUT_TOTALS: &str = "A text is looked for at the beginning of names, and of each label of hosts' names; `search` also at \
    the beginning of serial numbers. `totalCount` is exact up to 10,000, and at any size where a list is narrowed by status, \
    profile, CA, enrollment, algorithm or usage only. Beyond that it may be an estimate of two digits: then the response \
    carries the header `x-total-count-estimated: true`. A page begins where the one before it ended that the same caller \
    got within five minutes, so that none is given twice while certificates are added.";

/// Says that the total of a list is not an exact one.
const ESTIMATED: HeaderName = HeaderName::from_static("x-total-count-estimated");

const STATUSES: &[&str] = &["active", "expired", "revoked"];
const ENROLLMENTS: &[&str] = &["api", "est", "acme"];
const SORTS: &[&str] = &["createdAt", "notBefore", "notAfter", "commonName"];
const ORDERS: &[&str] = &["asc", "desc"];
/// Far beyond any inventory.
const OFFSET_MAX: i64 = 1_000_000_000;

/// Which part of a list is wanted.
pub(super) fn bounds(limit_default: u32, offset_max: i64) -> [Field; 2] {
    [
        optional("offset", integer().at_least(0).at_most(offset_max).default(json!(0))),
        optional("limit", integer().at_least(1).at_most(100).default(json!(limit_default))),
    ]
}

/// How a list is sorted.
pub(super) fn sorting() -> [Field; 2] {
    [optional("sortBy", one_of(SORTS)), optional("sortOrder", one_of(ORDERS))]
}

fn search_schema() -> Schema {
    let metadata = object([required("key", search_text().at_least(1)), required("value", verbatim().at_most(1020))]);
    object([
        optional("friendlyName", search_text()),
        optional("commonName", search_text()),
        optional("search", search_text()),
        optional("status", one_of(STATUSES)),
        optional("profileIds", list(uuid()).at_most(PROFILES_IN_FILTER_MAX as i64)),
        optional("caIds", list(uuid()).at_most(AUTHORITIES_IN_FILTER_MAX as i64)),
        optional("enrollmentTypes", list(one_of(ENROLLMENTS))),
        optional("fromDate", date()),
        optional("toDate", date()),
        optional("notBeforeFrom", date()),
        optional("notBeforeTo", date()),
        optional("notAfterFrom", date()),
        optional("notAfterTo", date()),
        optional("keyAlgorithm", one_of(&KEY_ALGORITHMS)),
        optional("keySizes", list(integer().at_least(1)).describe("Bits of the modulus or of the curve")),
        optional("signatureAlgorithm", one_of(&SIGNATURE_ALGORITHMS)),
        optional("extendedKeyUsage", search_text()),
        optional("metadata", list(metadata).at_most(METADATA_IN_FILTER_MAX as i64)),
        optional("source", text()),
        optional("forPkiSync", any()),
    ])
    .with(sorting())
    .with(bounds(25, OFFSET_MAX))
}

/// A certificate in the list of its profile.
fn brief_schema() -> Schema {
    object([
        required("id", uuid()),
        required("serialNumber", text()),
        required("cn", text()),
        required("status", one_of(STATUSES)),
        required("notBefore", date()),
        required("notAfter", date()),
        required("revokedAt", date().nullable()),
        required("createdAt", date()),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    friendly_name: Option<String>,
    common_name: Option<String>,
    search: Option<String>,
    status: Option<String>,
    profile_ids: Option<ProfileIds>,
    #[serde(default)]
    ca_ids: Vec<AuthorityId>,
    #[serde(default)]
    enrollment_types: Vec<String>,
    from_date: Option<Time>,
    to_date: Option<Time>,
    not_before_from: Option<Time>,
    not_before_to: Option<Time>,
    not_after_from: Option<Time>,
    not_after_to: Option<Time>,
    key_algorithm: Option<String>,
    key_sizes: Option<Vec<u32>>,
    signature_algorithm: Option<String>,
    extended_key_usage: Option<String>,
    #[serde(default)]
    metadata: Vec<MetadataEntry>,
    source: Option<String>,
    #[serde(flatten)]
    page: AskedPage,
}

/// Which part of a list is wanted, and how it is sorted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AskedPage {
    sort_by: Option<String>,
    sort_order: Option<String>,
    offset: u32,
    limit: u32,
}

/// Ids of profiles: a list in a body, a text with commas in a query.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum ProfileIds {
    List(Vec<ProfileId>),
    Text(String),
}

/// Several profiles as one text.
pub(super) fn profile_ids() -> Schema {
    let holds = |ids: &str| {
        let mut ids = ids.split(',').map(|id| ProfileId::parse(id.trim()).is_some());
        ids.clone().count() <= PROFILES_IN_FILTER_MAX && ids.all(|is_id| is_id)
    };
    text().describe("At most 10 ids, separated by commas").must("Must be at most 10 ids, separated by commas", holds)
}

impl ProfileIds {
    pub(super) fn into_list(self) -> Vec<ProfileId> {
        match self {
            Self::List(ids) => ids,
            Self::Text(text) => text.split(',').filter_map(|id| ProfileId::parse(id.trim())).collect(),
        }
    }
}

impl AskedPage {
    pub(super) fn page(&self) -> Page {
        Page {
            by: match self.sort_by.as_deref() {
                Some("notBefore") => SortBy::NotBefore,
                Some("notAfter") => SortBy::NotAfter,
                Some("commonName") => SortBy::CommonName,
                Some(_) | None => SortBy::CreatedAt,
            },
            order: match self.sort_order.as_deref() {
                Some("asc") => SortOrder::Ascending,
                Some(_) | None => SortOrder::Descending,
            },
            offset: self.offset,
            limit: self.limit,
        }
    }
}

/// Usages are asked for by the name that policies have (`server_auth`), by that of records (`serverAuth`), or by number.
fn snake_usage(name: String) -> String {
    let usage = ExtendedKeyUsage::from_camel_name(&name);
    usage.and_then(|usage| usage.snake_name()).map_or(name, str::to_owned)
}

impl Asked {
    /// The filter; nothing when no certificate can match.
    fn filter(self) -> Result<Option<CertificateFilter>> {
        let source = match self.source.as_deref() {
            None => None,
            Some("issued") => Some(RecordSource::Issued),
            Some("imported") => Some(RecordSource::Imported),
            // Nothing here is from anywhere else.
            Some(_) => return Ok(None),
        };
        Ok(Some(CertificateFilter {
            search: self.search.unwrap_or_default(),
            common_name: self.common_name.unwrap_or_default(),
            friendly_name: self.friendly_name.unwrap_or_default(),
            status: self.status.as_deref().and_then(ShownStatus::parse),
            profiles: self.profile_ids.map_or_else(Vec::new, ProfileIds::into_list),
            authorities: self.ca_ids,
            enrollments: self.enrollment_types.iter().filter_map(|name| Enrollment::parse(name)).collect(),
            key_algorithms: key_algorithms(self.key_algorithm.as_deref(), self.key_sizes.as_deref()),
            signature_algorithm: self.signature_algorithm.as_deref().and_then(SignatureAlgorithm::parse),
            extended_key_usage: self.extended_key_usage.map_or_else(String::new, snake_usage),
            metadata: self.metadata,
            source,
            created_at: Period::new(self.from_date, self.to_date),
            not_before: Period::new(self.not_before_from, self.not_before_to),
            not_after: Period::new(self.not_after_from, self.not_after_to),
        }))
    }
}

/// The key algorithms of that name and of those sizes; nothing when neither is asked for.
fn key_algorithms(name: Option<&str>, sizes: Option<&[u32]>) -> Option<Vec<KeyAlgorithm>> {
    let sizes = sizes.filter(|sizes| !sizes.is_empty());
    if name.is_none() && sizes.is_none() {
        return None;
    }
    let fits = |algorithm: &KeyAlgorithm| {
        name.is_none_or(|name| algorithm.as_str() == name)
            && sizes.is_none_or(|sizes| sizes.contains(&bits(*algorithm)))
    };
    Some(KeyAlgorithm::ALL.into_iter().filter(fits).collect())
}

/// Bits of the modulus or of the curve.
fn bits(algorithm: KeyAlgorithm) -> u32 {
    match algorithm {
        KeyAlgorithm::Rsa2048 => 2048,
        KeyAlgorithm::Rsa3072 => 3072,
        KeyAlgorithm::Rsa4096 => 4096,
        KeyAlgorithm::EcP256 | KeyAlgorithm::Ed25519 => 256,
        KeyAlgorithm::EcP384 => 384,
        KeyAlgorithm::EcP521 => 521,
    }
}

async fn list_in(app: &App, caller: &Caller, project: ProjectId, asked: Asked) -> Result<Reply> {
    let page = asked.page.page();
    let (records, total) = match asked.filter()? {
        Some(filter) => app.services.certificates(caller, project, &filter, page).await?,
        None => (Vec::new(), Total::Exact(0)),
    };
    counted(records.iter().map(record).collect(), total)
}

/// A page, and how many certificates match.
fn counted(certificates: Vec<Value>, total: Total) -> Result<Reply> {
    let (number, is_estimated) = match total {
        Total::Exact(number) => (number, false),
        Total::Estimated(number) => (number, true),
    };
    let reply = Reply::json(&json!({ "certificates": certificates, "totalCount": number }))?;
    Ok(if is_estimated { reply.header(ESTIMATED, HeaderValue::from_static("true")) } else { reply })
}

async fn list_by_slug(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let project = app.services.certificate_project_by_slug(&caller, input.parameter("slug")).await?;
    let asked: Asked = input.query()?;
    list_in(&app, &caller, project.id, asked).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProject {
    project_id: ProjectId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfProfile {
    profile_id: ProfileId,
}

async fn list_by_id(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let project = app.services.certificate_project(&caller, project_id).await?.id;
    let asked: Asked = input.query()?;
    list_in(&app, &caller, project, asked).await
}

async fn search(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProject { project_id } = input.path()?;
    let project = app.services.certificate_project(&caller, project_id).await?.id;
    let asked: Asked = input.body()?;
    list_in(&app, &caller, project, asked).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Searched {
    project_id: Option<ProjectId>,
    #[serde(flatten)]
    asked: Asked,
}

async fn search_named(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let Searched { project_id, asked } = input.body()?;
    let project = app.services.project_for(&caller, project_id).await?;
    list_in(&app, &caller, project, asked).await
}

async fn list_of_profile(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    let asked: Asked = input.query()?;
    let page = asked.page.page();
    let filter = asked.filter()?.unwrap_or_default();
    let (records, total) = app.services.certificates_of_profile(&caller, profile_id, filter, page).await?;
    counted(records.iter().map(brief).collect(), total)
}

fn brief(record: &Record) -> Value {
    let certificate = &record.certificate;
    json!({
        "id": record.row.issued.id,
        "serialNumber": serial_hex(certificate),
        "cn": certificate.subject().first(AttributeType::CommonName).unwrap_or_default(),
        "status": record.status.as_str(),
        "notBefore": timestamp(Time::from_seconds(certificate.not_before())),
        "notAfter": timestamp(Time::from_seconds(certificate.not_after())),
        "revokedAt": optional_timestamp(record.row.revoked_at),
        "createdAt": timestamp(record.row.issued.created_at),
    })
}

async fn latest_active_bundle(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let OfProfile { profile_id } = input.path()?;
    let Some((bundle, key)) = app.services.latest_active(&caller, profile_id).await? else {
        let nothing =
            json!({ "certificate": null, "certificateChain": null, "privateKey": null, "serialNumber": null });
        return Ok(Reply::json(&nothing)?.no_store());
    };
    let mut shown = body(&bundle);
    shown["privateKey"] = json!(key.map(|key| pem::encode(pem::PRIVATE_KEY, key.expose())));
    Ok(Reply::json(&shown)?.no_store())
}
