//! `chancery iot export`: writes what is in a folder in the layout of the vendor's export (device registry contract §9),
//! so that it can be taken over elsewhere, or here again.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    Api,
    layout::{self, Layout, Object, text},
};
use crate::cli::{
    failure::Failure,
    files,
    output::{Output, list_at, string_at},
};

/// Write the registries, devices and brokers of the folder into an empty directory, as files of JSON.
///
/// These are the files that Yandex IoT Core's own tools export, and broker-certs-ID.json besides. Passwords are known to
/// nobody and are not in them.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  chancery iot export copy --folder default")]
pub(crate) struct ExportArguments {
    /// A directory that is empty, or still to be made.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) async fn run(api: &Api<'_>, arguments: ExportArguments) -> Result<Output, Failure> {
    // Asked first, so that nothing is left behind when the server refuses.
    let mut registries = pages(api, "registries", ("folderId", &api.folder)).await?;
    let mut brokers = pages(api, "brokers", ("folderId", &api.folder)).await?;
    files::empty_folder(&arguments.directory)?;
    let layout = Layout(arguments.directory);
    let (mut device_count, mut certificate_count) = (0, 0);
    for registry in &mut registries {
        let id = file_id(registry)?;
        let certificates = take_certificates(registry);
        certificate_count += certificates.len();
        write(&layout.registry_certificates(&id), &certificates)?;
        let mut devices = pages(api, "devices", ("registryId", &id)).await?;
        device_count += devices.len();
        certificate_count += write_certificates_of_devices(&layout, &id, &mut devices)?;
        write(&layout.aliases(&id), &aliases(&devices))?;
        write(&layout.devices(&id), &devices)?;
    }
    for broker in &mut brokers {
        let id = file_id(broker)?;
        let certificates = take_certificates(broker);
        certificate_count += certificates.len();
        write(&layout.broker_certificates(&id), &certificates)?;
    }
    // The lists come last: without them a directory is no export, so half of one is never taken for a whole one.
    write(&layout.brokers(), &brokers)?;
    write(&layout.registries(), &registries)?;
    files::settle(&layout.0)?;
    let place = layout.0.display().to_string();
    let text = format!(
        "wrote {} registries, {device_count} devices, {} brokers and {certificate_count} certificates to {place}",
        registries.len(),
        brokers.len(),
    );
    let counts = json!({
        "directory": place, "registries": registries.len(), "devices": device_count, "brokers": brokers.len(),
        "certificates": certificate_count,
    });
    Ok(Output::new(counts, text))
}

async fn pages(api: &Api<'_>, kind: &str, of: (&str, &str)) -> Result<Vec<Object>, Failure> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let query = [("kind", kind), of, ("pageToken", &token)];
        let answer = api.get(&["iot-devices", "v1", "exports"], &query).await?;
        for item in list_at(&answer, &format!("/{kind}")) {
            match item {
                Value::Object(object) => all.push(object),
                _ => return Err(Failure::new("the server's answer lists what is no object")),
            }
        }
        token = string_at(&answer, "/nextPageToken").unwrap_or_default().to_owned();
        if token.is_empty() {
            return Ok(all);
        }
    }
}

fn write_certificates_of_devices(layout: &Layout, registry: &str, devices: &mut [Object]) -> Result<usize, Failure> {
    files::private_folder(&layout.device_certificates(registry))?;
    let mut count = 0;
    for device in devices {
        let id = file_id(device)?;
        let certificates = take_certificates(device);
        count += certificates.len();
        write(&layout.certificates_of_device(registry, &id), &certificates)?;
    }
    Ok(count)
}

/// The aliases of all devices as one list, by device and alias.
fn aliases(devices: &[Object]) -> Vec<Object> {
    let mut rows = Vec::new();
    for device in devices {
        let id = text(device, "id").unwrap_or_default();
        let own = device.get("topic_aliases").and_then(Value::as_object);
        for (alias, topic) in own.into_iter().flatten() {
            let row =
                [("device_id", id.into()), ("alias", Value::from(alias.as_str())), ("topic_prefix", topic.clone())];
            rows.push(row.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        }
    }
    rows
}

fn take_certificates(owner: &mut Object) -> Vec<Value> {
    match owner.remove("certificates") {
        Some(Value::Array(certificates)) => certificates,
        _ => Vec::new(),
    }
}

/// An id that does not lead out of the directory.
fn file_id(object: &Object) -> Result<String, Failure> {
    match text(object, "id").filter(|id| layout::is_id(id)) {
        Some(id) => Ok(id.to_owned()),
        None => Err(Failure::new("the server names an object by what is no id")),
    }
}

fn write(path: &Path, list: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(list).map_err(|error| Failure::new(error.to_string()))?;
    files::write_one_of_many(path, format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_a_list_by_device_and_alias() {
        let device = |id: &str, aliases: Value| {
            Object::from_iter([("id".to_owned(), id.into()), ("topic_aliases".to_owned(), aliases)])
        };
        let devices = [device("e", json!({ "b": "$devices/e/", "a": "$devices/e" })), device("d", json!({}))];
        let expected = json!([
            { "device_id": "e", "alias": "a", "topic_prefix": "$devices/e" },
            { "device_id": "e", "alias": "b", "topic_prefix": "$devices/e/" },
        ]);
        assert_eq!(json!(aliases(&devices)), expected);
    }
}
