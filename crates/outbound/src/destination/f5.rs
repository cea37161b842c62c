//! Certificates and keys of an F5 BIG-IP, and the SSL profiles that use them.
//!
//! An object is a certificate and a key of one name in the partition, and a second certificate `name-chain` with what is
//! above it. They are made, changed and removed in transactions, because the appliance refuses a profile whose certificate
//! and key do not match, and so that no state in between is ever seen. A file object can bear no mark: one is known as ours
//! only by certificate, key and chain all being those of the item, by the appliance's own checksums. A profile is bound
//! after all changes of a run; a profile that cannot be bound leaves the objects where they are. Identifiers are full
//! paths, `/partition/name`.

pub(crate) mod appliance;
mod profile;

use super::verdict::{Asked, changed_meanwhile, failure};
use super::{Changed, Destination, Fingerprint, Found, Item, Opening};
use crate::DeliveryError;
use crate::http::Answer;
use appliance::{Appliance, Command, Refusal, SYSTEM, Upload, said};
use domain::sync::DestinationConfig;
use profile::{Pair, ProfileKind};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use x509::KeyAlgorithm;

/// A partition, opened.
pub struct F5Partition {
    appliance: Appliance,
    partition: String,
    binding: Option<Binding>,
}

/// The profile that is to use what is delivered.
struct Binding {
    kind: ProfileKind,
    /// The full path.
    path: String,
    /// The full path of what it inherits from if it has to be made; none if it must not be made.
    parent: Option<String>,
}

/// A kind of file object.
#[derive(Clone, Copy)]
enum FileKind {
    Certificate,
    Key,
}

const CHAIN_SUFFIX: &str = "-chain";
/// The appliance's 255 without the suffix of the chain.
const NAME_CHARACTERS_MAX: usize = 249;
const PATH_CHARACTERS_MAX: usize = 511;
const LEAF_PART: &str = "certificate";
const KEY_PART: &str = "key";
const CHAIN_PART: &str = "chain";

impl F5Partition {
    /// Opens it; nothing is sent.
    pub fn open(opening: &Opening<'_>) -> Result<Self, DeliveryError> {
        let refused = |text: &str| Err(DeliveryError::Refused(text.into()));
        let Some(credentials) = opening.credentials else { return refused("a connection to a BIG-IP is needed") };
        let DestinationConfig::F5 { partition, profile_type, profile_name, create_profile_if_missing, parent_profile } =
            opening.config
        else {
            return refused("the destination has to name a partition");
        };
        if !is_name(partition) {
            return refused("the partition is not the name of one");
        }
        let kind = match profile_type.as_deref() {
            None | Some("none") => None,
            Some(name) => match ProfileKind::parse(name) {
                Some(kind) => Some(kind),
                None => return refused("the kind of profile is none, client-ssl or server-ssl"),
            },
        };
        let binding = match (kind, profile_name) {
            (None, _) => None,
            (Some(_), None) => return refused("the profile has to be named"),
            (Some(kind), Some(name)) => {
                let parent =
                    parent_profile.as_deref().map_or(Ok(kind.parent().to_owned()), |name| full_path("Common", name));
                let parent = create_profile_if_missing.unwrap_or(false).then_some(parent?);
                Some(Binding { kind, path: full_path(partition, name)?, parent })
            }
        };
        let appliance = Appliance::open(opening.http, credentials)?;
        Ok(Self { appliance, partition: partition.clone(), binding })
    }

    fn id_of(&self, item: &Item) -> String {
        format!("/{}/{}", self.partition, item.name)
    }

    /// The checksum of a file object; none when the appliance says that there is none.
    async fn checksum(&self, kind: FileKind, path: &str) -> Result<Option<String>, DeliveryError> {
        let answer = self.appliance.ask(Method::GET, &format!("tm/{}", kind.path_of(path)), None).await?;
        match (answer.status, answer.json()["checksum"].as_str()) {
            (StatusCode::OK, Some(checksum)) => Ok(Some(checksum.to_owned())),
            _ if says_absent(&answer) => Ok(None),
            _ => Err(failure(SYSTEM, &answer, Asked::Look, &said(&answer))),
        }
    }

    async fn read(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        must_be_full_path(id)?;
        let chain = chain_of(id);
        let mut parts = Vec::new();
        for (part, kind, path) in [
            (LEAF_PART, FileKind::Certificate, id),
            (KEY_PART, FileKind::Key, id),
            (CHAIN_PART, FileKind::Certificate, &chain),
        ] {
            parts.extend(self.checksum(kind, path).await?.map(|checksum| (part, checksum)));
        }
        Ok((!parts.is_empty()).then(|| found_of(id, &parts)))
    }

    /// Refuses to go on when the object is not as it was found.
    async fn must_be_unchanged(&self, found: &Found) -> Result<bool, DeliveryError> {
        match self.read(&found.id).await? {
            None => Ok(false),
            Some(present) if present.fingerprint == found.fingerprint => Ok(true),
            Some(_) => Err(changed_meanwhile(&found.id)),
        }
    }

    /// Uploads an item's files, makes the commands that use them, and carries those out as one.
    async fn deliver(
        &self,
        item: &Item,
        id: &str,
        present: Option<&Found>,
        mut commands: Vec<Command>,
    ) -> Result<Found, Refusal> {
        let mut uploads: Vec<Upload> = Vec::new();
        let result = async {
            let chain = chain_of(id);
            for (part, content) in contents_of(item)? {
                let (kind, path, extension) = match part {
                    KEY_PART => (FileKind::Key, id, "key"),
                    CHAIN_PART => (FileKind::Certificate, chain.as_str(), "crt"),
                    _ => (FileKind::Certificate, id, "crt"),
                };
                let upload = self.appliance.upload(extension, &content).await?;
                commands.push(match present.is_some_and(|found| has_part(found, part)) {
                    true => kind.replacing(path, &upload),
                    false => kind.creating(path, &upload),
                });
                uploads.push(upload);
            }
            self.appliance.transact(&commands).await
        }
        .await;
        for upload in &uploads {
            self.appliance.discard(upload).await;
        }
        result?;
        Ok(Found { mark: Some(item.mark), ..found_of(id, &checksums_of(item)?) })
    }

    /// The changes of all profiles of a partition that a function makes of them.
    async fn profile_changes(
        &self,
        partition: &str,
        change: impl Fn(ProfileKind, &Value) -> Option<Value>,
    ) -> Result<Vec<Command>, DeliveryError> {
        let mut commands = Vec::new();
        for kind in ProfileKind::ALL {
            let path = format!("tm/ltm/profile/{}?$filter=partition+eq+{partition}", kind.name());
            let answer = self.appliance.ask(Method::GET, &path, None).await?;
            if answer.status != StatusCode::OK {
                return Err(failure(SYSTEM, &answer, Asked::Look, &said(&answer)));
            }
            let body = answer.json();
            for profile in body["items"].as_array().into_iter().flatten() {
                let path = profile["fullPath"].as_str().unwrap_or_default();
                let is_here = path.strip_prefix('/').and_then(|rest| rest.split_once('/')).map(|(name, _)| name);
                if let Some(body) = change(kind, profile).filter(|_| is_here == Some(partition)) {
                    let path = format!("ltm/profile/{}/{}", kind.name(), tildes(path));
                    commands.push(Command { method: Method::PATCH, path, body: Some(body) });
                }
            }
        }
        Ok(commands)
    }

    /// Makes the profile use what was delivered.
    async fn bind(&self, binding: &Binding, changed: &Changed) -> Result<(), DeliveryError> {
        let pairs: Vec<Pair> = changed.delivered.iter().map(|(found, _)| pair_of(found)).collect();
        if pairs.is_empty() {
            return Ok(());
        }
        if binding.kind == ProfileKind::Server && pairs.len() > 1 {
            return Err(DeliveryError::Refused(format!(
                "{} can use one certificate, not {}",
                binding.path,
                pairs.len()
            )));
        }
        let collection = format!("tm/ltm/profile/{}", binding.kind.name());
        let path = format!("{collection}/{}", tildes(&binding.path));
        let shown = self.appliance.ask(Method::GET, &path, None).await?;
        let answer = match (shown.status, &binding.parent) {
            (StatusCode::OK, _) => match binding.kind.bound(&shown.json(), &pairs) {
                Some(body) => self.appliance.ask(Method::PATCH, &path, Some(&body)).await?,
                None => return Ok(()),
            },
            (_, Some(parent)) if says_absent(&shown) => {
                let mut body = binding.kind.bound(&Value::Null, &pairs).unwrap_or_default();
                let (partition, name) = split(&binding.path);
                body["name"] = name.into();
                body["partition"] = partition.into();
                body["defaultsFrom"] = parent.clone().into();
                self.appliance.ask(Method::POST, &collection, Some(&body)).await?
            }
            (_, None) if says_absent(&shown) => {
                return Err(DeliveryError::Refused(format!("there is no profile {}", binding.path)));
            }
            _ => return Err(failure(SYSTEM, &shown, Asked::Look, &said(&shown))),
        };
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(failure(SYSTEM, &answer, Asked::Change, &said(&answer))),
        }
    }
}

impl Destination for F5Partition {
    fn must_take(&self, item: &Item) -> Result<(), DeliveryError> {
        item.must_be_named_of("._-", NAME_CHARACTERS_MAX)?;
        item.key_text()?;
        match item.leaf.key_algorithm() {
            Ok(KeyAlgorithm::Ed25519) | Err(_) => {
                Err(DeliveryError::Refused("a BIG-IP takes RSA and ECDSA keys only".into()))
            }
            Ok(_) => Ok(()),
        }
    }

    fn expected(&self, item: &Item) -> Option<Fingerprint> {
        checksums_of(item).ok().map(|checksums| fingerprint_of(&checksums))
    }

    async fn look(&self, id: &str) -> Result<Option<Found>, DeliveryError> {
        self.read(id).await
    }

    async fn find(&self, item: &Item) -> Result<Vec<Found>, DeliveryError> {
        let found = self.read(&self.id_of(item)).await?;
        // The same certificate may have been put there by somebody else, but not with the same key.
        let is_ours = |found: &Found| self.expected(item).as_ref() == Some(&found.fingerprint);
        Ok(found.into_iter().map(|found| Found { mark: is_ours(&found).then_some(item.mark), ..found }).collect())
    }

    async fn create(&self, item: &Item) -> Result<Found, DeliveryError> {
        let id = self.id_of(item);
        let taken = || DeliveryError::Taken(format!("there is a certificate, key or chain of {id} already"));
        if self.read(&id).await?.is_some() {
            return Err(taken());
        }
        let delivered = self.deliver(item, &id, None, Vec::new()).await;
        delivered.map_err(|refusal| if refusal.is_taken { taken() } else { refusal.error })
    }

    async fn replace(&self, found: &Found, item: &Item) -> Result<Found, DeliveryError> {
        if !self.must_be_unchanged(found).await? {
            return Err(changed_meanwhile(&found.id));
        }
        let mut commands = Vec::new();
        if item.chain.is_empty() && has_part(found, CHAIN_PART) {
            let chain = chain_of(&found.id);
            let partition = split(&found.id).0;
            commands = self.profile_changes(partition, |kind, profile| kind.without_chain(profile, &chain)).await?;
            commands.push(FileKind::Certificate.removing(&chain));
        }
        let delivered = self.deliver(item, &found.id, Some(found), commands).await;
        delivered.map_err(|refusal| match refusal.is_missing || refusal.is_taken {
            true => changed_meanwhile(&found.id),
            false => refusal.error,
        })
    }

    async fn remove(&self, found: &Found) -> Result<(), DeliveryError> {
        if !self.must_be_unchanged(found).await? {
            return Ok(());
        }
        let pair = pair_of(found);
        let partition = split(&found.id).0;
        let mut commands = self.profile_changes(partition, |kind, profile| kind.unbound(profile, &pair)).await?;
        for (part, kind, path) in [
            (KEY_PART, FileKind::Key, found.id.clone()),
            (LEAF_PART, FileKind::Certificate, found.id.clone()),
            (CHAIN_PART, FileKind::Certificate, chain_of(&found.id)),
        ] {
            commands.extend(has_part(found, part).then(|| kind.removing(&path)));
        }
        self.appliance.transact(&commands).await.map_err(|refusal| match refusal.is_missing {
            true => changed_meanwhile(&found.id),
            false => refusal.error,
        })
    }

    async fn finish(&self, changed: &Changed) -> Result<(), DeliveryError> {
        let bound = match &self.binding {
            Some(binding) => self.bind(binding, changed).await,
            None => Ok(()),
        };
        // What was delivered is there, whether or not a profile uses it, so it is written down.
        let saved = self.appliance.save().await;
        self.appliance.log_out().await;
        bound.and(saved)
    }
}

impl FileKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "ssl-cert",
            Self::Key => "ssl-key",
        }
    }

    fn path_of(self, path: &str) -> String {
        format!("sys/file/{}/{}", self.name(), tildes(path))
    }

    fn creating(self, path: &str, upload: &Upload) -> Command {
        let (partition, name) = split(path);
        let body = json!({"name": name, "partition": partition, "sourcePath": upload.source()});
        Command { method: Method::POST, path: format!("sys/file/{}", self.name()), body: Some(body) }
    }

    fn replacing(self, path: &str, upload: &Upload) -> Command {
        let body = json!({"sourcePath": upload.source()});
        Command { method: Method::PATCH, path: self.path_of(path), body: Some(body) }
    }

    fn removing(self, path: &str) -> Command {
        Command { method: Method::DELETE, path: self.path_of(path), body: None }
    }
}

/// Whether it is the appliance's configuration that has no such object.
fn says_absent(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND
        && answer.json()["code"] == StatusCode::NOT_FOUND.as_u16()
        && said(answer).contains("was not found")
}

fn contents_of(item: &Item) -> Result<Vec<(&'static str, String)>, DeliveryError> {
    let mut contents = vec![(KEY_PART, item.key_text()?), (LEAF_PART, item.leaf_text())];
    if !item.chain.is_empty() {
        contents.push((CHAIN_PART, item.chain_text()));
    }
    Ok(contents)
}

/// The checksums that the appliance will show: `SHA1:size:hex` of the files as they were uploaded.
fn checksums_of(item: &Item) -> Result<Vec<(&'static str, String)>, DeliveryError> {
    let checksum = |content: &str| {
        let hex: String = x509::digest::sha1(content.as_bytes()).iter().map(|octet| format!("{octet:02x}")).collect();
        format!("SHA1:{}:{hex}", content.len())
    };
    Ok(contents_of(item)?.into_iter().map(|(part, content)| (part, checksum(&content))).collect())
}

fn fingerprint_of(checksums: &[(&'static str, String)]) -> Fingerprint {
    let ordered = [LEAF_PART, KEY_PART, CHAIN_PART]
        .into_iter()
        .flat_map(|part| checksums.iter().filter(move |(name, _)| *name == part));
    let parts: Vec<(&str, &[u8])> = ordered.map(|(part, checksum)| (*part, checksum.as_bytes())).collect();
    Fingerprint::of(&parts)
}

fn found_of(id: &str, checksums: &[(&'static str, String)]) -> Found {
    let fingerprint = fingerprint_of(checksums);
    Found { id: id.to_owned(), fingerprint, mark: None, version: None, details: Vec::new() }
}

fn has_part(found: &Found, part: &str) -> bool {
    found.fingerprint.as_str().split(';').any(|text| text.split_once('=').is_some_and(|(name, _)| name == part))
}

fn pair_of(found: &Found) -> Pair {
    Pair { path: found.id.clone(), chain: has_part(found, CHAIN_PART).then(|| chain_of(&found.id)) }
}

fn chain_of(path: &str) -> String {
    format!("{path}{CHAIN_SUFFIX}")
}

/// How a full path is spelt inside another path.
fn tildes(path: &str) -> String {
    path.replace('/', "~")
}

/// Partition and name of a full path.
fn split(path: &str) -> (&str, &str) {
    path.strip_prefix('/').and_then(|rest| rest.split_once('/')).unwrap_or(("", path))
}

fn must_be_full_path(path: &str) -> Result<(), DeliveryError> {
    let (partition, name) = split(path);
    match is_name(partition) && is_name(name) && path.len() <= PATH_CHARACTERS_MAX {
        true => Ok(()),
        false => Err(DeliveryError::Refused(format!("{path} is not a partition and a name"))),
    }
}

/// A bare name is one of this partition.
fn full_path(partition: &str, name: &str) -> Result<String, DeliveryError> {
    let path = if name.starts_with('/') { name.to_owned() } else { format!("/{partition}/{name}") };
    must_be_full_path(&path).map(|()| path)
}

fn is_name(text: &str) -> bool {
    let good = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    !text.is_empty() && text.chars().all(good) && !matches!(text, "." | "..")
}
