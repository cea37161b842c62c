//! The folder that the vendor's export lies in (device registry contract §9): which file is where, and reading one.
//!
//! `broker-certs-<broker id>.json` is ours: the vendor's guide does not export the certificates of brokers.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::cli::{failure::Failure, files};

/// An object of an export.
pub(super) type Object = Map<String, Value>;

/// No file of an export is longer: a hundred thousand devices need some 50 MiB.
const FILE_OCTETS_MAX: u64 = 512 * 1024 * 1024;

/// The folder of an export.
pub(super) struct Layout(pub(super) PathBuf);

/// What the name of a file in it says that it holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Something of the registry of this id.
    OfRegistry(&'a str),
    /// Something of the broker of this id.
    OfBroker(&'a str),
}

impl Layout {
    pub(super) fn registries(&self) -> PathBuf {
        self.0.join("registries.json")
    }

    pub(super) fn brokers(&self) -> PathBuf {
        self.0.join("brokers.json")
    }

    pub(super) fn devices(&self, registry: &str) -> PathBuf {
        self.0.join(format!("devices-{registry}.json"))
    }

    pub(super) fn aliases(&self, registry: &str) -> PathBuf {
        self.0.join(format!("aliases-{registry}.json"))
    }

    pub(super) fn registry_certificates(&self, registry: &str) -> PathBuf {
        self.0.join(format!("registry-certs-{registry}.json"))
    }

    pub(super) fn broker_certificates(&self, broker: &str) -> PathBuf {
        self.0.join(format!("broker-certs-{broker}.json"))
    }

    pub(super) fn device_certificates(&self, registry: &str) -> PathBuf {
        self.0.join(format!("device-certs-{registry}"))
    }

    pub(super) fn certificates_of_device(&self, registry: &str, device: &str) -> PathBuf {
        self.device_certificates(registry).join(format!("{device}.json"))
    }
}

impl<'a> Part<'a> {
    /// What a file of this name is part of; nothing for a file that is none of an export.
    pub(super) fn of(name: &'a str) -> Option<Self> {
        if let Some(id) = name.strip_prefix("device-certs-") {
            return Some(Self::OfRegistry(id));
        }
        let stem = name.strip_suffix(".json")?;
        let of_registry = ["devices-", "registry-certs-", "aliases-"].iter().find_map(|start| stem.strip_prefix(start));
        match of_registry {
            Some(id) => Some(Self::OfRegistry(id)),
            None => stem.strip_prefix("broker-certs-").map(Self::OfBroker),
        }
    }
}

/// Whether an id can be part of a file's name without leaving the folder.
pub(super) fn is_id(id: &str) -> bool {
    (1..=50).contains(&id.len()) && id.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet))
}

/// The objects in a file; nothing when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<Object>>, Failure> {
    if let Err(error) = path.symlink_metadata()
        && error.kind() == io::ErrorKind::NotFound
    {
        return Ok(None);
    }
    let octets = files::read_octets(path, FILE_OCTETS_MAX)?;
    let place = path.display();
    let value: Value = serde_json::from_slice(&octets).map_err(|error| {
        Failure::new(format!("{place} is not JSON: {error}")).hint("export it again, or repair it; nothing was sent")
    })?;
    let items = match value {
        Value::Array(items) => items,
        // What some tools write of an empty list.
        Value::Null => Vec::new(),
        _ => return Err(Failure::new(format!("{place} is not a list of objects"))),
    };
    let objects = items.into_iter().enumerate().map(|(position, item)| match item {
        Value::Object(object) => Ok(object),
        _ => Err(Failure::new(format!("{place}: element {position} of the list is not an object"))),
    });
    objects.collect::<Result<_, _>>().map(Some)
}

/// The names in a folder, in their order; none when there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", folder.display()))),
    };
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// A text of an object, by its name in `proto/` or in JSON's spelling.
pub(super) fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    member(object, name).and_then(Value::as_str)
}

/// A member of an object, by its name in `proto/` or in JSON's spelling.
pub(super) fn member<'a>(object: &'a Object, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| object.get(&camel_case(name)))
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let capital: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        name + &capital + letters.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        for (name, part) in [
            ("devices-are1.json", Some(Part::OfRegistry("are1"))),
            ("registry-certs-are1.json", Some(Part::OfRegistry("are1"))),
            ("aliases-are1.json", Some(Part::OfRegistry("are1"))),
            ("device-certs-are1", Some(Part::OfRegistry("are1"))),
            ("broker-certs-are1.json", Some(Part::OfBroker("are1"))),
            ("registries.json", None),
            ("brokers.json", None),
            ("devices-are1.json.bak", None),
            ("notes.txt", None),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
        for (id, is_good) in [("are-_9Z", true), ("", false), ("..", false), ("a/b", false), (&"a".repeat(51), false)] {
            assert_eq!(is_id(id), is_good, "{id}");
        }
    }

    #[test]
    fn a_broken_file_is_named_with_the_place_that_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registries.json");
        assert!(read(&path).unwrap().is_none());
        for (contents, expected) in [
            ("[{\n\"id\": }]", "registries.json is not JSON: expected value at line 2 column 7"),
            ("", "registries.json is not JSON"),
            ("{}", "registries.json is not a list of objects"),
            ("[{}, 1]", "registries.json: element 1 of the list is not an object"),
        ] {
            fs::write(&path, contents).unwrap();
            let failure = read(&path).unwrap_err().to_string();
            assert!(failure.contains(expected), "{failure}");
        }
        fs::write(&path, r#"[{"created_at": "a", "topicAliases": "b"}]"#).unwrap();
        let object = read(&path).unwrap().unwrap().remove(0);
        assert_eq!((text(&object, "created_at"), text(&object, "topic_aliases")), (Some("a"), Some("b")));
    }
}
