//! Secrets of a KV version 2 store of HashiCorp Vault or OpenBao.
//!
//! An object is a secret whose fields are the certificate, its key, the chain and the root, by the names of the field
//! mappings; the mark is one more field. Every write is held to the version that was seen (check-and-set). A secret whose
//! newest version is deleted counts as absent, and a new version is put upon it; where the versions below are somebody
//! else's, a second field says which was our first, and a removal then destroys ours alone. Otherwise a removal takes all
//! versions and the metadata. Identifiers are the paths of the API, `mount/data/path/name`.

use super::item_text::MARK;
use super::server_address::{segment, server_address};
use super::verdict::{Asked, changed_meanwhile, failure};
use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::http::{Answer, Http, Request};
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::{DestinationConfig, FieldMappings};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A folder of a store, opened.
pub struct VaultStore {
    server: VaultServer,
    mount: String,
    path: String,
    fields: FieldMappings,
}

/// A server and the token that it believes.
pub(crate) struct VaultServer {
    http: Http,
    address: String,
    namespace: Option<String>,
    token: SecretText,
}

/// What is known of a secret.
enum Reading {
    /// It is there.
    Present { data: Map<String, Value>, found: Found },
    /// It is not; a write has to name this version.
    Absent { version: u64 },
}

const SYSTEM: &str = "Vault";
/// The field that says which version was our first, where it was not the first of all.
const FIRST_VERSION: &str = "chancery-first-version";
const NAME_OCTETS_MAX: usize = 255;
const CONFLICT: &str = "check-and-set parameter did not match";

impl VaultStore {
    /// Opens it; nothing is sent.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let Some(credentials) = opening.credentials else {
            return Err(DeliveryError::Refused("a Vault connection is needed".into()));
        };
        let DestinationConfig::Vault { mount, path } = opening.config else {
            return Err(DeliveryError::Refused("the destination has to name a mount and a path".into()));
        };
        let (mount, path) = (mount.trim_matches('/'), path.trim_matches('/'));
        if !are_segments(mount) || !(path.is_empty() || are_segments(path)) {
            return Err(DeliveryError::Refused(format!("“{mount}” and “{path}” are not a mount and a path")));
        }
        let fields = opening.options.field_mappings.clone().unwrap_or_default();
        let server = VaultServer::open(opening.http, credentials)?;
        Ok(Self { server, mount: mount.to_owned(), path: path.to_owned(), fields })
    }

    fn id_of(&self, item: &Item) -> String {
        match self.path.as_str() {
            "" => format!("{}/data/{}", self.mount, item.name),
            path => format!("{}/data/{path}/{}", self.mount, item.name),
        }
    }

    /// The mount of an identifier, and the path in it.
    fn parts_of<'a>(&self, id: &'a str) -> Result<(&'a str, &'a str), DeliveryError> {
        let here = id.strip_prefix(&self.mount).and_then(|rest| rest.strip_prefix("/data/"));
        let parts = here.map(|path| (&id[..self.mount.len()], path)).or_else(|| id.split_once("/data/"));
        match parts {
            Some((mount, path)) if are_segments(mount) && are_segments(path) => Ok((mount, path)),
            _ => Err(DeliveryError::Refused(format!("{id} is not the path of a secret"))),
        }
    }

    async fn read(&self, id: &str) -> Result<Reading, DeliveryError> {
        let (mount, path) = self.parts_of(id)?;
        let answer = self.server.send(Method::GET, &format!("{mount}/data/{path}"), None).await?;
        let body = answer.json();
        let version = body["data"]["metadata"]["version"].as_u64();
        match (answer.status, version, body["data"]["data"].as_object()) {
            (StatusCode::OK, Some(version), Some(data)) => {
                Ok(Reading::Present { data: data.clone(), found: self.found_in(id, data, version) })
            }
            (StatusCode::NOT_FOUND, Some(version), None) => Ok(Reading::Absent { version }),
            (StatusCode::NOT_FOUND, None, _) if body["errors"].as_array().is_some_and(Vec::is_empty) => {
                Ok(Reading::Absent { version: 0 })
            }
            _ => Err(refusal(&answer, Asked::Look)),
        }
    }

    /// Writes a version upon another one.
    async fn write(&self, id: &str, data: Map<String, Value>, upon: u64) -> Result<Written, DeliveryError> {
        let (mount, path) = self.parts_of(id)?;
        let body = json!({"options": {"cas": upon}, "data": data});
        let answer = self.server.send(Method::POST, &format!("{mount}/data/{path}"), Some(&body)).await?;
        match (answer.status, answer.json()["data"]["version"].as_u64()) {
            (StatusCode::OK, Some(version)) => Ok(Written::Done(self.found_in(id, &data, version))),
            (StatusCode::BAD_REQUEST, _) if said(&answer).contains(CONFLICT) => Ok(Written::Overtaken),
            _ => Err(refusal(&answer, Asked::Change)),
        }
    }

    /// A store of version 1 would take a write for something else and answer that all is well.
    async fn must_be_version_2(&self) -> Result<(), DeliveryError> {
        let answer = self.server.send(Method::GET, &format!("sys/internal/ui/mounts/{}", self.mount), None).await?;
        let body = answer.json();
        // Not every token may ask this; one that may not learns the truth from the write.
        if answer.status == StatusCode::OK && body["data"]["options"]["version"] != "2" {
            return Err(DeliveryError::Refused(format!("{} is not a KV store of version 2", self.mount)));
        }
        Ok(())
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
    fn put_fields(&self, data: &mut Map<String, Value>, item: &Item) -> Result<(), DeliveryError> {
        for (_, field) in self.named_fields() {
            data.remove(field);
        }
        for (_, field, text) in self.contents_of(item)? {
            data.insert(field.into(), text.into());
        }
        data.insert(MARK.into(), item.mark.to_string().into());
        Ok(())
    }

    fn named_fields(&self) -> [(&'static str, &str); 4] {
        [
            ("certificate", &self.fields.certificate),
            ("key", &self.fields.private_key),
            ("chain", &self.fields.certificate_chain),
            ("root", &self.fields.ca_certificate),
        ]
    }

    fn found_in(&self, id: &str, data: &Map<String, Value>, version: u64) -> Found {
        let parts: Vec<(&str, &[u8])> = self
            .named_fields()
            .into_iter()
            .filter_map(|(part, field)| Some((part, data.get(field)?.as_str()?.as_bytes())))
            .collect();
        let text = |field: &str| data.get(field).and_then(Value::as_str);
        Found {
            id: id.to_owned(),
            fingerprint: Fingerprint::of(&parts),
            mark: text(MARK).and_then(|text| Uuid::try_parse(text).ok()),
            version: Some(version.to_string()),
            details: Vec::new(),
        }
    }

    /// What is there, if it still is what was found.
    async fn read_unchanged(&self, found: &Found) -> Result<Option<(Map<String, Value>, u64)>, DeliveryError> {
        let Reading::Present { data, found: present } = self.read(&found.id).await? else { return Ok(None) };
        if present.fingerprint != found.fingerprint || present.mark != found.mark {
            return Err(changed_meanwhile(&found.id));
        }
        Ok(Some((data, number(present.version.as_deref()))))
    }
}

/// What became of a write.
enum Written {
    Done(Found),
    /// Another write came first; nothing was written.
    Overtaken,
}

impl Destination for VaultStore {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        item.must_be_named_of("._-", NAME_OCTETS_MAX)?;
        if matches!(item.name.as_str(), "." | "..") {
            return Err(DeliveryError::Refused(format!("“{}” is not a name", item.name)));
        }
        let mut fields: Vec<&str> = self.named_fields().iter().map(|(_, field)| *field).chain([MARK]).collect();
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
        match self.read(id).await? {
            Reading::Present { found, .. } => Ok(Some(found)),
            Reading::Absent { .. } => Ok(None),
        }
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        Ok(self.look(&self.id_of(item)).await?.into_iter().collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        self.must_be_version_2().await?;
        let id = self.id_of(item);
        let taken = || DeliveryError::Taken(format!("there is a secret {id} already"));
        let Reading::Absent { version } = self.read(&id).await? else { return Err(taken()) };
        let mut data = Map::new();
        self.put_fields(&mut data, item)?;
        if version > 0 {
            data.insert(FIRST_VERSION.into(), (version + 1).to_string().into());
        }
        match self.write(&id, data, version).await? {
            Written::Done(found) => Ok(found),
            Written::Overtaken => Err(taken()),
        }
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        let Some((mut data, version)) = self.read_unchanged(found).await? else {
            return Err(changed_meanwhile(&found.id));
        };
        self.put_fields(&mut data, item)?;
        match self.write(&found.id, data, version).await? {
            Written::Done(found) => Ok(found),
            Written::Overtaken => Err(changed_meanwhile(&found.id)),
        }
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        // The API cannot be held to a version here, so it is looked at once more.
        let Some((data, newest)) = self.read_unchanged(found).await? else { return Ok(()) };
        let (mount, path) = self.parts_of(&found.id)?;
        let first = number(data.get(FIRST_VERSION).and_then(Value::as_str));
        let answer = if first > 1 {
            let body = json!({"versions": (first..=newest).collect::<Vec<u64>>()});
            self.server.send(Method::POST, &format!("{mount}/destroy/{path}"), Some(&body)).await?
        } else {
            self.server.send(Method::DELETE, &format!("{mount}/metadata/{path}"), None).await?
        };
        match answer.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
            _ => Err(refusal(&answer, Asked::Change)),
        }
    }

    async fn finish(&self, _changed: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

impl VaultServer {
    /// Opens it; nothing is sent.
    pub(crate) fn open(http: &Http, credentials: &Credentials) -> Result<Self, DeliveryError> {
        let Credentials::VaultAccessToken { instance_url, namespace, access_token } = credentials else {
            return Err(DeliveryError::Refused("the connection is not one to Vault".into()));
        };
        let namespace = namespace.as_deref().map(|text| text.trim_matches('/')).filter(|text| !text.is_empty());
        Ok(Self {
            http: http.clone(),
            address: server_address(instance_url)?,
            namespace: namespace.map(str::to_owned),
            token: access_token.clone(),
        })
    }

    /// Sends a request; the path is below `/v1/` and not encoded yet.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        let path: Vec<String> = path.split('/').map(segment).collect();
        let mut request = Request::new(method, &format!("{}/v1/{}", self.address, path.join("/")))?;
        let mut token = HeaderValue::from_str(self.token.expose().trim())
            .map_err(|_| DeliveryError::Connection("the token has characters that a header cannot carry".into()))?;
        token.set_sensitive(true);
        request.headers.insert("x-vault-token", token);
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace)?;
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.http.send(request).await
    }
}

/// The failure of an answer.
pub(crate) fn refusal(answer: &Answer, asked: Asked) -> DeliveryError {
    // 412: the server that was asked has not caught up with the one that was written to.
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return DeliveryError::Unavailable(format!("{SYSTEM} answered {}: {}", answer.status, said(answer)));
    }
    failure(SYSTEM, answer, asked, &said(answer))
}

fn said(answer: &Answer) -> String {
    let body = answer.json();
    let Some(errors) = body["errors"].as_array() else { return String::new() };
    let texts: Vec<&str> = errors.iter().filter_map(Value::as_str).collect();
    texts.join("; ").split_whitespace().collect::<Vec<&str>>().join(" ")
}

fn number(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether a text is segments of a path, none of which leads elsewhere.
fn are_segments(text: &str) -> bool {
    text.split('/').all(|segment| !matches!(segment, "" | "." | "..") && !segment.contains(char::is_control))
}
