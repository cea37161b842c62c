//! `chancery iot import`: takes over what was exported from Yandex IoT Core (device registry contract §9).
//!
//! The whole folder is read and looked at before anything is sent: what belongs together is put together, and what
//! contradicts itself is reported and left out. The server keeps what it has, so an import can be repeated.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::IsTerminal,
    path::PathBuf,
};

use serde_json::{Value, json};
use x509::{Certificate, pem};

use super::{
    Api,
    layout::{self, Layout, Object, Part, member, text},
};
use crate::cli::{
    failure::Failure,
    output::{Column, Output, list_at, string_at, table},
};

const COLUMNS: &[Column] = &[
    ("KIND", "/kind"),
    ("ID", "/id"),
    ("FINGERPRINT", "/fingerprint"),
    ("OUTCOME", "/outcome"),
    ("REASON", "/reason"),
];
/// How many objects are sent at once: the server takes 500.
const OBJECTS_AT_ONCE: usize = 200;
/// How many octets of objects are sent at once: the server takes 8 MiB.
const OCTETS_AT_ONCE: usize = 4 * 1024 * 1024;
/// What may have become of something, in the order in which it is reported: what needs somebody comes last.
const OUTCOMES: [&str; 4] = ["created", "kept", "notice", "failed"];

/// Take over registries, devices and brokers that were exported from Yandex IoT Core, or by chancery iot export.
///
/// Ids, creation times, certificates and topic aliases are kept. Passwords cannot be taken over: the report names who needs
/// a new one. What is there already stays as it is, so an import can be repeated. A registry whose folder is no project
/// goes to --folder.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery iot import yandex-export --dry-run
  chancery iot import yandex-export --folder default")]
pub(crate) struct ImportArguments {
    /// The folder with registries.json and the other files.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

/// An export, read and put together.
#[derive(Default)]
struct Contents {
    registries: Vec<Object>,
    devices: Vec<Object>,
    brokers: Vec<Object>,
    /// What is to be reported of it whatever the server says.
    lines: Vec<Value>,
    /// The ids of those who lost a certificate that they shared: they are not without one because they used a password.
    sharing: HashSet<String>,
}

pub(super) async fn run(api: &Api<'_>, arguments: ImportArguments) -> Result<Output, Failure> {
    let Contents { registries, devices, brokers, mut lines, sharing } = read(&Layout(arguments.directory))?;
    let count = registries.len() + devices.len() + brokers.len();
    let mut sent = 0;
    for (list, objects) in [("registries", registries), ("devices", devices), ("brokers", brokers)] {
        for part in parts(objects) {
            let body = json!({ "folderId": api.folder, "dryRun": arguments.dry_run, list: part });
            let answer = api.post(&["iot-devices", "v1", "imports"], &body).await.map_err(|failure| match sent {
                0 => failure,
                sent => failure.detail(format!("{sent} of {count} were taken over before; the import can be repeated")),
            })?;
            sent += body[list].as_array().map_or(0, Vec::len);
            lines.extend(list_at(&answer, "/lines"));
            show_progress(sent, count);
        }
    }
    lines.retain(|line| {
        let is_of_sharer = string_at(line, "/id").is_some_and(|id| sharing.contains(id));
        string_at(line, "/kind") != Some("password") || !is_of_sharer
    });
    Ok(report(lines, arguments.dry_run))
}

fn report(mut lines: Vec<Value>, is_dry_run: bool) -> Output {
    let outcome = |line: &Value| string_at(line, "/outcome").unwrap_or_default().to_owned();
    lines.sort_by_key(|line| OUTCOMES.iter().position(|known| *known == outcome(line)));
    let counts = OUTCOMES.map(|known| (known, lines.iter().filter(|line| outcome(line) == known).count()));
    let [(_, created), (_, kept), (_, notices), (_, failures)] = counts;
    let mut text = table(COLUMNS, &lines, "There is nothing to take over.");
    text.push_str(&format!("\n\n{created} created, {kept} kept as they were, {notices} to look at, {failures} failed"));
    if is_dry_run {
        text.push_str("\nNothing was changed: this is what an import would do.");
    }
    let summary: BTreeMap<&str, usize> = counts.into_iter().collect();
    let output = Output::new(json!({ "dryRun": is_dry_run, "summary": summary, "lines": lines }), text);
    if failures == 0 { output } else { output.of_failure() }
}

/// The objects in parts that the server takes.
fn parts(objects: Vec<Object>) -> Vec<Vec<Object>> {
    let (mut parts, mut octets) = (Vec::<Vec<Object>>::new(), 0);
    for object in objects {
        let length = serde_json::to_string(&object).map_or(0, |text| text.len());
        match parts.last_mut() {
            Some(part) if part.len() < OBJECTS_AT_ONCE && octets + length <= OCTETS_AT_ONCE => {
                part.push(object);
                octets += length;
            }
            _ => {
                parts.push(vec![object]);
                octets = length;
            }
        }
    }
    parts
}

/// A person sees how far it is; a script reads the report.
fn show_progress(sent: usize, count: usize) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{sent} of {count}{}", if sent == count { "\n" } else { "" });
    }
}

fn read(layout: &Layout) -> Result<Contents, Failure> {
    if !layout.0.is_dir() {
        return Err(Failure::new(format!("there is no folder {}", layout.0.display()))
            .hint("name the folder that holds registries.json and the other files of the export"));
    }
    let (registries, brokers) = (layout::read(&layout.registries())?, layout::read(&layout.brokers())?);
    if registries.is_none() && brokers.is_none() {
        let place = layout.0.display();
        return Err(Failure::new(format!("{place} holds neither registries.json nor brokers.json"))
            .hint("docs/moving-from-yandex-iot-core.md says how to export"));
    }
    let mut contents = Contents::default();
    for mut registry in registries.unwrap_or_default() {
        let id = id_of(&registry, "registries.json")?;
        add_certificates(&mut registry, layout::read(&layout.registry_certificates(&id))?);
        contents.read_devices(layout, &id)?;
        contents.registries.push(registry);
    }
    for mut broker in brokers.unwrap_or_default() {
        let id = id_of(&broker, "brokers.json")?;
        add_certificates(&mut broker, layout::read(&layout.broker_certificates(&id))?);
        contents.brokers.push(broker);
    }
    contents.find_strangers(layout)?;
    contents.take_shared_certificates();
    Ok(contents)
}

/// An id that may be part of a file's name.
fn id_of(object: &Object, file: &str) -> Result<String, Failure> {
    match text(object, "id") {
        Some(id) if layout::is_id(id) => Ok(id.to_owned()),
        Some(id) => Err(Failure::new(format!("{file}: \"{id}\" is not an id"))),
        None => Err(Failure::new(format!("{file}: an object has no id"))),
    }
}

fn add_certificates(owner: &mut Object, certificates: Option<Vec<Object>>) {
    let certificates = certificates.unwrap_or_default().into_iter().map(Value::Object).collect();
    owner.insert("certificates".to_owned(), Value::Array(certificates));
}

impl Contents {
    fn read_devices(&mut self, layout: &Layout, registry: &str) -> Result<(), Failure> {
        let file = format!("devices-{registry}.json");
        let mut aliases = self.read_aliases(layout, registry)?;
        let mut known = BTreeSet::new();
        for mut device in layout::read(&layout.devices(registry))?.unwrap_or_default() {
            let id = id_of(&device, &file)?;
            known.insert(id.clone());
            let problem = match text(&device, "registry_id") {
                Some(other) if other != registry => Some(format!("{file} says that it is of the registry {other}")),
                _ => with_aliases(&mut device, aliases.remove(&id).unwrap_or_default()),
            };
            if let Some(problem) = problem {
                self.lines.push(failed("device", &id, &problem));
                continue;
            }
            device.insert("registry_id".to_owned(), registry.into());
            add_certificates(&mut device, layout::read(&layout.certificates_of_device(registry, &id))?);
            self.devices.push(device);
        }
        for id in aliases.keys().filter(|id| !known.contains(*id)) {
            self.lines.push(failed(
                "device",
                id,
                &format!("aliases-{registry}.json has an alias of it, {file} has no such device"),
            ));
        }
        for name in layout::names(&layout.device_certificates(registry))? {
            if let Some(id) = name.strip_suffix(".json").filter(|id| !known.contains(*id)) {
                let problem = format!("device-certs-{registry} has certificates of it, {file} has no such device");
                self.lines.push(failed("device", id, &problem));
            }
        }
        Ok(())
    }

    /// The aliases of a registry's devices: alias to topic, by device.
    fn read_aliases(
        &self,
        layout: &Layout,
        registry: &str,
    ) -> Result<BTreeMap<String, Vec<(String, String)>>, Failure> {
        let mut aliases = BTreeMap::<String, Vec<(String, String)>>::new();
        for row in layout::read(&layout.aliases(registry))?.unwrap_or_default() {
            match (text(&row, "device_id"), text(&row, "alias"), text(&row, "topic_prefix")) {
                (Some(device), Some(alias), Some(topic)) => {
                    aliases.entry(device.to_owned()).or_default().push((alias.to_owned(), topic.to_owned()));
                }
                _ => {
                    return Err(Failure::new(format!(
                        "aliases-{registry}.json: an element lacks device_id, alias or topic_prefix"
                    )));
                }
            }
        }
        Ok(aliases)
    }

    /// Files of registries and brokers that the lists do not name are not passed over in silence.
    fn find_strangers(&mut self, layout: &Layout) -> Result<(), Failure> {
        let ids =
            |objects: &[Object]| objects.iter().filter_map(|object| text(object, "id").map(str::to_owned)).collect();
        let (registries, brokers): (HashSet<String>, HashSet<String>) = (ids(&self.registries), ids(&self.brokers));
        for name in layout::names(&layout.0)? {
            let (kind, id, list, is_known) = match Part::of(&name) {
                Some(Part::OfRegistry(id)) => ("registry", id, "registries.json", registries.contains(id)),
                Some(Part::OfBroker(id)) => ("broker", id, "brokers.json", brokers.contains(id)),
                None => continue,
            };
            if !is_known {
                self.lines.push(failed(kind, id, &format!("there is {name}, and {list} has no such {kind}")));
            }
        }
        Ok(())
    }

    /// Takes certificates that several owners have away from all of them (contract §9), and reports it.
    fn take_shared_certificates(&mut self) {
        let mut owners = HashMap::<String, BTreeSet<String>>::new();
        for (kind, object) in self.objects() {
            let owner = format!("{kind} {}", text(object, "id").unwrap_or_default());
            for key in certificates(object).filter_map(key_of) {
                owners.entry(key).or_default().insert(owner.clone());
            }
        }
        owners.retain(|_, owners| owners.len() > 1);
        let (mut lines, mut sharing) = (Vec::new(), HashSet::new());
        for (_, object) in self.objects() {
            let id = text(object, "id").unwrap_or_default().to_owned();
            let Some(Value::Array(certificates)) = object.get_mut("certificates") else { continue };
            certificates.retain(|certificate| {
                let key = certificate.as_object().and_then(key_of);
                let Some((key, owners)) = key.as_ref().and_then(|key| owners.get_key_value(key)) else { return true };
                let owners = owners.iter().map(String::as_str).collect::<Vec<_>>().join(" and ");
                let reason = format!("{owners} share it, so it is given to none of them: give each one of its own");
                lines.push(json!({
                    "kind": "certificate", "id": id, "fingerprint": key, "outcome": "notice", "reason": reason,
                }));
                sharing.insert(id.clone());
                false
            });
        }
        self.lines.extend(lines);
        self.sharing = sharing;
    }

    fn objects(&mut self) -> impl Iterator<Item = (&'static str, &mut Object)> {
        let of = |kind| move |object| (kind, object);
        let registries = self.registries.iter_mut().map(of("registry"));
        registries.chain(self.devices.iter_mut().map(of("device"))).chain(self.brokers.iter_mut().map(of("broker")))
    }
}

/// Adds the aliases of the registry's file to those that the device has already. What is wrong, when they contradict
/// each other.
fn with_aliases(device: &mut Object, aliases: Vec<(String, String)>) -> Option<String> {
    let mut all = match member(device, "topic_aliases") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(own)) => own.clone(),
        Some(_) => return Some("its topic_aliases are not an object".to_owned()),
    };
    for (alias, topic) in aliases {
        match all.get(&alias) {
            Some(other) if other.as_str() != Some(&topic) => {
                return Some(format!(
                    "its alias \"{alias}\" stands for {other} in one file and for \"{topic}\" in another"
                ));
            }
            _ => all.insert(alias, topic.into()),
        };
    }
    device.remove("topicAliases");
    device.insert("topic_aliases".to_owned(), Value::Object(all));
    None
}

fn certificates(owner: &Object) -> impl Iterator<Item = &Object> {
    owner.get("certificates").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

/// By what a certificate is the same: its SHA-256, else its text. What cannot be read is the server's to refuse.
fn key_of(certificate: &Object) -> Option<String> {
    let data = text(certificate, "certificate_data")?;
    let der = pem::decode_all(data, pem::CERTIFICATE).ok().and_then(|mut blocks| blocks.pop());
    let sha256 = Certificate::from_der(der?).ok()?.sha256();
    Some(sha256.iter().map(|octet| format!("{octet:02x}")).collect())
}

fn failed(kind: &str, id: &str, reason: &str) -> Value {
    json!({ "kind": kind, "id": id, "outcome": "failed", "reason": reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents.to_string()).unwrap();
        }
        folder
    }

    fn contents(files: &[(&str, Value)]) -> Contents {
        read(&Layout(folder(files).path().to_owned())).unwrap()
    }

    #[test]
    fn aliases_of_both_files_add_up_and_must_not_contradict_each_other() {
        let files = |topic: &str| {
            [
                ("registries.json", json!([{ "id": "r" }])),
                ("devices-r.json", json!([{ "id": "d", "topic_aliases": { "a": "$devices/d/" } }, { "id": "e" }])),
                (
                    "aliases-r.json",
                    json!([
                        { "device_id": "d", "alias": "a", "topic_prefix": topic },
                        { "device_id": "d", "alias": "b", "topic_prefix": "$devices/d/state" },
                    ]),
                ),
            ]
        };
        let agreeing = contents(&files("$devices/d/"));
        let expected = json!({ "a": "$devices/d/", "b": "$devices/d/state" });
        assert_eq!(agreeing.devices[0]["topic_aliases"], expected);
        assert_eq!((agreeing.devices[1]["registry_id"].clone(), agreeing.lines.len()), (json!("r"), 0));

        let contradicting = contents(&files("$devices/d/state"));
        assert_eq!((contradicting.devices.len(), contradicting.lines.len()), (1, 1));
        assert_eq!(
            (contradicting.lines[0]["id"].clone(), contradicting.lines[0]["outcome"].clone()),
            (json!("d"), json!("failed"))
        );
    }

    #[test]
    fn what_belongs_to_nothing_is_reported() {
        let contents = contents(&[
            ("registries.json", json!([{ "id": "r" }])),
            ("devices-r.json", json!([{ "id": "d", "registry_id": "q" }])),
            ("devices-q.json", json!([])),
            ("broker-certs-b.json", json!([])),
            ("aliases-r.json", json!([{ "device_id": "x", "alias": "a", "topic_prefix": "$devices/x/" }])),
            ("device-certs-r/y.json", json!([])),
            ("notes.txt", json!("")),
        ]);
        let mut ids: Vec<&str> = contents.lines.iter().filter_map(|line| line["id"].as_str()).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["b", "d", "q", "x", "y"]);
        assert!(contents.devices.is_empty());
    }

    #[test]
    fn a_folder_that_is_no_export_is_refused() {
        let check = |files: &[(&str, Value)], expected: &str| {
            let failure = read(&Layout(folder(files).path().to_owned())).err().unwrap().to_string();
            assert!(failure.contains(expected), "{failure}");
        };
        check(&[], "neither registries.json nor brokers.json");
        check(&[("registries.json", json!([{ "name": "n" }]))], "an object has no id");
        check(&[("registries.json", json!([{ "id": "../x" }]))], "is not an id");
        check(&[("registries.json", json!([{ "id": "r" }])), ("aliases-r.json", json!([{}]))], "aliases-r.json");
        let failure = read(&Layout(PathBuf::from("/nowhere"))).err().unwrap().to_string();
        assert!(failure.contains("there is no folder /nowhere"), "{failure}");
    }

    #[test]
    fn objects_are_sent_in_parts_that_the_server_takes() {
        let object = |length: usize| Object::from_iter([("id".to_owned(), Value::from("x".repeat(length)))]);
        let sizes = |objects: Vec<Object>| parts(objects).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![object(1); 450]), [200, 200, 50]);
        assert_eq!(sizes(vec![object(3 * 1024 * 1024); 3]), [1, 1, 1]);
        assert_eq!(sizes(vec![]), Vec::<usize>::new());
    }
}
