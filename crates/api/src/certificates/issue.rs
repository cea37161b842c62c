//! Issuing and signing (contract §6.1–6.4, 6.10): two seed endpoints and the family that current clients call.

use super::answer::{Repeatable, Work, answer};
use super::shapes::{EXTENDED_KEY_USAGES, KEY_USAGES, alt_names_schema, issued_schema};
use crate::app::App;
use crate::error::Result;
use crate::render::{KEY_ALGORITHMS, SIGNATURE_ALGORITHMS};
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{
    Schema, boolean, boolean_or_text, date, integer, list, object, one_of, optional, required, template_field, text,
    uuid, verbatim,
};
use domain::caller::Caller;
use domain::duration::parse_ttl;
use domain::identity::MetadataEntry;
use domain::issuance::{IssuanceRequest, Subject, Wishes};
use domain::policy::{SanType, SubjectAttribute};
use domain::{ApplicationId, CertificateId, Error, ProfileId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::issue_from::Source;
use x509::{
    BasicConstraints, CertificationRequest, ExtendedKeyUsage, KeyAlgorithm, KeyUsage, KeyUsages, SignatureAlgorithm,
};

pub(crate) const TAG: &str = "Certificates";
/// The longest CSR, in characters (contract §6.3).
pub(crate) const CSR_CHARACTERS_MAX: i64 = 4096;
/// The longest body with a CSR, in octets (invariants B6).
pub(crate) const CSR_BODY_MAX: usize = 64 << 10;
const ISSUE: &str =
    "Makes a key and a certificate from a profile. An `Idempotency-Key` header makes repeating safe for a day.";
const SIGN: &str =
    "Makes a certificate for the key of a CSR. An `Idempotency-Key` header makes repeating safe for a day.";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::post("/api/v3/pki/certificates/issue-certificate", TAG, "Issue Certificate")
            .describe(ISSUE)
            .body(issue_schema())
            .returns(issued_schema())
            .bearer(|app, caller, input| issue(app, caller, input, |issued, _| issued)),
        Endpoint::post("/api/v1/cert-manager/certificates/issue-certificate", TAG, "Issue a certificate")
            .describe(ISSUE)
            .body(issue_schema())
            .returns(issued_schema().with([required("certificateRequestId", uuid())]))
            .bearer(|app, caller, input| issue(app, caller, input, with_request)),
        Endpoint::post("/api/v3/pki/certificates/sign-certificate", TAG, "Sign Certificate")
            .describe(SIGN)
            .body(sign_schema())
            .body_limit(CSR_BODY_MAX)
            .returns(issued_schema().without(&["privateKey"]))
            .bearer(|app, caller, input| sign(app, caller, input, |issued, _| issued)),
        Endpoint::post("/api/v1/cert-manager/certificates/sign-certificate", TAG, "Sign a certificate")
            .describe(SIGN)
            .body(sign_schema())
            .body_limit(CSR_BODY_MAX)
            .returns(issued_schema().without(&["privateKey"]).with([required("certificateRequestId", uuid())]))
            .bearer(|app, caller, input| sign(app, caller, input, with_request)),
        Endpoint::post("/api/v3/pki/certificates/order-certificate", TAG, "Order Certificate")
            .also_at("/api/v1/cert-manager/certificates/order-certificate")
            .describe("For certificate authorities outside this server, which are not supported: always 400.")
            .body(order_schema())
            .bearer(order),
        Endpoint::post("/api/v1/cert-manager/certificates", TAG, "Request a certificate")
            .describe("Signs the CSR when there is one, else makes a key and a certificate from the attributes.")
            .body(request_schema())
            .returns(object([
                required("certificate", issued_schema().nullable()),
                required("certificateRequestId", uuid()),
                optional("status", text()),
                optional("message", text()),
            ]))
            .bearer(request),
    ]
}

/// What a reply shows of what was issued.
type Shape = fn(Value, CertificateId) -> Value;

fn with_request(mut issued: Value, id: CertificateId) -> Value {
    issued["certificateRequestId"] = json!(id);
    issued
}

pub(crate) fn ttl() -> Schema {
    text()
        .at_least(1)
        .at_most(100)
        .must("Must be a duration greater than zero, such as 90d, 12h or 30m", |value| parse_ttl(value).is_ok())
        .example("90d")
}

fn issue_schema() -> Schema {
    object([
        required("profileId", uuid()),
        optional("commonName", template_field()),
        required("ttl", ttl()),
        optional("keyUsages", list(one_of(KEY_USAGES))),
        optional("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES))),
        optional("notBefore", date()),
        optional("notAfter", date()),
        optional("altNames", alt_names_schema()),
        required("signatureAlgorithm", one_of(&SIGNATURE_ALGORITHMS)),
        required("keyAlgorithm", one_of(&KEY_ALGORITHMS)),
        optional("removeRootsFromChain", boolean_or_text()),
    ])
    .rule(&[], TTL_AND_DATES, ttl_without_dates)
    .rule(&[], "notBefore must be earlier than notAfter", dates_in_order)
}

fn sign_schema() -> Schema {
    object([
        required("profileId", uuid()),
        required("csr", text().at_least(1).at_most(CSR_CHARACTERS_MAX)),
        required("ttl", ttl()),
        optional("notBefore", date()),
        optional("notAfter", date()),
        optional("removeRootsFromChain", boolean_or_text()),
    ])
    .rule(&[], TTL_AND_DATES, ttl_without_dates)
    .rule(&[], "notBefore must be earlier than notAfter", dates_in_order)
}

fn order_schema() -> Schema {
    let name = object([required("type", one_of(&["dns", "ip"])), required("value", text().at_least(1).at_most(255))]);
    issue_schema()
        .without(&["altNames", "removeRootsFromChain"])
        .with([required("subjectAlternativeNames", list(name).at_least(1))])
}

fn request_schema() -> Schema {
    let part = || text().at_most(255).nullable();
    object([
        required("profileId", uuid()),
        optional("applicationId", uuid().nullable().describe("The application that it is asked for through")),
        optional("csr", text().at_least(1).at_most(CSR_CHARACTERS_MAX)),
        optional(
            "attributes",
            object([
                optional("commonName", part()),
                optional("organization", part()),
                optional("organizationalUnit", part()),
                optional("country", part()),
                optional("state", part()),
                optional("locality", part()),
                optional("domainComponents", list(text().at_least(1).at_most(63)).at_most(16).nullable()),
                optional("keyUsages", list(one_of(KEY_USAGES)).nullable()),
                optional("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES)).nullable()),
                optional("altNames", alt_names_schema().nullable()),
                optional("signatureAlgorithm", one_of(&SIGNATURE_ALGORITHMS).nullable()),
                optional("keyAlgorithm", one_of(&KEY_ALGORITHMS).nullable()),
                optional("ttl", ttl().nullable()),
                optional("notBefore", date().nullable()),
                optional("notAfter", date().nullable()),
                optional(
                    "basicConstraints",
                    object([
                        optional("isCA", boolean().default(json!(false))),
                        optional("pathLength", integer().at_least(0).at_most(255).nullable()),
                    ])
                    .nullable(),
                ),
            ])
            .rule(&[], TTL_AND_DATES, ttl_without_dates)
            .rule(&[], "notBefore must be earlier than notAfter", dates_in_order)
            .nullable(),
        ),
        optional("removeRootsFromChain", boolean_or_text().default(json!(false))),
        optional(
            "metadata",
            list(object([
                required("key", text().at_least(1).at_most(255)),
                required("value", verbatim().at_most(1020)),
            ]))
            .at_most(50),
        ),
    ])
}

const TTL_AND_DATES: &str = "ttl cannot be combined with notBefore or notAfter";

fn ttl_without_dates(value: &Value) -> bool {
    let is_there = |name| value.get(name).is_some_and(|value| !value.is_null());
    !(is_there("ttl") && (is_there("notBefore") || is_there("notAfter")))
}

pub(crate) fn dates_in_order(value: &Value) -> bool {
    match (value.get("notBefore").and_then(Value::as_i64), value.get("notAfter").and_then(Value::as_i64)) {
        (Some(not_before), Some(not_after)) => not_before < not_after,
        (Some(_), None) | (None, Some(_)) | (None, None) => true,
    }
}

#[derive(Deserialize)]
struct AltName {
    #[serde(rename = "type")]
    kind: SanType,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IssueBody {
    profile_id: ProfileId,
    common_name: Option<String>,
    ttl: String,
    key_usages: Option<Vec<String>>,
    extended_key_usages: Option<Vec<String>>,
    alt_names: Option<Vec<AltName>>,
    signature_algorithm: String,
    key_algorithm: String,
    #[serde(default)]
    remove_roots_from_chain: bool,
}

async fn issue(app: App, caller: Caller, mut input: Input, shape: Shape) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?;
    let body: IssueBody = input.body()?;
    let wishes = Wishes {
        ttl_millis: Some(millis(&body.ttl)?),
        key_usages: key_usages(body.key_usages)?,
        extended_key_usages: extended_key_usages(body.extended_key_usages)?,
        signature_algorithm: SignatureAlgorithm::parse(&body.signature_algorithm),
        ..Wishes::default()
    };
    let subject = Subject::Fields {
        attributes: body.common_name.map(|name| (SubjectAttribute::CommonName, name)).into_iter().collect(),
        alt_names: alt_names(body.alt_names),
        key_algorithm: KeyAlgorithm::parse(&body.key_algorithm),
    };
    let request = IssuanceRequest { subject, wishes };
    let remove_roots = body.remove_roots_from_chain;
    let work = Work { remove_roots, ..Work::plain(Source::Profile(body.profile_id), request, shape) };
    answer(app, caller, repeatable, work).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignBody {
    profile_id: ProfileId,
    csr: String,
    ttl: String,
    #[serde(default)]
    remove_roots_from_chain: bool,
}

async fn sign(app: App, caller: Caller, mut input: Input, shape: Shape) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?;
    let body: SignBody = input.body()?;
    let wishes = Wishes { ttl_millis: Some(millis(&body.ttl)?), ..Wishes::default() };
    let request = IssuanceRequest { subject: csr(&body.csr)?, wishes };
    let remove_roots = body.remove_roots_from_chain;
    let work = Work { remove_roots, ..Work::plain(Source::Profile(body.profile_id), request, shape) };
    answer(app, caller, repeatable, work).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderBody {
    profile_id: ProfileId,
}

async fn order(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let body: OrderBody = input.body()?;
    app.services.profile(&caller, body.profile_id).await?;
    Err(Error::invalid("the profile's issuer is on this server: use issue-certificate or sign-certificate").into())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Attributes {
    common_name: Option<String>,
    organization: Option<String>,
    organizational_unit: Option<String>,
    country: Option<String>,
    state: Option<String>,
    locality: Option<String>,
    domain_components: Option<Vec<String>>,
    key_usages: Option<Vec<String>>,
    extended_key_usages: Option<Vec<String>>,
    alt_names: Option<Vec<AltName>>,
    signature_algorithm: Option<String>,
    key_algorithm: Option<String>,
    ttl: Option<String>,
    not_before: Option<Time>,
    not_after: Option<Time>,
    basic_constraints: Option<AskedBasicConstraints>,
}

#[derive(Deserialize)]
struct AskedBasicConstraints {
    #[serde(rename = "isCA")]
    is_ca: bool,
    #[serde(rename = "pathLength")]
    path_length: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestBody {
    profile_id: ProfileId,
    application_id: Option<ApplicationId>,
    csr: Option<String>,
    attributes: Option<Attributes>,
    remove_roots_from_chain: bool,
    #[serde(default)]
    metadata: Vec<MetadataEntry>,
}

async fn request(app: App, caller: Caller, mut input: Input) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?;
    // Which fields were sent, even as null: those take no default (contract §5.3).
    let sent = sent_attributes(input.body_value());
    let body: RequestBody = input.body()?;
    // What belongs to the application is used with the rights of its members.
    let caller = match body.application_id {
        None => caller,
        Some(application) => app.services.caller_within(&caller, application).await?,
    };
    // The handler loads the profile first, which takes its own right (contract §6.10).
    let profile = app.services.profile(&caller, body.profile_id).await?.profile;
    let defaults = profile.document.defaults.as_ref();
    let attributes = body.attributes.unwrap_or_default();
    let lifetime = lifetime(&attributes, defaults.and_then(|defaults| defaults.ttl_days))?;
    let (subject, wishes) = match &body.csr {
        // A CSR says everything but the lifetime itself (contract §6.3).
        Some(text) => (csr(text)?, lifetime),
        None => fields(with_defaults(attributes, defaults, &sent), lifetime)?,
    };
    let shape: Shape = |issued, id| {
        json!({
            "certificate": issued, "certificateRequestId": id, "status": "issued",
            "message": "The certificate was issued",
        })
    };
    let work = Work {
        metadata: body.metadata,
        application: body.application_id,
        remove_roots: body.remove_roots_from_chain,
        ..Work::plain(Source::Profile(body.profile_id), IssuanceRequest { subject, wishes }, shape)
    };
    answer(app, caller, repeatable, work).await
}

/// The lifetime that is asked for, else that of the profile's default.
fn lifetime(attributes: &Attributes, default_days: Option<u32>) -> Result<Wishes> {
    let ttl_millis = match (&attributes.ttl, attributes.not_after) {
        (Some(ttl), _) => Some(millis(ttl)?),
        (None, Some(_)) => None,
        (None, None) => default_days.map(|days| i64::from(days) * 86_400_000),
    };
    Ok(Wishes { ttl_millis, not_before: attributes.not_before, not_after: attributes.not_after, ..Wishes::default() })
}

/// The subject and the wishes of a request without a CSR, its subject in the order of contract §1.8.
fn fields(attributes: Attributes, lifetime: Wishes) -> Result<(Subject, Wishes)> {
    let parts = [
        (SubjectAttribute::Country, attributes.country),
        (SubjectAttribute::Organization, attributes.organization),
        (SubjectAttribute::OrganizationalUnit, attributes.organizational_unit),
        (SubjectAttribute::State, attributes.state),
        (SubjectAttribute::CommonName, attributes.common_name),
        (SubjectAttribute::Locality, attributes.locality),
    ];
    let named = parts.into_iter().filter_map(|(kind, value)| Some((kind, value.filter(|value| !value.is_empty())?)));
    let components = attributes.domain_components.unwrap_or_default().into_iter();
    let components = components.map(|value| (SubjectAttribute::DomainComponent, value));
    let subject = Subject::Fields {
        attributes: components.chain(named).collect(),
        alt_names: alt_names(attributes.alt_names),
        key_algorithm: attributes.key_algorithm.as_deref().and_then(KeyAlgorithm::parse),
    };
    let wishes = Wishes {
        key_usages: key_usages(attributes.key_usages)?,
        extended_key_usages: extended_key_usages(attributes.extended_key_usages)?,
        signature_algorithm: attributes.signature_algorithm.as_deref().and_then(SignatureAlgorithm::parse),
        basic_constraints: attributes
            .basic_constraints
            .map(|asked| BasicConstraints { ca: asked.is_ca, path_length: asked.path_length }),
        ..lifetime
    };
    Ok((subject, wishes))
}

fn sent_attributes(body: &Value) -> Vec<String> {
    match body.get("attributes") {
        Some(Value::Object(attributes)) => attributes.keys().cloned().collect(),
        Some(_) | None => Vec::new(),
    }
}

/// A value that was sent wins, also null; lists replace the default whole (contract §5.3).
fn with_defaults(
    mut asked: Attributes,
    defaults: Option<&domain::profile::ProfileDefaults>,
    sent: &[String],
) -> Attributes {
    let Some(defaults) = defaults else { return asked };
    let is_sent = |name: &str| sent.iter().any(|sent| sent == name);
    let fill = |name: &str, value: &mut Option<String>, default: &Option<String>| {
        if !is_sent(name) {
            value.clone_from(default);
        }
    };
    fill("commonName", &mut asked.common_name, &defaults.common_name);
    fill("organization", &mut asked.organization, &defaults.organization);
    fill("organizationalUnit", &mut asked.organizational_unit, &defaults.organizational_unit);
    fill("country", &mut asked.country, &defaults.country);
    fill("state", &mut asked.state, &defaults.state);
    fill("locality", &mut asked.locality, &defaults.locality);
    fill("keyAlgorithm", &mut asked.key_algorithm, &defaults.key_algorithm);
    fill("signatureAlgorithm", &mut asked.signature_algorithm, &defaults.signature_algorithm);
    if !is_sent("keyUsages") {
        asked.key_usages.clone_from(&defaults.key_usages);
    }
    if !is_sent("extendedKeyUsages") {
        asked.extended_key_usages.clone_from(&defaults.extended_key_usages);
    }
    if !is_sent("basicConstraints") {
        asked.basic_constraints = defaults.basic_constraints.as_ref().map(|constraints| AskedBasicConstraints {
            is_ca: constraints.is_ca,
            path_length: constraints.path_length,
        });
    }
    asked
}

pub(crate) fn millis(ttl: &str) -> Result<i64> {
    Ok(parse_ttl(ttl).map_err(|problem| Error::invalid(format!("ttl: {problem}")))?)
}

pub(crate) fn csr(text: &str) -> Result<Subject> {
    let csr = CertificationRequest::from_pem(text).map_err(|error| Error::invalid(format!("csr: {error}")))?;
    Ok(Subject::Csr(Box::new(csr)))
}

fn alt_names(names: Option<Vec<AltName>>) -> Vec<(SanType, String)> {
    names.unwrap_or_default().into_iter().map(|name| (name.kind, name.value)).collect()
}

fn key_usages(names: Option<Vec<String>>) -> Result<Option<KeyUsages>> {
    let Some(names) = names else { return Ok(None) };
    let usages = names.iter().filter_map(|name| KeyUsage::from_snake_name(name));
    Ok(Some(usages.fold(KeyUsages::NONE, KeyUsages::with)))
}

fn extended_key_usages(names: Option<Vec<String>>) -> Result<Option<Vec<ExtendedKeyUsage>>> {
    let Some(names) = names else { return Ok(None) };
    let mut usages = Vec::new();
    for usage in names.iter().filter_map(|name| ExtendedKeyUsage::from_snake_name(name)) {
        if !usages.contains(&usage) {
            usages.push(usage);
        }
    }
    Ok(Some(usages))
}
