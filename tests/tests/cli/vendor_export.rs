//! An export of Yandex IoT Core as its own tools write it (device registry contract §9), with real keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testkit::chains::{Draft, TestKey, common_name, written};

/// How many devices there are: 600 in the first registry, the others in the second one, which is disabled.
pub const DEVICES: usize = 1000;
const DAY: i64 = 24 * 3600;

/// What was written.
#[derive(Default)]
pub struct VendorExport {
    /// The contents of each file.
    pub files: BTreeMap<String, Value>,
    /// Who has no certificate.
    pub without_certificate: Vec<String>,
    /// Who has one that another has, too.
    pub sharing: Vec<String>,
    /// SHA-256 of certificates that have expired.
    pub expired: Vec<String>,
    /// SHA-256 of certificates that expire within 30 days.
    pub expiring: Vec<String>,
    /// How many certificates belong to one owner.
    pub certificates: usize,
}

pub fn registry_id(number: usize) -> String {
    format!("are{number:017}")
}

pub fn device_id(number: usize) -> String {
    format!("are9{number:016}")
}

pub fn broker_id() -> String {
    format!("are8{:016}", 0)
}

/// A certificate in PEM that ends so many days from now, and its SHA-256 and SHA-1.
pub fn certificate(name: &str, ends_in_days: i64) -> (String, String, String) {
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let (key, name) = (TestKey::generate(), common_name(name));
    let mut draft = Draft::end_entity(&name, key.spki(), &name, now);
    draft.not_before = written(|writer| writer.time(now - 400 * DAY));
    draft.not_after = written(|writer| writer.time(now + ends_in_days * DAY));
    draft.set_key_ids(&key.key_id(), &key.key_id());
    let der = draft.sign(&key);
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let (sha256, sha1) = (hex(&x509::digest::sha256(&der)), hex(&x509::digest::sha1(&der)));
    (x509::pem::encode(x509::pem::CERTIFICATE, &der), sha256, sha1)
}

impl VendorExport {
    /// Makes one.
    pub fn make() -> Self {
        let mut export = Self::default();
        let (mut registries, mut shared) = (Vec::new(), None);
        for (number, first, end) in [(0, 0, 600), (1, 600, DEVICES)] {
            let id = registry_id(number);
            let mut registry = json!({
                "id": id, "folder_id": "b1gfolderofthevendor", "created_at": "2024-03-01T10:20:30.125Z",
                "name": format!("plant-{number}"), "labels": { "site": "north", "line": number.to_string() },
                "status": "ACTIVE", "log_options": { "folder_id": "b1gfolderofthevendor", "min_level": "WARN" },
            });
            if number == 1 {
                registry["status"] = "DISABLED".into();
                registry["description"] = "The second plant".into();
                registry["log_options"] = json!({ "disabled": true });
                registry["log_group_id"] = "e23oldgroup".into();
            }
            registries.push(registry);
            let certificate = export.registered("registry_id", &id, &format!("registry {number}"), 300);
            export.files.insert(format!("registry-certs-{id}.json"), json!([certificate]));
            let (mut devices, mut aliases) = (Vec::new(), Vec::new());
            for number in first..end {
                devices.push(export.device(&id, number, &mut aliases, &mut shared));
            }
            export.files.insert(format!("devices-{id}.json"), devices.into());
            export.files.insert(format!("aliases-{id}.json"), aliases.into());
        }
        export.files.insert("registries.json".into(), registries.into());
        let broker = json!({
            "id": broker_id(), "folder_id": "default", "created_at": "2025-01-01T00:00:00Z", "name": "shop",
            "status": "ACTIVE", "labels": { "a": "b" },
        });
        export.files.insert("brokers.json".into(), json!([broker]));
        let certificate = export.registered("broker_id", &broker_id(), "broker", 300);
        export.files.insert(format!("broker-certs-{}.json", broker_id()), json!([certificate]));
        export
    }

    fn device(&mut self, registry: &str, number: usize, aliases: &mut Vec<Value>, shared: &mut Option<Value>) -> Value {
        let id = device_id(number);
        let mut device = json!({
            "id": id, "registry_id": registry, "name": format!("pump-{number}"), "status": "ACTIVE",
            "created_at": format!("2024-05-06T07:{:02}:{:02}Z", number / 60, number % 60),
        });
        if number.is_multiple_of(3) {
            device["labels"] = json!({ "row": (number % 7).to_string() });
            device["description"] = format!("Насос {number}").into();
        }
        let own: Vec<(String, String)> = (0..number % 3)
            .map(|alias| (format!("pumps/{number}/{alias}/"), format!("$devices/{id}/")))
            .chain((number == 5).then(|| ("five".to_owned(), format!("$devices/{id}/events"))))
            .collect();
        for (alias, topic) in &own {
            aliases.push(json!({ "device_id": id, "alias": alias, "topic_prefix": topic }));
        }
        if !own.is_empty() {
            device["topic_aliases"] = own.into_iter().map(|(alias, topic)| (alias, Value::from(topic))).collect();
        }
        let mut certificates = Vec::new();
        match number % 20 {
            0 => self.without_certificate.push(id.clone()),
            7 => {
                // Two devices that follow each other in this place have the same one.
                let certificate = shared.take().unwrap_or_else(|| self.registered("device_id", "", &id, 200));
                let mut own = certificate.clone();
                own["device_id"] = id.as_str().into();
                *shared = (number % 40 == 7).then_some(certificate);
                self.sharing.push(id.clone());
                certificates.push(own);
            }
            _ => {
                let days = match number % 50 {
                    1 => -3,
                    2 => 10,
                    _ => 300,
                };
                certificates.push(self.registered("device_id", &id, &id, days));
                if number % 50 == 4 {
                    certificates.push(self.registered("device_id", &id, &id, 250));
                }
            }
        }
        // Newest first, as the vendor lists them.
        for (age, certificate) in certificates.iter_mut().enumerate() {
            certificate["created_at"] = format!("2024-06-0{}T00:00:00.250Z", 9 - age).into();
        }
        let certificates: Value = certificates.into();
        self.files.insert(format!("device-certs-{registry}/{id}.json"), certificates);
        device
    }

    fn registered(&mut self, owner: &str, id: &str, name: &str, ends_in_days: i64) -> Value {
        let (mut data, sha256, sha1) = certificate(name, ends_in_days);
        // As people hand it in.
        match self.certificates % 4 {
            1 => data = data.replace('\n', "\r\n"),
            2 => data = data.trim_end().to_owned(),
            3 => data = format!("subject=CN = localhost\n{data}"),
            _ => {}
        }
        self.certificates += 1;
        match ends_in_days {
            ..0 => self.expired.push(sha256),
            0..30 => self.expiring.push(sha256),
            30.. => {}
        }
        json!({ owner: id, "fingerprint": sha1, "certificate_data": data, "created_at": "2024-06-01T00:00:00Z" })
    }

    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) {
        for (name, contents) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents.to_string()).unwrap();
        }
    }
}

/// What is in a folder.
pub fn read(folder: &Path) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{below}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(format!("{name}/"));
            } else {
                files.insert(name, serde_json::from_slice(&fs::read(entry.path()).unwrap()).unwrap());
            }
        }
    }
    files
}
