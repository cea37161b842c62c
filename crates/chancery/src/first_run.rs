//! What the first start hands over: `bootstrap.json` for programs, and a few lines for a person.

use crate::open::write_private;
use serde_json::{Map, Value, json};
use services::bootstrap::Bootstrap;
use std::path::{Path, PathBuf};

/// Where the server can be reached.
#[derive(Clone, Debug)]
pub struct Reachable {
    /// The base URL of the API.
    pub url: String,
    /// The base URL of the TLS listener.
    pub tls_url: Option<String>,
    /// The certificate to trust there, a file in PEM.
    pub tls_ca: Option<PathBuf>,
    /// The host and port of MQTT over TLS.
    pub mqtt: Option<String>,
    /// The URL of MQTT over WebSocket.
    pub mqtt_web_socket: Option<String>,
}

/// What bootstrap.json of an earlier start says; nothing at the first start.
pub fn read_facts(folder: &Path) -> Result<Map<String, Value>, String> {
    let path = folder.join("bootstrap.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| {
            format!("{}: {error}; it may hold the only copy of the admin's secret, so it stays", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Brings bootstrap.json up to date: the facts of this start, and the secret that stands in it, if any.
pub fn write_facts(
    folder: &Path,
    bootstrap: &Bootstrap,
    secret: Option<&str>,
    reachable: &Reachable,
) -> Result<(), String> {
    let mut facts = read_facts(folder)?;
    let kept = secret.map(str::to_owned).or_else(|| facts.get("clientSecret")?.as_str().map(str::to_owned));
    let fresh = json!({
        "url": reachable.url,
        "organizationId": bootstrap.organization_id,
        "projectId": bootstrap.project_id,
        "projectSlug": bootstrap.project_slug,
        "identityId": bootstrap.identity_id,
        "clientId": bootstrap.client_id,
        "rootCaId": bootstrap.root_ca_id,
        "issuingCaId": bootstrap.issuing_ca_id,
        "profiles": bootstrap.profiles,
    });
    if let Value::Object(fresh) = fresh {
        facts.extend(fresh);
    }
    let tls_ca: Option<Value> = reachable.tls_ca.as_ref().map(|path| path.display().to_string().into());
    let optional = [
        ("clientSecret", kept.map(Value::from)),
        ("tlsUrl", reachable.tls_url.clone().map(Value::from)),
        ("tlsCa", tls_ca.clone().filter(|_| reachable.tls_url.is_some())),
        ("mqtt", reachable.mqtt.clone().map(Value::from)),
        ("mqttWebSocket", reachable.mqtt_web_socket.clone().map(Value::from)),
        ("mqttCa", tls_ca.filter(|_| reachable.mqtt.is_some() || reachable.mqtt_web_socket.is_some())),
    ];
    for (name, value) in optional {
        match value {
            Some(value) => facts.insert(name.into(), value),
            None => facts.remove(name),
        };
    }
    let text = serde_json::to_string_pretty(&facts).map_err(|error| error.to_string())?;
    write_private(&folder.join("bootstrap.json"), &format!("{text}\n"))
}

/// What a person needs after the first start. The secret is printed here and never again.
pub fn welcome(bootstrap: &Bootstrap, secret: &str, reachable: &Reachable, folder: &Path) -> String {
    let url = &reachable.url;
    let profile = bootstrap.profiles.get("web-server").map(ToString::to_string).unwrap_or_default();
    let facts = folder.join("bootstrap.json");
    let program = program();
    let data = match folder == Path::new("data") {
        true => String::new(),
        false => format!(" --data {}", quoted(&folder.display().to_string())),
    };
    format!(
        r#"
Chancery is ready at {url}

  A root CA, an issuing CA and the profiles web-server, client and device are in place.
  The admin identity (this secret is shown once; it also stands in {facts}):

    client id      {client_id}
    client secret  {secret}

  Issue a first certificate with curl:

    TOKEN=$(curl -s {url}/api/v1/auth/universal-auth/login -H 'content-type: application/json' -d '{{"clientId":"{client_id}","clientSecret":"{secret}"}}' | sed 's/.*"accessToken":"\([^"]*\)".*/\1/') && curl -s {url}/api/v3/pki/certificates/issue-certificate -H "Authorization: Bearer $TOKEN" -H 'content-type: application/json' -d '{{"profileId":"{profile}","commonName":"www.example.com","ttl":"30d","keyUsages":["digital_signature"],"extendedKeyUsages":["server_auth"],"signatureAlgorithm":"ECDSA-SHA256","keyAlgorithm":"EC_prime256v1"}}'

  or with the command line:

    {program} cert issue --profile web-server --common-name www.example.com --ttl 30d{data}

  API documentation: {url}/api/docs
"#,
        facts = facts.display(),
        client_id = bootstrap.client_id,
    )
}

/// How a person calls this program: by its name where the shell finds it, else as it was called.
fn program() -> String {
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    match called.components().count() {
        0 => "chancery".into(),
        _ => quoted(&called.display().to_string()),
    }
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '=');
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (text, word) in [
            ("target/release/chancery", "target/release/chancery"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
