//! What is written into SSL profiles: the bodies of changes, made from what stands there.

use serde_json::{Map, Value, json};

/// The pair that the appliance itself puts into a profile that names none.
const DEFAULT_CERTIFICATE: &str = "/Common/default.crt";
const DEFAULT_KEY: &str = "/Common/default.key";

/// A kind of profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProfileKind {
    /// For the side of the clients; holds several certificates.
    Client,
    /// For the side of the servers; holds one.
    Server,
}

/// The full paths of what a profile is to use.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// The certificate, and the key of the same name.
    pub(super) path: String,
    /// The chain.
    pub(super) chain: Option<String>,
}

impl ProfileKind {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The kind of that name; none for `none`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in paths.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client-ssl",
            Self::Server => "server-ssl",
        }
    }

    /// What a profile inherits from when nothing is said.
    pub(super) const fn parent(self) -> &'static str {
        match self {
            Self::Client => "/Common/clientssl",
            Self::Server => "/Common/serverssl",
        }
    }

    /// The change that makes a profile use these; none when it does.
    pub(super) fn bound(self, profile: &Value, pairs: &[Pair]) -> Option<Value> {
        match self {
            Self::Client => {
                let mut entries = entries_of(profile);
                for pair in pairs {
                    bind_entry(&mut entries, pair);
                }
                (entries != entries_of(profile)).then(|| json!({"certKeyChain": entries}))
            }
            Self::Server => {
                let pair = pairs.last()?;
                let wanted = fields_of(pair);
                let is_bound = wanted.iter().all(|(field, value)| field_of(profile, field) == *value);
                (!is_bound).then(|| wanted.into())
            }
        }
    }

    /// The change that makes a profile use neither this pair nor its chain; none when it does not.
    pub(super) fn unbound(self, profile: &Value, pair: &Pair) -> Option<Value> {
        let chain = pair.chain.as_deref();
        match self {
            Self::Client => {
                let before = entries_of(profile);
                let mut entries = before.clone();
                entries.retain(|entry| field_of(entry, "cert") != pair.path && field_of(entry, "key") != pair.path);
                clear_chain(&mut entries, chain);
                if entries.is_empty() {
                    let entry = json!({"name": "default", "cert": DEFAULT_CERTIFICATE, "key": DEFAULT_KEY});
                    entries.extend(entry.as_object().cloned().map(Value::Object));
                }
                (entries != before && !before.is_empty()).then(|| json!({"certKeyChain": entries}))
            }
            Self::Server if field_of(profile, "cert") == pair.path || field_of(profile, "key") == pair.path => {
                Some(json!({"cert": "none", "key": "none", "chain": "none"}))
            }
            Self::Server => {
                (chain.is_some_and(|chain| field_of(profile, "chain") == chain)).then(|| json!({"chain": "none"}))
            }
        }
    }

    /// The change that makes a profile use that chain no more; none when it does not.
    pub(super) fn without_chain(self, profile: &Value, chain: &str) -> Option<Value> {
        match self {
            Self::Client => {
                let mut entries = entries_of(profile);
                clear_chain(&mut entries, Some(chain));
                (entries != entries_of(profile)).then(|| json!({"certKeyChain": entries}))
            }
            Self::Server => (field_of(profile, "chain") == chain).then(|| json!({"chain": "none"})),
        }
    }
}

/// Puts a pair in the place of its own entry, or of the appliance's default, or behind the others. An entry keeps what it
/// says beside the pair, such as its server name and its OCSP stapling.
fn bind_entry(entries: &mut Vec<Value>, pair: &Pair) {
    let name = pair.path.rsplit('/').next().unwrap_or_default();
    let at = entries
        .iter()
        .position(|entry| field_of(entry, "cert") == pair.path || field_of(entry, "name") == name)
        .or_else(|| entries.iter().position(|entry| field_of(entry, "cert") == DEFAULT_CERTIFICATE));
    let mut entry = match at {
        Some(at) => entries[at].as_object().cloned().unwrap_or_default(),
        None => Map::new(),
    };
    // It was that of another key.
    entry.remove("passphrase");
    entry.insert("name".into(), name.into());
    entry.extend(fields_of(pair));
    match at {
        Some(at) => entries[at] = entry.into(),
        None => entries.push(entry.into()),
    }
}

fn clear_chain(entries: &mut [Value], chain: Option<&str>) {
    for entry in entries {
        if chain.is_some_and(|chain| field_of(entry, "chain") == chain) {
            entry["chain"] = "none".into();
        }
    }
}

fn fields_of(pair: &Pair) -> Map<String, Value> {
    let chain = pair.chain.as_deref().unwrap_or("none");
    let fields = [("cert", pair.path.as_str()), ("key", pair.path.as_str()), ("chain", chain)];
    fields.into_iter().map(|(field, value)| (field.to_owned(), value.into())).collect()
}

fn field_of<'a>(place: &'a Value, field: &str) -> &'a str {
    place[field].as_str().unwrap_or("none")
}

/// The entries of a client profile, without the links that the appliance adds to what it shows.
fn entries_of(profile: &Value) -> Vec<Value> {
    let mut entries = profile["certKeyChain"].as_array().cloned().unwrap_or_default();
    for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
        entry.retain(|field, _| !field.ends_with("Reference"));
    }
    entries
}
