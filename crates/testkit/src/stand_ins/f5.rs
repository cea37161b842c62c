//! An F5 BIG-IP, as far as certificates, keys and SSL profiles go. It speaks plain HTTP; tests put TLS in front of it.
//!
//! Rules: tokens of the login, uploads in ranges, file objects that are made from uploaded files, transactions that are
//! done as a whole or not at all, and the configuration's own checks: what is used cannot be deleted, and the certificate
//! and key of a profile have to match.
//!
//! Where from: uploads in pieces of at most a megabyte with `Content-Range: first-last/size`, which end in
//! `/var/config/rest/downloads` (F5's "File Uploads", and "Demystifying iControl REST, part 5"); transactions by
//! `X-F5-REST-Coordination-Id` and `VALIDATING` ("iControl REST API User Guide", 14.1); `SHA1:size:hex` of a file's content
//! as the checksum of certificates and keys alike (answers of 14.1 that others recorded, and F5's own Ansible modules, which
//! hold the SHA-1 of what they upload against it).

use super::faults::{self, Asked, Fault, Faults, json, lock};
use super::material::{are_certificates, is_key, key_fits};
use axum::http::Method;
use axum::response::Response;
use serde_json::{Value, json as object};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use uuid::Uuid;
use x509::digest;

/// The appliance.
pub struct F5 {
    /// What it is told to do wrong: `login`, `logout`, `upload`, `read-cert`, `read-key`, `read-profile`, `write-profile`,
    /// `begin`, `queue`, `commit`, `rm`, `save`.
    pub faults: Faults,
    address: SocketAddr,
    password: String,
    state: Mutex<State>,
}

/// The running configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// The certificate objects, by their full path.
    pub certificates: BTreeMap<String, Vec<u8>>,
    /// The key objects.
    pub keys: BTreeMap<String, Vec<u8>>,
    /// The `client-ssl` profiles.
    pub client_profiles: BTreeMap<String, Value>,
    /// The `server-ssl` profiles.
    pub server_profiles: BTreeMap<String, Value>,
}

#[derive(Default)]
struct State {
    running: Configuration,
    saved: Configuration,
    tokens: BTreeSet<String>,
    uploads: BTreeMap<String, Upload>,
    transactions: BTreeMap<u64, Vec<Command>>,
    begun: u64,
}

struct Upload {
    content: Vec<u8>,
    size: usize,
}

/// A change, at once or in a transaction.
#[derive(Clone)]
struct Command {
    method: Method,
    path: Vec<String>,
    body: Value,
}

/// A refusal: status and message.
type Refusal = (u16, String);

/// The user.
pub const USER: &str = "admin";
/// The partition that there is.
pub const PARTITION: &str = "Common";
const DOWNLOADS: &str = "/var/config/rest/downloads/";
/// The worker that takes uploads refuses larger pieces.
const CHUNK_OCTETS_MAX: usize = 1024 * 1024;

impl F5 {
    /// Starts one with this password.
    pub async fn start(password: &str) -> Arc<Self> {
        let password = password.to_owned();
        let make = |address| Self { faults: Faults::default(), address, password, state: Mutex::default() };
        faults::serve(make, |server| &server.faults, operation, Self::answer).await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it runs with.
    pub fn running(&self) -> Configuration {
        lock(&self.state).running.clone()
    }

    /// What it would start with.
    pub fn saved(&self) -> Configuration {
        lock(&self.state).saved.clone()
    }

    /// How many tokens are valid.
    pub fn tokens(&self) -> usize {
        lock(&self.state).tokens.len()
    }

    /// Ends every token, as time does.
    pub fn expire_tokens(&self) {
        lock(&self.state).tokens.clear();
    }

    /// The uploaded files that were left behind.
    pub fn uploads(&self) -> Vec<String> {
        lock(&self.state).uploads.keys().cloned().collect()
    }

    /// Changes the configuration as somebody else would, unchecked.
    pub fn edit(&self, edit: impl FnOnce(&mut Configuration)) {
        edit(&mut lock(&self.state).running);
    }

    fn answer(&self, asked: &Asked, fault: Option<Fault>) -> Response {
        let mut state = lock(&self.state);
        let path = asked.segments();
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        if names == ["mgmt", "shared", "authn", "login"] {
            return self.log_in(&mut state, &asked.json());
        }
        if !state.tokens.contains(asked.header("x-f5-auth-token")) {
            return error((401, "X-F5-Auth-Token does not exist.".into()));
        }
        let result = match (&asked.method, names.as_slice()) {
            (&Method::DELETE, ["mgmt", "shared", "authz", "tokens", token]) => {
                state.tokens.remove(*token);
                Ok(object!({}))
            }
            (&Method::POST, ["mgmt", "shared", "file-transfer", "uploads", file]) => {
                upload(&mut state, file, asked, fault)
            }
            (&Method::POST, ["mgmt", "tm", "util", "unix-rm"]) => {
                let body = asked.json();
                if let Some(file) = body["utilCmdArgs"].as_str().and_then(|path| path.strip_prefix(DOWNLOADS)) {
                    state.uploads.remove(file);
                }
                Ok(body)
            }
            (&Method::POST, ["mgmt", "tm", "sys", "config"]) if asked.json()["command"] == "save" => {
                state.saved = state.running.clone();
                Ok(asked.json())
            }
            (&Method::POST, ["mgmt", "tm", "transaction"]) => {
                state.begun += 1;
                let number = state.begun;
                state.transactions.insert(number, Vec::new());
                Ok(object!({"transId": number, "state": "STARTED", "timeoutSeconds": 120}))
            }
            (method, ["mgmt", "tm", "transaction", number]) => transaction(&mut state, method, number, asked, fault),
            (&Method::GET, ["mgmt", "tm", rest @ ..]) => show(&state.running, rest, fault),
            (method, ["mgmt", "tm", rest @ ..]) => {
                let path = rest.iter().map(|name| (*name).to_owned()).collect();
                let command = Command { method: method.clone(), path, body: asked.json() };
                change(&mut state, command, asked.header("x-f5-rest-coordination-id"))
            }
            _ => Err((404, "Public URI path not registered".into())),
        };
        result.map_or_else(error, |body| json(200, &body))
    }

    fn log_in(&self, state: &mut State, body: &Value) -> Response {
        if body["username"] != USER || body["password"] != self.password.as_str() || body["loginProviderName"] != "tmos"
        {
            return error((401, "Authentication failed.".into()));
        }
        let token = Uuid::new_v4().simple().to_string().to_uppercase();
        state.tokens.insert(token.clone());
        json(200, &object!({"username": USER, "token": {"token": token, "name": token, "timeout": 1200}}))
    }
}

impl Configuration {
    /// Whether a certificate and the key of its name are there and match.
    pub fn has_matching_pair(&self, path: &str) -> bool {
        match (self.certificates.get(path), self.keys.get(path)) {
            (Some(certificate), Some(key)) => key_fits(&text(certificate), &text(key)),
            _ => false,
        }
    }

    fn files(&mut self, kind: &str) -> Option<(&mut BTreeMap<String, Vec<u8>>, &'static str)> {
        match kind {
            "ssl-cert" => Some((&mut self.certificates, "Certificate File")),
            "ssl-key" => Some((&mut self.keys, "Certificate Key File")),
            _ => None,
        }
    }

    fn profiles(&mut self, kind: &str) -> Option<&mut BTreeMap<String, Value>> {
        match kind {
            "client-ssl" => Some(&mut self.client_profiles),
            "server-ssl" => Some(&mut self.server_profiles),
            _ => None,
        }
    }

    /// Certificate, key and chain of each use in a profile.
    fn uses(&self) -> Vec<[String; 3]> {
        let client = self.client_profiles.values().flat_map(|profile| {
            let entries = profile["certKeyChain"].as_array().cloned().unwrap_or_default();
            entries.into_iter().map(|entry| triple(&entry))
        });
        client.chain(self.server_profiles.values().map(triple)).collect()
    }

    fn check(&self) -> Result<(), Refusal> {
        for [certificate, key, chain] in self.uses() {
            if is_of_the_system(&certificate) || certificate == "none" {
                continue;
            }
            let file = |files: &BTreeMap<String, Vec<u8>>, path: &str| {
                let missing = || (400, format!("01070712:3: file ({path}) is used by a profile and was not found"));
                files.get(path).map(|content| text(content)).ok_or_else(missing)
            };
            if !key_fits(&file(&self.certificates, &certificate)?, &file(&self.keys, &key)?) {
                return Err((400, format!("01070317:3: key({key}) and certificate({certificate}) do not match")));
            }
            if chain != "none" {
                file(&self.certificates, &chain)?;
            }
        }
        for (path, profile) in &self.client_profiles {
            let entries = profile["certKeyChain"].as_array().map(Vec::as_slice).unwrap_or_default();
            let names: BTreeSet<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
            if entries.is_empty() || names.len() != entries.len() {
                return Err((400, format!("01070734:3: Client SSL profile ({path}) must have unique certificates")));
            }
        }
        Ok(())
    }

    fn apply(&mut self, command: &Command, uploads: &BTreeMap<String, Upload>) -> Result<Value, Refusal> {
        let path: Vec<&str> = command.path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["sys", "file", kind, rest @ ..] => self.apply_to_file(kind, rest.first().copied(), command, uploads),
            ["ltm", "profile", kind, rest @ ..] => self.apply_to_profile(kind, rest.first().copied(), command),
            _ => Err((404, "Public URI path not registered".into())),
        }
    }

    fn apply_to_file(
        &mut self,
        kind: &str,
        name: Option<&str>,
        command: &Command,
        uploads: &BTreeMap<String, Upload>,
    ) -> Result<Value, Refusal> {
        let Some((files, what)) = self.files(kind) else { return Err((404, "no such kind of file".into())) };
        let path = name.map_or_else(|| full_path(&command.body), of_tildes);
        let missing = || (404, format!("01020036:3: The requested {what} ({path}) was not found."));
        if command.method == Method::DELETE {
            return files.remove(&path).map(|_| Value::Null).ok_or_else(missing);
        }
        if name.is_none() && !path.starts_with(&format!("/{PARTITION}/")) {
            return Err((404, "01020036:3: The requested folder was not found.".into()));
        }
        if name.is_none() && files.contains_key(&path) {
            return Err((
                409,
                format!("01020066:3: The requested {what} ({path}) already exists in partition {PARTITION}."),
            ));
        }
        if name.is_some() && !files.contains_key(&path) {
            return Err(missing());
        }
        let file = command.body["sourcePath"].as_str().and_then(|path| path.strip_prefix("file:")).unwrap_or_default();
        let upload = file.strip_prefix(DOWNLOADS).and_then(|file| uploads.get(file));
        let Some(upload) = upload.filter(|upload| upload.content.len() == upload.size) else {
            return Err((400, format!("Failed! exit code 37, cannot open file {file}")));
        };
        let content = text(&upload.content);
        if !(if kind == "ssl-key" { is_key(&content) } else { are_certificates(&content) }) {
            return Err((400, format!("01070319:3: unable to read {what} ({path})")));
        }
        files.insert(path.clone(), upload.content.clone());
        Ok(shown_file(&path, &upload.content))
    }

    fn apply_to_profile(&mut self, kind: &str, name: Option<&str>, command: &Command) -> Result<Value, Refusal> {
        let Some(profiles) = self.profiles(kind) else { return Err((404, "no such kind of profile".into())) };
        let path = name.map_or_else(|| full_path(&command.body), of_tildes);
        let parent = command.body["defaultsFrom"].as_str().unwrap_or("/Common/clientssl");
        if name.is_none() && !is_of_the_system(parent) && !profiles.contains_key(parent) {
            return Err((404, format!("01020036:3: The requested profile ({parent}) was not found.")));
        }
        if name.is_none() {
            profiles.entry(path.clone()).or_insert_with(|| object!({"fullPath": path}));
        }
        let Some(profile) = profiles.get_mut(&path) else {
            return Err((404, format!("01020036:3: The requested profile ({path}) was not found.")));
        };
        for (field, value) in command.body.as_object().into_iter().flatten() {
            profile[field] = value.clone();
        }
        Ok(profile.clone())
    }
}

fn operation(asked: &Asked) -> String {
    let is = |part: &str| asked.path.contains(part);
    let reads = asked.method == Method::GET;
    let in_transaction = !asked.header("x-f5-rest-coordination-id").is_empty();
    let name = match () {
        () if is("/authn/login") => "login",
        () if is("/authz/tokens") => "logout",
        () if is("/uploads/") => "upload",
        () if is("/unix-rm") => "rm",
        () if is("/sys/config") => "save",
        () if asked.path.ends_with("/transaction") => "begin",
        () if is("/transaction/") && asked.method == Method::PATCH => "commit",
        () if is("/transaction/") => "transaction",
        () if in_transaction => "queue",
        () if is("/ssl-cert") && reads => "read-cert",
        () if is("/ssl-key") && reads => "read-key",
        () if is("/profile/") && reads => "read-profile",
        () if is("/profile/") => "write-profile",
        () => "write-file",
    };
    name.to_owned()
}

fn upload(state: &mut State, file: &str, asked: &Asked, fault: Option<Fault>) -> Result<Value, Refusal> {
    let range = asked.header("content-range");
    let refused = || (400, format!("invalid content-range {range}"));
    let (span, size) = range.split_once('/').ok_or_else(refused)?;
    let (from, to) = span.split_once('-').ok_or_else(refused)?;
    let numbers: Vec<usize> = [from, to, size].iter().filter_map(|text| text.parse().ok()).collect();
    let [from, to, size] = numbers[..] else { return Err(refused()) };
    let is_whole = to.checked_sub(from).is_some_and(|last| last + 1 == asked.body.len());
    if !is_whole || to >= size || asked.body.len() > CHUNK_OCTETS_MAX {
        return Err(refused());
    }
    let upload = state.uploads.entry(file.to_owned()).or_insert(Upload { content: Vec::new(), size });
    if from == 0 {
        *upload = Upload { content: Vec::new(), size };
    }
    if upload.content.len() != from || upload.size != size {
        return Err(refused());
    }
    if fault == Some(Fault::Partial) {
        upload.content.extend_from_slice(&asked.body[..asked.body.len() / 2]);
        return Err((500, "the disk is full".into()));
    }
    upload.content.extend_from_slice(&asked.body);
    Ok(
        object!({"remainingByteCount": size - to - 1, "totalByteCount": size, "localFilePath": format!("{DOWNLOADS}{file}")}),
    )
}

/// A change at once is a transaction of one.
fn change(state: &mut State, command: Command, transaction: &str) -> Result<Value, Refusal> {
    if transaction.is_empty() {
        let mut next = state.running.clone();
        let shown = next.apply(&command, &state.uploads)?;
        must_not_be_used(&state.running, &next)?;
        next.check()?;
        state.running = next;
        return Ok(shown);
    }
    let commands = transaction.parse().ok().and_then(|number: u64| state.transactions.get_mut(&number));
    let Some(commands) = commands else { return Err((404, "The transaction was not found.".into())) };
    commands.push(command.clone());
    Ok(command.body)
}

fn transaction(
    state: &mut State,
    method: &Method,
    number: &str,
    asked: &Asked,
    fault: Option<Fault>,
) -> Result<Value, Refusal> {
    let Ok(number) = number.parse::<u64>() else { return Err((400, "no such transaction".into())) };
    let Some(commands) = state.transactions.get(&number).cloned() else {
        return Err((404, "The transaction was not found.".into()));
    };
    match *method {
        Method::GET => Ok(object!({"transId": number, "state": "STARTED"})),
        Method::DELETE => {
            state.transactions.remove(&number);
            Ok(object!({}))
        }
        Method::PATCH if asked.json()["state"] == "VALIDATING" => {
            state.transactions.remove(&number);
            let failed = |(status, text): Refusal| (status, format!("transaction failed:{text}"));
            let mut next = state.running.clone();
            if fault == Some(Fault::Partial) {
                // What no transaction should leave behind.
                if let Some(first) = commands.first() {
                    next.apply(first, &state.uploads).map_err(failed)?;
                }
                state.running = next;
                return Err((500, "the device failed".into()));
            }
            for command in &commands {
                next.apply(command, &state.uploads).map_err(failed)?;
            }
            must_not_be_used(&state.running, &next).map_err(failed)?;
            next.check().map_err(failed)?;
            state.running = next;
            Ok(object!({"transId": number, "state": "COMPLETED"}))
        }
        _ => Err((400, "invalid state of a transaction".into())),
    }
}

/// Refuses to delete what a profile still uses.
fn must_not_be_used(before: &Configuration, after: &Configuration) -> Result<(), Refusal> {
    let used: BTreeSet<String> = after.uses().into_iter().flatten().collect();
    let gone = before.certificates.keys().filter(|path| !after.certificates.contains_key(*path));
    let gone = gone.chain(before.keys.keys().filter(|path| !after.keys.contains_key(*path)));
    match gone.into_iter().find(|path| used.contains(*path)) {
        Some(path) => Err((400, format!("01071349:3: File object by name ({path}) is in use."))),
        None => Ok(()),
    }
}

fn show(running: &Configuration, path: &[&str], fault: Option<Fault>) -> Result<Value, Refusal> {
    let mut running = running.clone();
    let deny = fault == Some(Fault::DenyPresence);
    match path {
        ["sys", "file", kind, name] => {
            let path = of_tildes(name);
            let Some((files, what)) = running.files(kind) else { return Err((404, "no such kind".into())) };
            let found = files.get(&path).filter(|_| !deny);
            let missing = || (404, format!("01020036:3: The requested {what} ({path}) was not found."));
            found.map(|content| shown_file(&path, content)).ok_or_else(missing)
        }
        ["ltm", "profile", kind] => {
            let Some(profiles) = running.profiles(kind) else { return Err((404, "no such kind".into())) };
            Ok(object!({"items": profiles.values().collect::<Vec<&Value>>()}))
        }
        ["ltm", "profile", kind, name] => {
            let path = of_tildes(name);
            let found = running.profiles(kind).and_then(|profiles| profiles.get(&path).cloned());
            found.ok_or_else(|| (404, format!("01020036:3: The requested profile ({path}) was not found.")))
        }
        _ => Err((404, "Public URI path not registered".into())),
    }
}

fn shown_file(path: &str, content: &[u8]) -> Value {
    let hex: String = digest::sha1(content).iter().map(|octet| format!("{octet:02x}")).collect();
    object!({"fullPath": path, "checksum": format!("SHA1:{}:{hex}", content.len())})
}

fn triple(place: &Value) -> [String; 3] {
    ["cert", "key", "chain"].map(|field| place[field].as_str().unwrap_or("none").to_owned())
}

fn is_of_the_system(path: &str) -> bool {
    ["/Common/default.crt", "/Common/clientssl", "/Common/serverssl"].contains(&path)
}

fn full_path(body: &Value) -> String {
    format!("/{}/{}", body["partition"].as_str().unwrap_or(PARTITION), body["name"].as_str().unwrap_or_default())
}

fn of_tildes(name: &str) -> String {
    name.replace('~', "/")
}

fn text(content: &[u8]) -> String {
    String::from_utf8_lossy(content).into_owned()
}

fn error((status, message): Refusal) -> Response {
    json(status, &object!({"code": status, "message": message, "errorStack": [], "apiError": 3}))
}
