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
}

/// Brings bootstrap.json up to date: the facts of this start, and the secret that stands in it, if any.
pub fn write_facts(
    folder: &Path,
    bootstrap: &Bootstrap,
    secret: Option<&str>,
    reachable: &Reachable,
) -> Result<(), String> {
    let path = folder.join("bootstrap.json");
    let mut facts: Map<String, Value> = match std::fs::read_to_string(&path) {
        Err(_) => Map::new(),
        Ok(text) => serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?,
    };
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
    let optional = [
        ("clientSecret", kept.map(Value::from)),
        ("tlsUrl", reachable.tls_url.clone().map(Value::from)),
        ("tlsCa", reachable.tls_ca.as_ref().map(|path| path.display().to_string().into())),
    ];
    for (name, value) in optional {
        match value {
            Some(value) => facts.insert(name.into(), value),
            None => facts.remove(name),
        };
    }
    let text = serde_json::to_string_pretty(&facts).map_err(|error| error.to_string())?;
    write_private(&path, &format!("{text}\n"))
}

/// What a person needs after the first start. The secret is printed here and never again.
pub fn welcome(bootstrap: &Bootstrap, secret: &str, reachable: &Reachable, folder: &Path) -> String {
    let url = &reachable.url;
    let profile = bootstrap.profiles.get("web-server").map(ToString::to_string).unwrap_or_default();
    let facts = folder.join("bootstrap.json");
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

    chancery cert issue --profile web-server --common-name www.example.com --ttl 30d --out .

  API documentation: {url}/api/docs
"#,
        facts = facts.display(),
        client_id = bootstrap.client_id,
    )
}
