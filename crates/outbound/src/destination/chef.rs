//! Items of a data bag of a Chef Infra Server.
//!
//! An item's fields are the certificate, its key, the chain and the root, by the names of the field mappings; the mark is
//! one more field. Requests are signed by the user's RSA key (signing protocol 1.3). The server cannot be held to a state
//! of an item, so it is looked at right before each change. Identifiers are `bag/item`.

use super::item_text::MARK;
use super::server_address::{segment, server_address};
use super::verdict::{Asked, changed_meanwhile, failure};
use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::http::{Answer, Http, Request};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::connection::Credentials;
use domain::sync::{DestinationConfig, FieldMappings};
use jiff::Timestamp;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A data bag, opened.
pub struct ChefDataBag {
    server: ChefServer,
    bag: String,
    fields: FieldMappings,
}

/// An organisation of a server, and the user that it believes.
pub(crate) struct ChefServer {
    http: Http,
    /// The address of the organisation.
    address: String,
    user: String,
    key: RsaKeyPair,
}

const SYSTEM: &str = "the Chef Infra Server";
const HOSTED: &str = "https://api.chef.io";
const SIGN_HEADER: &str = "algorithm=sha256;version=1.3;";
const SIGN_VERSION: &str = "version=1.3";
const SERVER_API_VERSION: &str = "1";
/// The version of Chef's own client whose manners are kept.
const CHEF_VERSION: &str = "18.0.0";
const PIECE_CHARACTERS: usize = 60;
const NAME_CHARACTERS_MAX: usize = 255;

impl ChefDataBag {
    /// Opens it; nothing is sent.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let Some(credentials) = opening.credentials else {
            return Err(DeliveryError::Refused("a Chef connection is needed".into()));
        };
        let DestinationConfig::Chef { data_bag_name } = opening.config else {
            return Err(DeliveryError::Refused("the destination has to name a data bag".into()));
        };
        if !is_name(data_bag_name) {
            return Err(DeliveryError::Refused(format!("“{data_bag_name}” is not the name of a data bag")));
        }
        let fields = opening.options.field_mappings.clone().unwrap_or_default();
        Ok(Self { server: ChefServer::open(opening.http, credentials)?, bag: data_bag_name.clone(), fields })
    }

    fn id_of(&self, item: &Item) -> String {
        format!("{}/{}", self.bag, item.name)
    }

    /// The item as it is, and as [`Found`].
    async fn read(&self, id: &str) -> Result<Option<(Map<String, Value>, Found)>, DeliveryError> {
        let answer = self.server.send(Method::GET, &path_of(id)?, None).await?;
        match (answer.status, answer.json()) {
            (StatusCode::OK, Value::Object(fields)) => {
                let found = self.found_in(id, &fields);
                Ok(Some((fields, found)))
            }
            _ if says_absent(&answer) => Ok(None),
            _ => Err(failure(SYSTEM, &answer, Asked::Look, &said(&answer))),
        }
    }

    /// The item's fields, if they still are what was found.
    async fn read_unchanged(&self, found: &Found) -> Result<Option<Map<String, Value>>, DeliveryError> {
        let Some((fields, present)) = self.read(&found.id).await? else { return Ok(None) };
        if present.fingerprint != found.fingerprint || present.mark != found.mark {
            return Err(changed_meanwhile(&found.id));
        }
        Ok(Some(fields))
    }

    fn named_fields(&self) -> [(&'static str, &str); 4] {
        [
            ("certificate", &self.fields.certificate),
            ("key", &self.fields.private_key),
            ("chain", &self.fields.certificate_chain),
            ("root", &self.fields.ca_certificate),
        ]
    }

    fn contents_of(&self, item: &Item) -> Result<Vec<(&'static str, &str, String)>, DeliveryError> {
        let mut contents = vec![
            ("certificate", self.fields.certificate.as_str(), item.leaf_text()),
            ("key", self.fields.private_key.as_str(), item.key_text()?),
        ];
        if !item.chain.is_empty() {
            contents.push(("chain", self.fields.certificate_chain.as_str(), item.chain_text()));
        }
        if let Some(root) = item.root_text() {
            contents.push(("root", self.fields.ca_certificate.as_str(), root));
        }
        Ok(contents)
    }

    /// Puts an item's fields among others, in place of those of its predecessor.
    fn put_fields(&self, fields: &mut Map<String, Value>, id: &str, item: &Item) -> Result<(), DeliveryError> {
        for (_, field) in self.named_fields() {
            fields.remove(field);
        }
        for (_, field, text) in self.contents_of(item)? {
            fields.insert(field.into(), text.into());
        }
        fields.insert("id".into(), id.rsplit('/').next().unwrap_or(id).into());
        fields.insert(MARK.into(), item.mark.to_string().into());
        Ok(())
    }

    fn found_in(&self, id: &str, fields: &Map<String, Value>) -> Found {
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        let parts: Vec<(&str, &[u8])> =
            self.named_fields().into_iter().filter_map(|(part, field)| Some((part, text(field)?.as_bytes()))).collect();
        Found {
            id: id.to_owned(),
            fingerprint: Fingerprint::of(&parts),
            mark: text(MARK).and_then(|text| Uuid::try_parse(text).ok()),
            version: None,
            details: Vec::new(),
        }
    }
}

impl Destination for ChefDataBag {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        item.must_be_named_of("_-", NAME_CHARACTERS_MAX)?;
        let mut fields: Vec<&str> = self.named_fields().iter().map(|(_, field)| *field).chain(["id", MARK]).collect();
        fields.sort_unstable();
        if fields.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(DeliveryError::Refused("two fields are mapped to the same name".into()));
        }
        self.contents_of(item).map(|_| ())
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        let contents = self.contents_of(item).ok()?;
        let parts: Vec<(&str, &[u8])> = contents.iter().map(|(part, _, text)| (*part, text.as_bytes())).collect();
        Some(Fingerprint::of(&parts))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        Ok(self.read(id).await?.map(|(_, found)| found))
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        Ok(self.look(&self.id_of(item)).await?.into_iter().collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        let (id, mut fields) = (self.id_of(item), Map::new());
        self.put_fields(&mut fields, &id, item)?;
        let found = self.found_in(&id, &fields);
        let answer = self.server.send(Method::POST, &format!("/data/{}", self.bag), Some(fields)).await?;
        match answer.status {
            StatusCode::CREATED => Ok(found),
            StatusCode::CONFLICT => Err(DeliveryError::Taken(format!("there is an item {id} already"))),
            _ => Err(failure(SYSTEM, &answer, Asked::Change, &said(&answer))),
        }
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        let Some(mut fields) = self.read_unchanged(found).await? else {
            return Err(changed_meanwhile(&found.id));
        };
        self.put_fields(&mut fields, &found.id, item)?;
        let replaced = self.found_in(&found.id, &fields);
        let answer = self.server.send(Method::PUT, &path_of(&found.id)?, Some(fields)).await?;
        match answer.status {
            StatusCode::OK => Ok(replaced),
            StatusCode::CONFLICT => Err(changed_meanwhile(&found.id)),
            _ if says_absent(&answer) => Err(changed_meanwhile(&found.id)),
            _ => Err(failure(SYSTEM, &answer, Asked::Change, &said(&answer))),
        }
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        if self.read_unchanged(found).await?.is_none() {
            return Ok(());
        }
        let answer = self.server.send(Method::DELETE, &path_of(&found.id)?, None).await?;
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            StatusCode::CONFLICT => Err(changed_meanwhile(&found.id)),
            _ if says_absent(&answer) => Ok(()),
            _ => Err(failure(SYSTEM, &answer, Asked::Change, &said(&answer))),
        }
    }

    async fn finish(&self, _changed: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

impl ChefServer {
    /// Opens it; nothing is sent.
    pub(crate) fn open(http: &Http, credentials: &Credentials) -> Result<Self, DeliveryError> {
        let Credentials::ChefUserKey { server_url, org_name, user_name, private_key } = credentials else {
            return Err(DeliveryError::Refused("the connection is not one to Chef".into()));
        };
        if !is_name(org_name) {
            return Err(DeliveryError::Refused(format!("“{org_name}” is not the short name of an organisation")));
        }
        let server = server_address(server_url.as_deref().unwrap_or(HOSTED))?;
        let organization = format!("/organizations/{org_name}");
        // Chef's own configuration files name the address of the organisation, so that is what people paste.
        let server = server.strip_suffix(&organization).unwrap_or(&server);
        Ok(Self {
            http: http.clone(),
            address: format!("{server}{organization}"),
            user: user_name.clone(),
            key: rsa_key(private_key.expose())?,
        })
    }

    /// Sends a signed request; the path is below the organisation.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Map<String, Value>>,
    ) -> Result<Answer, DeliveryError> {
        let mut request = Request::new(method, &format!("{}{path}", self.address))?;
        if let Some(body) = body {
            request = request.json(&Value::Object(body));
        }
        let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
        self.http.send(self.signed(request, now)?).await
    }

    /// How a user's path is spelt.
    pub(crate) fn path_of_user(&self) -> String {
        format!("/users/{}", segment(&self.user))
    }

    fn signed(&self, request: Request, now: Timestamp) -> Result<Request, DeliveryError> {
        let hash = STANDARD.encode(x509::digest::sha256(&request.body));
        let time = now.to_string();
        let text = format!(
            "Method:{}\nPath:{}\nX-Ops-Content-Hash:{hash}\nX-Ops-Sign:{SIGN_VERSION}\nX-Ops-Timestamp:{time}\n\
             X-Ops-UserId:{}\nX-Ops-Server-API-Version:{SERVER_API_VERSION}",
            request.method,
            request.url.path(),
            self.user,
        );
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| DeliveryError::Connection("the user's key does not sign".into()))?;
        let mut request = request
            .header("accept", "application/json")?
            .header("x-chef-version", CHEF_VERSION)?
            .header("x-ops-content-hash", &hash)?
            .header("x-ops-server-api-version", SERVER_API_VERSION)?
            .header("x-ops-sign", SIGN_HEADER)?
            .header("x-ops-timestamp", &time)?
            .header("x-ops-userid", &self.user)?;
        let signature = STANDARD.encode(signature);
        for (index, piece) in signature.as_bytes().chunks(PIECE_CHARACTERS).enumerate() {
            let name = format!("x-ops-authorization-{}", index + 1);
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(piece)) else { continue };
            request.headers.insert(name, value);
        }
        Ok(request)
    }
}

/// Reads an RSA key in PEM, as PKCS#8 or PKCS#1, or what is left of one that went through a form or a variable: newlines
/// written as `\n`, or no armour at all.
fn rsa_key(text: &str) -> Result<RsaKeyPair, DeliveryError> {
    let refused = |why: &str| DeliveryError::Refused(format!("the private key {why}"));
    let text = text.replace("\\r", "").replace("\\n", "\n");
    if text.contains("ENCRYPTED") {
        return Err(refused("is encrypted; it has to be given in clear"));
    }
    let mut body = text.trim();
    if let Some((_, rest)) = body.split_once("-----BEGIN ") {
        // What is between the armour's lines, even if everything is on one line.
        body = rest.split_once("-----").map_or("", |(_, rest)| rest);
        body = body.split_once("-----END").map_or(body, |(body, _)| body);
    }
    let body: String = body.split_whitespace().collect();
    let der = STANDARD.decode(body).map_err(|_| refused("is not PEM"))?;
    RsaKeyPair::from_pkcs8(&der)
        .or_else(|_| RsaKeyPair::from_der(&der))
        .map_err(|_| refused("is not an RSA key of at least 2048 bits"))
}

/// Whether it is the server that says that there is no such item. A missing bag holds none; a missing organisation is a
/// wrong address.
fn says_absent(answer: &Answer) -> bool {
    let text = said(answer);
    answer.status == StatusCode::NOT_FOUND
        && answer.json()["error"].is_array()
        && !(text.contains("rganization") && text.contains("does not exist"))
}

pub(crate) fn said(answer: &Answer) -> String {
    match &answer.json()["error"] {
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect::<Vec<&str>>().join("; "),
        Value::String(text) => text.clone(),
        _ => String::new(),
    }
}

fn path_of(id: &str) -> Result<String, DeliveryError> {
    match id.split_once('/') {
        Some((bag, name)) if is_name(bag) && is_name(name) => Ok(format!("/data/{bag}/{name}")),
        _ => Err(DeliveryError::Refused(format!("{id} is not a data bag and an item"))),
    }
}

fn is_name(text: &str) -> bool {
    let good = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    !text.is_empty() && text.len() <= NAME_CHARACTERS_MAX && text.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;

    #[test]
    fn a_key_that_went_through_forms_is_read_all_the_same() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let pem = x509::pem::encode("PRIVATE KEY", der.as_ref());
        // PKCS#1 is what PKCS#8 wraps: its last octet string (RFC 5958 §2), after 26 octets for an RSA key of this size.
        let pkcs1 = x509::pem::encode("RSA PRIVATE KEY", &der.as_ref()[26..]);
        let bare = STANDARD.encode(der.as_ref());
        for text in
            [&pem, &pkcs1, &pem.replace('\n', "\\n"), &pem.replace('\n', "\r\n"), &pem.replace('\n', " "), &bare]
        {
            assert!(rsa_key(text).is_ok(), "{text}");
        }
        let ec = STANDARD.encode(b"not a key");
        for text in ["", "hello", &ec, &pem[..pem.len() / 2], "-----BEGIN ENCRYPTED PRIVATE KEY-----"] {
            assert!(matches!(rsa_key(text), Err(DeliveryError::Refused(_))), "{text}");
        }
    }
}
