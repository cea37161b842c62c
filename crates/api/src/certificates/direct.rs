//! Issuing and signing without a profile (contract §3.12, 3.13, 6.8): from an authority, or from a template of the first
//! family. The external issuer for cert-manager signs here.

use super::answer::{Repeatable, Work, answer};
use super::issue::{CSR_BODY_MAX, CSR_CHARACTERS_MAX, TAG, csr, dates_in_order, millis, ttl};
use crate::app::App;
use crate::authorities::authority_id;
use crate::error::Result;
use crate::route::{Endpoint, Input, Reply, Route};
use crate::schema::{Schema, date, list, object, one_of, optional, required, text};
use domain::caller::Caller;
use domain::issuance::{IssuanceRequest, Subject, Wishes, parse_alt_names};
use domain::policy::SubjectAttribute;
use domain::{AuthorityId, CertificateId, CollectionId, Error, TemplateId, Time};
use serde::Deserialize;
use serde_json::{Value, json};
use services::issue_from::Source;
use x509::{ExtendedKeyUsage, KeyUsage, KeyUsages};

/// Key usages in camel form.
pub(crate) const KEY_USAGES: &[&str] = &[
    "digitalSignature",
    "keyEncipherment",
    "nonRepudiation",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];
/// Extended key usages in camel form.
pub(crate) const EXTENDED_KEY_USAGES: &[&str] =
    &["clientAuth", "serverAuth", "codeSigning", "emailProtection", "ocspSigning", "timeStamping"];
/// The longest text of alternative names, in characters.
const ALT_NAMES_CHARACTERS_MAX: i64 = 16_384;

const ISSUE: &str = "Makes a key of the authority's algorithm and a certificate. The caller is given the key, now and not \
                     again. An `Idempotency-Key` header makes repeating safe for a day.";
const SIGN: &str = "Makes a certificate for the key of a CSR; what is not asked for here is taken from the CSR. An \
                    `Idempotency-Key` header makes repeating safe for a day.";

pub(super) fn routes() -> Vec<Route<App>> {
    vec![
        Endpoint::post("/api/v1/pki/certificates/issue-certificate", TAG, "Issue from an authority or a template")
            .describe(ISSUE)
            .body(named(issue_schema()))
            .returns(issued_schema())
            .bearer(|app, caller, input| issue(app, caller, input, Named::InBody)),
        Endpoint::post("/api/v1/pki/certificates/sign-certificate", TAG, "Sign by an authority or a template")
            .describe(SIGN)
            .body(named(sign_schema()))
            .body_limit(CSR_BODY_MAX)
            .returns(signed_schema())
            .bearer(|app, caller, input| sign(app, caller, input, Named::InBody)),
        Endpoint::post("/api/v1/pki/ca/{caId}/issue-certificate", TAG, "Issue from an authority")
            .describe(ISSUE)
            .path([required("caId", text())])
            .body(issue_schema())
            .returns(issued_schema())
            .bearer(|app, caller, input| issue(app, caller, input, Named::InPath)),
        Endpoint::post("/api/v1/pki/ca/{caId}/sign-certificate", TAG, "Sign by an authority")
            .describe(SIGN)
            .path([required("caId", text())])
            .body(sign_schema())
            .body_limit(CSR_BODY_MAX)
            .returns(signed_schema())
            .bearer(|app, caller, input| sign(app, caller, input, Named::InPath)),
    ]
}

/// Where a request says what it is from.
#[derive(Clone, Copy)]
enum Named {
    InPath,
    InBody,
}

fn issue_schema() -> Schema {
    common(object([required("commonName", text().at_least(1).at_most(255))]))
}

fn sign_schema() -> Schema {
    common(object([
        required("csr", text().at_least(1).at_most(CSR_CHARACTERS_MAX)),
        optional("commonName", text().at_most(255).describe("Taken and not used: the CSR names the subject")),
    ]))
}

fn common(schema: Schema) -> Schema {
    schema
        .with([
            optional("pkiCollectionId", text()),
            optional("friendlyName", text().at_most(255)),
            optional(
                "altNames",
                text()
                    .at_most(ALT_NAMES_CHARACTERS_MAX)
                    .default(json!(""))
                    .must("Must be DNS names, addresses, URIs and e-mail addresses with commas between them", |value| {
                        parse_alt_names(value).is_some()
                    })
                    .describe("DNS names, addresses, URIs and e-mail addresses with commas between them"),
            ),
            optional("ttl", ttl().describe("Required, unless notAfter is given")),
            optional("notBefore", date()),
            optional("notAfter", date()),
            optional("keyUsages", list(one_of(KEY_USAGES))),
            optional("extendedKeyUsages", list(one_of(EXTENDED_KEY_USAGES))),
        ])
        .rule(&["ttl"], "Required", |body| is_there(body, "ttl") || is_there(body, "notAfter"))
        .rule(&["ttl", "notAfter"], "ttl and notAfter exclude each other", |body| {
            !(is_there(body, "ttl") && is_there(body, "notAfter"))
        })
        .rule(&[], "notBefore must be earlier than notAfter", dates_in_order)
}

/// With the authority or the template in the body. An empty text names nothing.
fn named(schema: Schema) -> Schema {
    schema.with([optional("caId", text()), optional("certificateTemplateId", text())]).rule(
        &["caId", "certificateTemplateId"],
        "Either caId or certificateTemplateId must be given, and not both",
        |body| is_there(body, "caId") != is_there(body, "certificateTemplateId"),
    )
}

fn is_there(body: &Value, name: &str) -> bool {
    match body.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    }
}

/// What issuing answers with.
pub(crate) fn issued_schema() -> Schema {
    signed_schema().with([required("privateKey", text())])
}

/// What signing answers with.
pub(crate) fn signed_schema() -> Schema {
    object([
        required("certificate", text()),
        required("issuingCaCertificate", text()),
        required("certificateChain", text()),
        required("serialNumber", text()),
    ])
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    ca_id: Option<String>,
    certificate_template_id: Option<String>,
    pki_collection_id: Option<String>,
    friendly_name: Option<String>,
    common_name: Option<String>,
    csr: Option<String>,
    alt_names: String,
    ttl: Option<String>,
    not_before: Option<Time>,
    not_after: Option<Time>,
    key_usages: Option<Vec<String>>,
    extended_key_usages: Option<Vec<String>>,
}

impl Body {
    /// What it is from; an id that is no UUID names nothing (contract §3).
    fn source(&self, input: &Input, named: Named) -> Result<Source> {
        if let Named::InPath = named {
            return Ok(Source::Authority(authority_id(input)?));
        }
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        match (given(&self.ca_id), given(&self.certificate_template_id)) {
            (Some(ca), _) => AuthorityId::parse(&ca)
                .map(Source::Authority)
                .ok_or_else(|| Error::not_found(format!("there is no certificate authority {ca}")).into()),
            (None, Some(template)) => TemplateId::parse(&template)
                .map(Source::Template)
                .ok_or_else(|| Error::not_found(format!("there is no certificate template {template}")).into()),
            (None, None) => Err(Error::failed("a body without the authority that its schema asks for").into()),
        }
    }

    fn wishes(&self) -> Result<Wishes> {
        Ok(Wishes {
            ttl_millis: self.ttl.as_deref().map(millis).transpose()?,
            not_before: self.not_before,
            not_after: self.not_after,
            key_usages: self.key_usages.as_deref().map(key_usages),
            extended_key_usages: self.extended_key_usages.as_deref().map(extended_key_usages),
            ..Wishes::default()
        })
    }

    fn work(self, source: Source, subject: Subject, wishes: Wishes) -> Result<Work> {
        let collection = match self.pki_collection_id.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(
                CollectionId::parse(&text).ok_or_else(|| Error::not_found(format!("there is no collection {text}")))?,
            ),
        };
        Ok(Work {
            friendly_name: self.friendly_name.filter(|name| !name.is_empty()),
            collection,
            ..Work::plain(source, IssuanceRequest { subject, wishes }, without_id)
        })
    }
}

/// Answers of the first family do not name the certificate's record.
pub(crate) fn without_id(mut issued: Value, _: CertificateId) -> Value {
    if let Value::Object(members) = &mut issued {
        members.remove("certificateId");
    }
    issued
}

async fn issue(app: App, caller: Caller, mut input: Input, named: Named) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?.map(|once| once.about(input.parameter("caId")));
    let mut body: Body = input.body()?;
    let source = body.source(&input, named)?;
    let subject = Subject::Fields {
        attributes: body.common_name.take().map(|name| (SubjectAttribute::CommonName, name)).into_iter().collect(),
        alt_names: parse_alt_names(&body.alt_names).unwrap_or_default(),
        key_algorithm: None,
    };
    let wishes = body.wishes()?;
    answer(app, caller, repeatable, body.work(source, subject, wishes)?).await
}

async fn sign(app: App, caller: Caller, mut input: Input, named: Named) -> Result<Reply> {
    let repeatable = Repeatable::of(&input)?.map(|once| once.about(input.parameter("caId")));
    let body: Body = input.body()?;
    let subject = csr(body.csr.as_deref().unwrap_or_default())?;
    let source = body.source(&input, named)?;
    let alt_names = parse_alt_names(&body.alt_names).filter(|names| !names.is_empty());
    let wishes = Wishes { alt_names, ..body.wishes()? };
    answer(app, caller, repeatable, body.work(source, subject, wishes)?).await
}

fn key_usages(names: &[String]) -> KeyUsages {
    names.iter().filter_map(|name| KeyUsage::from_camel_name(name)).fold(KeyUsages::NONE, KeyUsages::with)
}

fn extended_key_usages(names: &[String]) -> Vec<ExtendedKeyUsage> {
    let mut usages = Vec::new();
    for usage in names.iter().filter_map(|name| ExtendedKeyUsage::from_camel_name(name)) {
        if !usages.contains(&usage) {
            usages.push(usage);
        }
    }
    usages
}
