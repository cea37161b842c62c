//! TLS Secrets of a Kubernetes namespace.
//!
//! An object is a Secret of type `kubernetes.io/tls`: `tls.crt` is the leaf with its chain, `tls.key` the key, `ca.crt` the
//! root if it is known. The mark is an annotation. A replacement is held to the version that was read just before it, and
//! keeps what others wrote beside our fields; a removal is held to the object and version that were found. Identifiers are
//! `namespace/name`, so that an object stays findable when the sync moves to another namespace.

use super::item_text::MARK;
use super::server_address::server_address;
use super::verdict::{Asked, changed_meanwhile, failure};
use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::http::{Answer, Http, Request, Trust};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::connection::Credentials;
use domain::secret::SecretText;
use domain::sync::DestinationConfig;
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A namespace, opened.
pub struct KubernetesTlsSecret {
    server: ApiServer,
    namespace: String,
}

/// An API server and the token that it believes.
pub(crate) struct ApiServer {
    http: Http,
    address: String,
    token: SecretText,
}

const SYSTEM: &str = "the Kubernetes API";
const TLS_TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const ROOT: &str = "ca.crt";
const NAME_OCTETS_MAX: usize = 253;
const LABEL_OCTETS_MAX: usize = 63;
/// The most that all values of a Secret may hold.
const SECRET_OCTETS_MAX: usize = 1024 * 1024;

impl KubernetesTlsSecret {
    /// Opens it; nothing is sent.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let Some(credentials) = opening.credentials else {
            return Err(DeliveryError::Refused("a Kubernetes connection is needed".into()));
        };
        let DestinationConfig::Kubernetes { namespace } = opening.config else {
            return Err(DeliveryError::Refused("the destination has to name a namespace".into()));
        };
        if namespace.len() > LABEL_OCTETS_MAX || !is_label(namespace) {
            return Err(DeliveryError::Refused(format!("“{namespace}” is not the name of a namespace")));
        }
        Ok(Self { server: ApiServer::open(opening.http, credentials)?, namespace: namespace.clone() })
    }

    /// The Secret as it is, and as [`Found`].
    async fn read(&self, id: &str) -> Result<Option<(Value, Found)>, DeliveryError> {
        let answer = self.server.send(Method::GET, &path_of(id)?, None).await?;
        if says_absent(&answer) {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            return Err(refusal(&answer, Asked::Look));
        }
        let secret = answer.json();
        let found = found_in(id, &secret).ok_or_else(|| unreadable(Asked::Look))?;
        Ok(Some((secret, found)))
    }

    fn id_of(&self, item: &Item) -> String {
        format!("{}/{}", self.namespace, item.name)
    }
}

impl Destination for KubernetesTlsSecret {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        if item.name.len() > NAME_OCTETS_MAX || !item.name.split('.').all(is_label) {
            return Err(DeliveryError::Refused(format!(
                "the name “{}” is not a DNS subdomain of at most {NAME_OCTETS_MAX} lower-case letters, digits, “-” and “.”",
                item.name
            )));
        }
        let octets: usize = fields_of(item)?.iter().map(|(_, text)| text.len()).sum();
        if octets > SECRET_OCTETS_MAX {
            return Err(DeliveryError::Refused(format!("a Secret holds at most {SECRET_OCTETS_MAX} octets")));
        }
        Ok(())
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        let fields = fields_of(item).ok()?;
        let parts: Vec<(&str, &[u8])> = fields.iter().map(|(name, text)| (part_of(name), text.as_bytes())).collect();
        Some(Fingerprint::of(&parts))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        Ok(self.read(id).await?.map(|(_, found)| found))
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        Ok(self.look(&self.id_of(item)).await?.into_iter().collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        let mut annotations = Map::new();
        annotations.insert(MARK.into(), item.mark.to_string().into());
        let metadata = json!({"name": item.name, "namespace": self.namespace, "annotations": annotations});
        let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TLS_TYPE});
        put_fields(&mut secret, item)?;
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        let answer = self.server.send(Method::POST, &path, Some(&secret)).await?;
        match answer.status {
            StatusCode::CREATED => found_in(&self.id_of(item), &answer.json()).ok_or_else(|| unreadable(Asked::Change)),
            StatusCode::CONFLICT if answer.json()["reason"] == "AlreadyExists" => {
                Err(DeliveryError::Taken(format!("there is a Secret {} already", self.id_of(item))))
            }
            StatusCode::CONFLICT => Err(DeliveryError::Unavailable(said(&answer))),
            _ => Err(refusal(&answer, Asked::Change)),
        }
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        let Some((mut secret, present)) = self.read(&found.id).await? else {
            return Err(changed_meanwhile(&found.id));
        };
        // That others changed what is not ours, such as a label, is no reason to hold back.
        if present.fingerprint != found.fingerprint || present.mark != found.mark {
            return Err(changed_meanwhile(&found.id));
        }
        put_fields(&mut secret, item)?;
        secret["metadata"]["annotations"][MARK] = item.mark.to_string().into();
        let answer = self.server.send(Method::PUT, &path_of(&found.id)?, Some(&secret)).await?;
        match answer.status {
            StatusCode::OK => found_in(&found.id, &answer.json()).ok_or_else(|| unreadable(Asked::Change)),
            StatusCode::CONFLICT => Err(changed_meanwhile(&found.id)),
            _ if says_absent(&answer) => Err(changed_meanwhile(&found.id)),
            _ => Err(refusal(&answer, Asked::Change)),
        }
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        let mut conditions = Map::new();
        if let Some(version) = &found.version {
            conditions.insert("resourceVersion".into(), version.clone().into());
        }
        if let Some(uid) = found.details.first() {
            conditions.insert("uid".into(), uid.clone().into());
        }
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": conditions});
        let answer = self.server.send(Method::DELETE, &path_of(&found.id)?, Some(&options)).await?;
        match answer.status {
            StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
            StatusCode::CONFLICT => Err(changed_meanwhile(&found.id)),
            _ if says_absent(&answer) => Ok(()),
            _ => Err(refusal(&answer, Asked::Change)),
        }
    }

    async fn finish(&self, _changed: &Changed) -> Result<(), DeliveryError> {
        Ok(())
    }
}

impl ApiServer {
    /// Opens it; nothing is sent.
    pub(crate) fn open(http: &Http, credentials: &Credentials) -> Result<Self, DeliveryError> {
        let Credentials::KubernetesToken { server_url, token, ca_certificate } = credentials else {
            return Err(DeliveryError::Refused("the connection is not one to Kubernetes".into()));
        };
        let http = match ca_certificate {
            Some(pem) => http.with_trust(&Trust::Pinned(pem.clone()))?,
            None => http.clone(),
        };
        Ok(Self { http, address: server_address(server_url)?, token: token.clone() })
    }

    /// Sends a request.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DeliveryError> {
        let request = Request::new(method, &format!("{}{path}", self.address))?
            .header("accept", "application/json")?
            .bearer(self.token.expose().trim())?;
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.http.send(request).await
    }
}

/// The failure of an answer. The API says 403 of an account that may not, and also of one object that is not admitted.
pub(crate) fn refusal(answer: &Answer, asked: Asked) -> DeliveryError {
    let text = said(answer);
    let of_one_object =
        answer.status == StatusCode::FORBIDDEN && !(text.contains("User \"") && text.contains("cannot"));
    if of_one_object && answer.json()["kind"] == "Status" && answer.json()["details"]["name"].is_string() {
        return DeliveryError::Refused(format!("{SYSTEM} answered {}: {text}", answer.status));
    }
    failure(SYSTEM, answer, asked, &text)
}

fn said(answer: &Answer) -> String {
    answer.json()["message"].as_str().map_or_else(|| answer.excerpt(), str::to_owned)
}

/// Whether it is the API that says that there is no such Secret, and not a wrong address or a missing namespace.
fn says_absent(answer: &Answer) -> bool {
    let body = answer.json();
    answer.status == StatusCode::NOT_FOUND
        && body["kind"] == "Status"
        && body["reason"] == "NotFound"
        && body["details"]["kind"] == "secrets"
}

fn unreadable(asked: Asked) -> DeliveryError {
    let text = format!("{SYSTEM} answered with something that is not a Secret");
    match asked {
        Asked::Look => DeliveryError::Unavailable(text),
        Asked::Change => DeliveryError::Unknown(text),
    }
}

fn fields_of(item: &Item) -> Result<Vec<(&'static str, String)>, DeliveryError> {
    let mut fields = vec![(CERTIFICATE, item.leaf_and_chain_text()), (KEY, item.key_text()?)];
    fields.extend(item.root_text().map(|root| (ROOT, root)));
    Ok(fields)
}

fn put_fields(secret: &mut Value, item: &Item) -> Result<(), DeliveryError> {
    let mut data = secret["data"].as_object().cloned().unwrap_or_default();
    // A root that is not known any more does not stay beside a leaf of another one.
    data.remove(ROOT);
    for (name, text) in fields_of(item)? {
        data.insert(name.into(), STANDARD.encode(text).into());
    }
    secret["data"] = data.into();
    Ok(())
}

const fn part_of(field: &str) -> &str {
    match field.as_bytes() {
        b"tls.crt" => "certificate",
        b"tls.key" => "key",
        _ => "root",
    }
}

fn found_in(id: &str, secret: &Value) -> Option<Found> {
    let metadata = secret["metadata"].as_object()?;
    let content = |name: &str| {
        let text = secret["data"][name].as_str()?;
        // What is no base64 is none of ours; it differs as it is.
        Some(STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec()))
    };
    let contents: Vec<(&str, Vec<u8>)> =
        [CERTIFICATE, KEY, ROOT].into_iter().filter_map(|name| Some((part_of(name), content(name)?))).collect();
    let parts: Vec<(&str, &[u8])> = contents.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    Some(Found {
        id: id.to_owned(),
        fingerprint: Fingerprint::of(&parts),
        mark: secret["metadata"]["annotations"][MARK].as_str().and_then(|text| Uuid::try_parse(text).ok()),
        version: Some(metadata.get("resourceVersion")?.as_str()?.to_owned()),
        details: vec![metadata.get("uid")?.as_str()?.to_owned()],
    })
}

fn path_of(id: &str) -> Result<String, DeliveryError> {
    match id.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && name.split('.').all(is_label) => {
            Ok(format!("/api/v1/namespaces/{namespace}/secrets/{name}"))
        }
        _ => Err(DeliveryError::Refused(format!("{id} is not a namespace and a name"))),
    }
}

/// RFC 1123: lower-case letters, digits and, inside, hyphens.
fn is_label(text: &str) -> bool {
    let good = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
    let octets = text.as_bytes();
    octets.first().is_some_and(|octet| good(*octet))
        && octets.last().is_some_and(|octet| good(*octet))
        && octets.iter().all(|octet| good(*octet) || *octet == b'-')
}
