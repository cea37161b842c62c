//! A Chef Infra Server with one organisation, its users and data bags.
//!
//! Rules: the request signing of protocol 1.3, verified from the raw request (hash of the body, time, canonical text, RSA
//! PKCS#1 v1.5 with SHA-256), and the data bag endpoints of the Server API.

use super::faults::{self, Asked, Fault, Faults, json, lock};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json as object};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use x509::{digest, pem};

/// The server.
pub struct Chef {
    /// What it is told to do wrong: `read`, `create`, `update`, `delete`, `user`.
    pub faults: Faults,
    /// The key of [`USER`], PKCS#8 in PEM.
    pub key: String,
    address: SocketAddr,
    public_key: Vec<u8>,
    items: Mutex<BTreeMap<String, Value>>,
}

/// The organisation.
pub const ORGANIZATION: &str = "acme";
/// Its user.
pub const USER: &str = "sync-user";
/// Its data bag.
pub const BAG: &str = "certificates";
/// How far a request's time may be off.
const SKEW_SECONDS_MAX: i64 = 15 * 60;
const PIECE_CHARACTERS_MAX: usize = 60;

impl Chef {
    /// Starts one with a new key for its user.
    pub async fn start() -> Arc<Self> {
        let pair = RsaKeyPair::generate(rsa::KeySize::Rsa2048).expect("the library makes RSA keys");
        let key: Pkcs8V1Der<'_> = pair.as_der().expect("the key can be written");
        let (key, public_key) = (pem::encode("PRIVATE KEY", key.as_ref()), pair.public_key().as_ref().to_vec());
        let make = |address| Self { faults: Faults::default(), key, address, public_key, items: Mutex::default() };
        faults::serve(make, |server| &server.faults, operation, Self::answer).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every item of the data bag by its id.
    pub fn items(&self) -> BTreeMap<String, Value> {
        lock(&self.items).clone()
    }

    /// Puts an item there as somebody else would.
    pub fn put(&self, id: &str, item: Value) {
        lock(&self.items).insert(id.to_owned(), item);
    }

    fn answer(&self, asked: &Asked, fault: Option<Fault>) -> Response {
        if let Err(why) = self.verify(asked) {
            return error(401, &why);
        }
        let segments = asked.segments();
        let path: Vec<&str> = segments.iter().map(String::as_str).collect();
        let ["organizations", organization, rest @ ..] = path.as_slice() else { return error(404, "no such path") };
        if *organization != ORGANIZATION {
            return error(404, &format!("organization '{organization}' does not exist."));
        }
        let mut items = lock(&self.items);
        match (&asked.method, rest) {
            (&Method::GET, ["users", USER]) => json(200, &object!({"username": USER})),
            (&Method::GET, ["users", user]) => {
                error(404, &format!("Cannot find a user {user} in organization {organization}"))
            }
            (_, ["data", bag, ..]) if *bag != BAG => error(404, &format!("Cannot load data bag {bag}")),
            (&Method::GET, ["data", _, id]) => match items.get(*id).filter(|_| fault != Some(Fault::DenyPresence)) {
                Some(item) => json(200, item),
                None => no_item(id),
            },
            (&Method::POST, ["data", _]) => {
                let item = asked.json();
                let Some(id) = item["id"].as_str().filter(|id| is_id(id)) else {
                    return error(400, "Field 'id' invalid");
                };
                if items.contains_key(id) {
                    return error(409, &format!("Data Bag Item '{id}' already exists in Data Bag '{BAG}'."));
                }
                items.insert(id.to_owned(), item.clone());
                json(201, &item)
            }
            (&Method::PUT, ["data", _, id]) => {
                let item = asked.json();
                if item["id"] != *id {
                    return error(400, "DataBagItem name mismatch.");
                }
                let Some(present) = items.get_mut(*id) else { return no_item(id) };
                *present = item.clone();
                json(200, &item)
            }
            (&Method::DELETE, ["data", _, id]) => {
                items.remove(*id).map_or_else(|| no_item(id), |item| json(200, &item))
            }
            _ => error(405, "method not allowed"),
        }
    }

    /// Whether the user signed this very request, and lately.
    fn verify(&self, asked: &Asked) -> Result<(), String> {
        let user = asked.header("x-ops-userid");
        if user != USER {
            return Err(format!("Failed to authenticate as '{user}'. Ensure that your node_name is correct."));
        }
        let is_1_3 = asked.header("x-ops-sign").split(';').any(|part| part.trim() == "version=1.3");
        if !is_1_3 || asked.header("x-ops-server-api-version") != "1" || asked.header("x-chef-version").is_empty() {
            return Err("Missing or unsupported signing headers".into());
        }
        let hash = STANDARD.encode(digest::sha256(&asked.body));
        if asked.header("x-ops-content-hash") != hash {
            return Err("Invalid signature: the hash of the content differs".into());
        }
        let time = asked.header("x-ops-timestamp");
        let signed_at: Timestamp = time.parse().map_err(|_| "Invalid timestamp".to_owned())?;
        let skew = Timestamp::now().as_second() - signed_at.as_second();
        if time.len() != "2026-01-01T00:00:00Z".len() || skew.abs() > SKEW_SECONDS_MAX {
            return Err("Failed to authenticate. Please check your system clock.".into());
        }
        let mut signature = String::new();
        for number in 1.. {
            match asked.header(&format!("x-ops-authorization-{number}")) {
                "" => break,
                piece if piece.len() > PIECE_CHARACTERS_MAX => {
                    return Err("a piece of the signature is too long".into());
                }
                piece => signature.push_str(piece),
            }
        }
        let signature = STANDARD.decode(signature).map_err(|_| "the signature is not base64".to_owned())?;
        let text = format!(
            "Method:{}\nPath:{}\nX-Ops-Content-Hash:{hash}\nX-Ops-Sign:version=1.3\nX-Ops-Timestamp:{time}\n\
             X-Ops-UserId:{user}\nX-Ops-Server-API-Version:1",
            asked.method, asked.path
        );
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(text.as_bytes(), &signature)
            .map_err(|_| format!("Invalid signature for user or client '{user}'"))
    }
}

fn operation(asked: &Asked) -> String {
    let name = match asked.method {
        Method::GET if asked.path.contains("/users/") => "user",
        Method::GET => "read",
        Method::POST => "create",
        Method::PUT => "update",
        _ => "delete",
    };
    name.to_owned()
}

fn is_id(id: &str) -> bool {
    let good = |character: char| character.is_ascii_alphanumeric() || "_-.:".contains(character);
    !id.is_empty() && id.chars().all(good)
}

fn no_item(id: &str) -> Response {
    error(404, &format!("Cannot load data bag item {id} for data bag {BAG}"))
}

fn error(status: u16, text: &str) -> Response {
    json(status, &object!({"error": [text]}))
}
