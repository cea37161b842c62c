//! `POST /iot-devices/v1/imports`: objects of the vendor's export, as they are, with their certificates (contract §9).
//!
//! The body as a whole must be of the right shape; an object that cannot be read or is refused fails by itself, with a
//! line of its own.

use crate::app::Call;
use crate::check::Checks;
use crate::error::Result;
use crate::grpc::read::{broker_log_options, log_options};
use crate::proto::yandex::cloud::iot::broker::v1 as broker_v1;
use crate::proto::yandex::cloud::iot::devices::v1 as devices_v1;
use crate::rest::read::Reader;
use domain::registry::credential::{CertificateState, FINGERPRINT_CHARACTERS_MAX};
use domain::registry::{Broker, Device, Folder, OwnerKind, Registry};
use domain::{Reason, Refusal, Time, Violation};
use prost::{Message, Name};
use prost_reflect::DescriptorPool;
use prost_types::Timestamp;
use serde_json::{Map, Value, json};
use services::registry::{ImportLine, ImportMode, ImportOutcome, ImportedCertificate, ImportedItem, ImportedObject};
use std::collections::{BTreeMap, HashMap};

/// How many octets of a body are read.
pub(super) const BODY_OCTETS_MAX: usize = 8 << 20;
/// How many objects one call takes.
const OBJECTS_MAX: usize = 500;
/// The folder that is taken when the body names none.
const FOLDER_DEFAULT: &str = "default";
/// `DELETING` of every kind: the vendor was about to forget it.
const DELETING: i32 = 3;

/// Answers a call.
pub(super) async fn import(call: Call, query: &str, octets: &[u8], pool: &DescriptorPool) -> Result<Value> {
    let body = Shape::read(query, octets)?;
    let mode = if body.is_dry_run { ImportMode::DryRun } else { ImportMode::Write };
    let mut import = Import { call, pool, otherwise: body.folder, folders: HashMap::new() };
    let (mut items, mut lines) = (Vec::new(), Vec::new());
    for (kind, objects) in body.objects {
        for (position, object) in objects.iter().enumerate() {
            match import.item(kind, object).await? {
                Ok(item) => items.push(item),
                Err(unread) => lines.push(unread.line(kind, position, object)),
            }
        }
    }
    lines.extend(import.call.services.import_objects(&import.call.caller, &items, mode).await);
    Ok(json!({ "lines": lines.iter().map(line).collect::<Vec<_>>() }))
}

fn line(line: &ImportLine) -> Value {
    let mut json = json!({ "kind": line.kind, "id": line.id, "outcome": line.outcome.as_str(), "reason": line.reason });
    if let Some(fingerprint) = &line.fingerprint {
        json["fingerprint"] = fingerprint.as_str().into();
    }
    json
}

/// A body of the right shape.
struct Shape {
    folder: String,
    is_dry_run: bool,
    objects: Vec<(OwnerKind, Vec<Map<String, Value>>)>,
}

impl Shape {
    fn read(query: &str, octets: &[u8]) -> Result<Self, Refusal> {
        let mut violations = Vec::new();
        let mut wrong = |field: &str, rule, what: &str| {
            violations.push(Violation::new(field, rule, format!("{field} {what}")));
        };
        if !query.is_empty() {
            wrong("query", "unknown", &format!("must be empty, and is \"{query}\""));
        }
        let mut body = match serde_json::from_slice(octets) {
            Ok(Value::Object(body)) => body,
            Ok(_) => {
                wrong("body", "type", "must be a JSON object");
                Map::new()
            }
            Err(error) => {
                wrong("body", "json", &format!("is not JSON: {error}"));
                Map::new()
            }
        };
        let folder = match take(&mut body, "folder_id", "folderId") {
            None | Some(Value::Null) => FOLDER_DEFAULT.to_owned(),
            Some(Value::String(folder)) => folder,
            Some(_) => {
                wrong("folder_id", "type", "must be a string");
                String::new()
            }
        };
        let is_dry_run = match take(&mut body, "dry_run", "dryRun") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(is_dry_run)) => is_dry_run,
            Some(_) => {
                wrong("dry_run", "type", "must be true or false");
                false
            }
        };
        let kinds =
            [("registries", OwnerKind::Registry), ("devices", OwnerKind::Device), ("brokers", OwnerKind::Broker)];
        let objects: Vec<(OwnerKind, Vec<Map<String, Value>>)> = kinds
            .into_iter()
            .map(|(name, kind)| {
                let list = match body.remove(name) {
                    None | Some(Value::Null) => Vec::new(),
                    Some(Value::Array(list)) => list,
                    Some(_) => {
                        wrong(name, "type", "must be a list of objects");
                        Vec::new()
                    }
                };
                let objects = list.into_iter().enumerate().filter_map(|(position, item)| match item {
                    Value::Object(object) => Some(object),
                    _ => {
                        wrong(&format!("{name}[{position}]"), "type", "must be an object");
                        None
                    }
                });
                (kind, objects.take(OBJECTS_MAX + 1).collect())
            })
            .collect();
        if objects.iter().map(|(_, objects)| objects.len()).sum::<usize>() > OBJECTS_MAX {
            wrong("body", "size", &format!("must have at most {OBJECTS_MAX} objects; send the others apart"));
        }
        if violations.is_empty() {
            return Ok(Self { folder, is_dry_run, objects });
        }
        violations.truncate(100);
        Err(Refusal::violations(Reason::Malformed, violations))
    }
}

/// A member under either of its names.
fn take(object: &mut Map<String, Value>, proto: &str, json: &str) -> Option<Value> {
    object.remove(proto).or_else(|| object.remove(json))
}

/// Why an object did not even get to the import.
enum Unread {
    /// It is not what an export holds.
    Malformed(Refusal),
    /// The vendor was about to forget it.
    Deleting,
}

impl Unread {
    fn line(self, kind: OwnerKind, position: usize, object: &Map<String, Value>) -> ImportLine {
        let id = object.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let (outcome, reason) = match self {
            Self::Malformed(refusal) => (ImportOutcome::Failed, refusal.message),
            Self::Deleting => (ImportOutcome::Notice, "it was being deleted when it was exported: left out".to_owned()),
        };
        let id = id.map_or_else(|| format!("[{position}]"), |id| id.chars().take(50).collect());
        ImportLine { kind: kind.as_str(), id, fingerprint: None, outcome, reason }
    }
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Self {
        Self::Malformed(refusal)
    }
}

struct Import<'a> {
    call: Call,
    pool: &'a DescriptorPool,
    /// Where registries and brokers go whose folder no project stands for.
    otherwise: String,
    /// The folders that were looked up, by the name in the export.
    folders: HashMap<String, Folder>,
}

impl Import<'_> {
    async fn item(&mut self, kind: OwnerKind, given: &Map<String, Value>) -> Result<Result<ImportedItem, Unread>> {
        let certificates = match certificates(given) {
            Ok(certificates) => certificates,
            Err(unread) => return Ok(Err(unread.into())),
        };
        let (object, remark) = match kind {
            OwnerKind::Registry => match self.read::<devices_v1::Registry>(given) {
                Ok(registry) => {
                    let (folder, remark) = self.folder(&registry.folder_id).await?;
                    (self.registry(registry, folder).map(ImportedObject::Registry), remark)
                }
                Err(refusal) => (Err(refusal.into()), String::new()),
            },
            OwnerKind::Device => {
                let (folder, _) = self.folder("").await?;
                let device = self.read::<devices_v1::Device>(given).map_err(Unread::from);
                (device.and_then(|device| self.device(device, folder)).map(ImportedObject::Device), String::new())
            }
            OwnerKind::Broker => match self.read::<broker_v1::Broker>(given) {
                Ok(broker) => {
                    let (folder, remark) = self.folder(&broker.folder_id).await?;
                    (self.broker(broker, folder).map(ImportedObject::Broker), remark)
                }
                Err(refusal) => (Err(refusal.into()), String::new()),
            },
        };
        Ok(object.map(|object| ImportedItem { object, certificates, remark }))
    }

    /// An object of the export as the message that it is.
    fn read<M: Message + Name + Default>(&self, given: &Map<String, Value>) -> Result<M, Refusal> {
        let malformed =
            |what: String| Refusal::violations(Reason::Malformed, vec![Violation::new("body", "json", what)]);
        let descriptor = self.pool.get_message_by_name(&M::full_name());
        let descriptor = descriptor.ok_or_else(|| malformed(format!("proto/ lacks {}", M::full_name())))?;
        let mut reader = Reader::new(descriptor, &[]);
        reader.body(&serde_json::to_vec(given).map_err(|error| malformed(error.to_string()))?);
        reader.finish()?.transcode_to().map_err(|error| malformed(error.to_string()))
    }

    /// The folder that an object goes to, and what is to be said of it.
    async fn folder(&mut self, named: &str) -> Result<(Folder, String)> {
        let folder = match self.folders.get(named) {
            Some(folder) => folder.clone(),
            None => {
                let found = self.call.services.import_folder(&self.call.caller, named, &self.otherwise).await?;
                // What is named in a body of bounded length is bounded in number, too.
                self.folders.insert(named.to_owned(), found.clone());
                found
            }
        };
        let remark = match named.is_empty() || folder.id == named {
            true => String::new(),
            false => format!("folder {named} is no project here, so it is in folder {}", folder.id),
        };
        Ok((folder, remark))
    }

    fn registry(&self, given: devices_v1::Registry, folder: Folder) -> Result<Registry, Unread> {
        let mut checks = Checks::new();
        check(&mut checks, &given.id, &given.name, &given.description, &given.labels);
        checks.log_id("log_group_id", &given.log_group_id);
        let log_options = log_options(&mut checks, given.log_options);
        finish(checks, given.status)?;
        Ok(Registry {
            id: given.id.as_str().into(),
            folder,
            name: given.name,
            description: given.description,
            labels: given.labels,
            log_options,
            log_group_id: given.log_group_id,
            is_disabled: given.status == i32::from(devices_v1::registry::Status::Disabled),
            version: 1,
            created_at: time(given.created_at).unwrap_or_else(|| self.call.services.now()),
        })
    }

    /// Where its registry is known, that one's project and folder take the place of these.
    fn device(&self, given: devices_v1::Device, folder: Folder) -> Result<Device, Unread> {
        let mut checks = Checks::new();
        check(&mut checks, &given.id, &given.name, &given.description, &given.labels);
        checks.id("registry_id", &given.registry_id);
        finish(checks, given.status)?;
        Ok(Device {
            id: given.id.as_str().into(),
            registry: given.registry_id.as_str().into(),
            project: folder.project,
            folder_key: folder.key,
            name: given.name,
            description: given.description,
            labels: given.labels,
            topic_aliases: given.topic_aliases,
            version: 1,
            created_at: time(given.created_at).unwrap_or_else(|| self.call.services.now()),
        })
    }

    fn broker(&self, given: broker_v1::Broker, folder: Folder) -> Result<Broker, Unread> {
        let mut checks = Checks::new();
        check(&mut checks, &given.id, &given.name, &given.description, &given.labels);
        let log_options = broker_log_options(&mut checks, given.log_options);
        finish(checks, given.status)?;
        Ok(Broker {
            id: given.id.as_str().into(),
            folder,
            name: given.name,
            description: given.description,
            labels: given.labels,
            log_options,
            version: 1,
            created_at: time(given.created_at).unwrap_or_else(|| self.call.services.now()),
        })
    }
}

fn check(checks: &mut Checks, id: &str, name: &str, description: &str, labels: &BTreeMap<String, String>) {
    checks.id("id", id);
    checks.name("name", name);
    checks.description("description", description);
    checks.labels("labels", labels);
}

fn finish(checks: Checks, status: i32) -> Result<(), Unread> {
    checks.finish().map_err(|error| match error {
        domain::Error::Refused(refusal) => Unread::Malformed(*refusal),
        domain::Error::Failed(_) => Unread::Malformed(Refusal::new(Reason::Malformed, "it cannot be read")),
    })?;
    if status == DELETING { Err(Unread::Deleting) } else { Ok(()) }
}

fn time(given: Option<Timestamp>) -> Option<Time> {
    let given = given?;
    Some(Time::from_seconds(given.seconds).plus_millis(i64::from(given.nanos / 1_000_000)))
}

/// The certificates of an object. `state` is ours: the vendor knows only those that give access.
fn certificates(given: &Map<String, Value>) -> Result<Vec<ImportedCertificate>, Refusal> {
    let wrong = |position: usize, what: &str| {
        let field = format!("certificates[{position}]");
        let message = format!("{field} {what}");
        Refusal::violations(Reason::Malformed, vec![Violation::new(field, "certificate", message)])
    };
    let list = match given.get("certificates") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(Refusal::new(Reason::Malformed, "certificates must be a list of objects")),
    };
    let read = |(position, item): (usize, &Value)| {
        let object = item.as_object().ok_or_else(|| wrong(position, "must be an object"))?;
        let text = |proto: &str, json: &str| match object.get(proto).or_else(|| object.get(json)) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(wrong(position, &format!("must have a string as {proto}"))),
        };
        let data = text("certificate_data", "certificateData")?;
        let fingerprint = text("fingerprint", "fingerprint")?.unwrap_or_default();
        if fingerprint.chars().count() > FINGERPRINT_CHARACTERS_MAX || fingerprint.contains('\0') {
            return Err(wrong(position, "has a fingerprint that is none"));
        }
        let created_at = text("created_at", "createdAt")?.map(|text| {
            let moment = text.parse::<jiff::Timestamp>();
            moment.map(|moment| Time::from_millis(moment.as_millisecond()))
        });
        let state = match text("state", "state")? {
            None => Some(CertificateState::Active),
            Some(word) => CertificateState::parse(word),
        };
        Ok(ImportedCertificate {
            data: data.ok_or_else(|| wrong(position, "must have certificate_data"))?.to_owned(),
            fingerprint: fingerprint.to_owned(),
            created_at: created_at.transpose().map_err(|_| wrong(position, "must have a time as created_at"))?,
            state: state.ok_or_else(|| wrong(position, "has an unknown state"))?,
        })
    };
    list.iter().enumerate().map(read).collect()
}
