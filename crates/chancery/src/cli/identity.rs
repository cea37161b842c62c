//! `chancery identity`: machine identities, their client secrets and their roles in projects (contract §2.5, 2.6).

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::cli::{
    client::Client,
    connection::RemoteArguments,
    failure::Failure,
    output::{Column, Output, fields, list_at, needed, string_at, table, text_at},
    project,
    vocabulary::{self, Lifetime},
};

/// How many identities are asked for at once.
const PAGE: usize = 100;

const COLUMNS: &[Column] =
    &[("NAME", "/name"), ("ROLE", "/role"), ("LOGIN", "/authMethods"), ("CREATED", "/createdAt"), ("ID", "/id")];

const SECRET_COLUMNS: &[Column] = &[
    ("PREFIX", "/clientSecretPrefix"),
    ("DESCRIPTION", "/description"),
    ("USES", "/clientSecretNumUses"),
    ("REVOKED", "/isClientSecretRevoked"),
    ("CREATED", "/createdAt"),
    ("ID", "/id"),
];

/// Make, list, show and delete machine identities, their secrets and their roles.
#[derive(clap::Args)]
pub(crate) struct IdentityArguments {
    #[command(flatten)]
    pub(crate) remote: RemoteArguments,
    #[command(subcommand)]
    pub(crate) command: IdentityCommand,
}

#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    Create(CreateArguments),
    /// List the identities of the organisation.
    #[command(after_help = "Example:\n  chancery identity list")]
    List,
    /// Show an identity and how it logs in.
    #[command(after_help = "Example:\n  chancery identity show build-agent")]
    Show {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Delete an identity. Its secrets and tokens stop working at once; its certificates stay.
    #[command(after_help = "Example:\n  chancery identity delete build-agent")]
    Delete {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Make, list and revoke the client secrets of an identity.
    Secret {
        #[command(subcommand)]
        command: SecretCommand,
    },
    /// Give an identity roles in a project, in place of those it had there.
    ///
    /// Roles are admin, member, viewer, issuer (reads, issues and reads private keys), no-access, or one of the
    /// project's own. The project is the one of --project, else the default one.
    #[command(after_help = "Examples:
  chancery identity grant build-agent --role issuer
  chancery identity grant auditor --project payments --role viewer")]
    Grant {
        /// Its name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// A role. May be repeated.
        #[arg(long, required = true)]
        role: Vec<String>,
    },
}

/// Make an identity that logs in with client id and client secret.
///
/// It has no secret and no role in any project yet: make one with `chancery identity secret create`, give it a role
/// with `chancery identity grant`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  chancery identity create build-agent
  chancery identity secret create build-agent
  chancery identity grant build-agent --role issuer")]
pub(crate) struct CreateArguments {
    /// Its name.
    name: String,
    /// Its role in the organisation; roles in projects are given with: chancery identity grant
    #[arg(long, value_enum, default_value_t = OrganizationRole::NoAccess)]
    role: OrganizationRole,
    /// How long its access tokens live.
    #[arg(long, value_name = "LIFETIME", value_parser = vocabulary::parse_duration)]
    token_ttl: Option<Lifetime>,
    /// The only networks it may come from, as 10.0.0.0/8. May be repeated [default: all].
    #[arg(long, value_name = "NETWORK")]
    trusted_ip: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum OrganizationRole {
    Admin,
    Member,
    NoAccess,
}

#[derive(Subcommand)]
pub(crate) enum SecretCommand {
    /// Make a client secret. It is shown this once.
    #[command(after_help = "Examples:
  chancery identity secret create build-agent
  chancery identity secret create build-agent --description 'runner 7' --ttl 90d --uses 1000 --json")]
    Create {
        /// The identity's name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// What it is for.
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// How long it is good for [default: without end].
        #[arg(long, value_parser = vocabulary::parse_duration)]
        ttl: Option<Lifetime>,
        /// How many logins it is good for; 0 is without limit.
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        uses: u32,
    },
    /// List the client secrets of an identity. The secrets themselves are shown nowhere.
    #[command(after_help = "Example:\n  chancery identity secret list build-agent")]
    List {
        /// The identity's name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
    },
    /// Revoke a client secret.
    #[command(after_help = "Example:
  chancery identity secret revoke build-agent 7c1f0b52-5d3e-4f0a-9d52-0f6a3c0f9f11")]
    Revoke {
        /// The identity's name or id.
        #[arg(value_name = "NAME|ID")]
        name: String,
        /// The secret's id, as listed.
        #[arg(value_name = "SECRET-ID")]
        secret: String,
    },
}

pub(crate) async fn run(client: &Client, command: IdentityCommand) -> Result<Output, Failure> {
    match command {
        IdentityCommand::Create(arguments) => create(client, &arguments).await,
        IdentityCommand::List => {
            let identities = all(client).await?;
            let text = table(COLUMNS, &identities, "There is no identity.");
            Ok(Output::new(json!({ "identities": identities, "totalCount": identities.len() }), text))
        }
        IdentityCommand::Show { name } => {
            let id = id_of(client, &name).await?;
            let mut answer = client.get(&["v1", "identities", &id], &[]).await?;
            match client.get(&login_path(&id), &[]).await {
                Ok(mut login) => answer["identityUniversalAuth"] = login["identityUniversalAuth"].take(),
                // An identity that has no such login is shown without it.
                Err(failure) if matches!(failure.status, Some(400 | 404)) => {}
                Err(failure) => return Err(failure),
            }
            let text = describe(&answer);
            Ok(Output::new(answer, text))
        }
        IdentityCommand::Delete { name } => {
            let id = id_of(client, &name).await?;
            let answer = client.delete(&["v1", "identities", &id]).await?;
            Ok(Output::new(answer, format!("deleted the identity {name}")))
        }
        IdentityCommand::Secret { command } => secret(client, command).await,
        IdentityCommand::Grant { name, role } => grant(client, &name, &role).await,
    }
}

async fn create(client: &Client, arguments: &CreateArguments) -> Result<Output, Failure> {
    let details = client.get(&["v1", "identities", "details"], &[]).await?;
    let body = json!({
        "name": arguments.name,
        "role": arguments.role.name(),
        "organizationId": needed(&details, "/identityDetails/organization/id")?,
    });
    let mut answer = client.post(&["v1", "identities"], &body).await?;
    let id = needed(&answer, "/identity/id")?.to_owned();
    let mut login = json!({});
    if let Some(ttl) = arguments.token_ttl {
        login["accessTokenTTL"] = json!(ttl.seconds());
        login["accessTokenMaxTTL"] = json!(ttl.seconds());
    }
    if !arguments.trusted_ip.is_empty() {
        let networks: Vec<Value> = arguments.trusted_ip.iter().map(|network| json!({ "ipAddress": network })).collect();
        login["clientSecretTrustedIps"] = json!(networks);
        login["accessTokenTrustedIps"] = json!(networks);
    }
    match client.post(&login_path(&id), &login).await {
        Ok(mut made) => answer["identityUniversalAuth"] = made["identityUniversalAuth"].take(),
        Err(failure) => {
            // An identity that cannot log in is of no use, so it is not left behind.
            return Err(match client.delete(&["v1", "identities", &id]).await {
                Ok(_) => failure,
                Err(_) => failure.detail(format!("the identity {id} was made, but has no login")),
            });
        }
    }
    let text = format!(
        "made the identity {0}\n{1}\n\nIt needs a secret and a role. Next:\n  chancery identity secret create {2}\n  \
         chancery identity grant {2} --role issuer",
        text_at(&answer, "/identity/name"),
        describe(&answer),
        if is_word(&arguments.name) { &arguments.name } else { &id }
    );
    Ok(Output::new(answer, text))
}

async fn secret(client: &Client, command: SecretCommand) -> Result<Output, Failure> {
    match command {
        SecretCommand::Create { name, description, ttl, uses } => {
            let id = id_of(client, &name).await?;
            let body = json!({
                "description": description,
                "ttl": ttl.map_or(0, Lifetime::seconds),
                "numUsesLimit": uses,
            });
            let answer = client.post(&secrets_path(&id), &body).await?;
            let login = client.get(&login_path(&id), &[]).await?;
            let text = format!(
                "This secret is shown only now.\n\n{}\n\nUse it as:\n  chancery login --url {} --client-id {}",
                fields([
                    ("client id", text_at(&login, "/identityUniversalAuth/clientId")),
                    ("client secret", text_at(&answer, "/clientSecret")),
                    ("id", text_at(&answer, "/clientSecretData/id")),
                ]),
                client.base(),
                text_at(&login, "/identityUniversalAuth/clientId"),
            );
            Ok(Output::new(answer, text))
        }
        SecretCommand::List { name } => {
            let id = id_of(client, &name).await?;
            let answer = client.get(&secrets_path(&id), &[]).await?;
            let text = table(SECRET_COLUMNS, &list_at(&answer, "/clientSecretData"), "It has no client secret.");
            Ok(Output::new(answer, text))
        }
        SecretCommand::Revoke { name, secret } => {
            let id = id_of(client, &name).await?;
            let path = [secrets_path(&id).as_slice(), &[&secret, "revoke"]].concat();
            let answer = client.post(&path, &json!({})).await?;
            Ok(Output::new(answer, format!("revoked the client secret {secret}")))
        }
    }
}

/// Makes a member, or changes what one may.
async fn grant(client: &Client, name: &str, roles: &[String]) -> Result<Output, Failure> {
    let id = id_of(client, name).await?;
    let project = project::meant(client).await?;
    let path = ["v2", "workspace", &project, "identity-memberships", &id];
    let assigned: Vec<Value> = roles.iter().map(|role| json!({ "role": role, "isTemporary": false })).collect();
    let body = json!({ "roles": assigned });
    let answer = match client.get(&path, &[]).await {
        Ok(_) => client.patch(&path, &body).await?,
        Err(failure) if failure.status == Some(404) => client.post(&path, &body).await?,
        Err(failure) => return Err(failure),
    };
    let place = string_at(&answer, "/identityMembership/project/name").unwrap_or(&project);
    let text = format!("{name} is now {} in the project {place}", roles.join(", "));
    Ok(Output::new(answer, text))
}

/// The id of an identity that is named by name or id.
async fn id_of(client: &Client, name: &str) -> Result<String, Failure> {
    if project::is_id(name) {
        return Ok(name.to_owned());
    }
    let identities = all(client).await?;
    let mut fitting = identities.iter().filter(|identity| string_at(identity, "/name") == Some(name));
    match (fitting.next(), fitting.next()) {
        (Some(identity), None) => Ok(needed(identity, "/id")?.to_owned()),
        (Some(_), Some(_)) => {
            Err(Failure::new(format!("there are several identities of the name {name}")).hint("name it by its id"))
        }
        (None, _) => Err(Failure::new(format!("there is no identity of the name {name}"))
            .hint("see them all with: chancery identity list")),
    }
}

/// Every identity of the organisation, flat: some servers wrap each one in its membership.
async fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    let details = client.get(&["v1", "identities", "details"], &[]).await?;
    let organization = needed(&details, "/identityDetails/organization/id")?;
    let mut identities: Vec<Value> = Vec::new();
    loop {
        let (offset, limit) = (identities.len().to_string(), PAGE.to_string());
        let query = [("orgId", organization), ("offset", offset.as_str()), ("limit", limit.as_str())];
        let answer = client.get(&["v1", "identities"], &query).await?;
        let page = list_at(&answer, "/identities");
        let page_length = page.len();
        identities.extend(page.into_iter().map(flat));
        if page_length < PAGE {
            return Ok(identities);
        }
    }
}

fn flat(mut entry: Value) -> Value {
    let role = entry.get("role").cloned();
    match entry.get_mut("identity").map(Value::take) {
        Some(mut identity) if identity.is_object() => {
            if let Some(role) = role {
                identity["role"] = role;
            }
            identity
        }
        Some(_) | None => entry,
    }
}

fn login_path(id: &str) -> [&str; 5] {
    ["v1", "auth", "universal-auth", "identities", id]
}

fn secrets_path(id: &str) -> [&str; 6] {
    ["v1", "auth", "universal-auth", "identities", id, "client-secrets"]
}

impl OrganizationRole {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Member => "member",
            Self::NoAccess => "no-access",
        }
    }
}

/// Whether a shell takes the text as it is.
fn is_word(text: &str) -> bool {
    !text.starts_with('-')
        && !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
}

fn describe(answer: &Value) -> String {
    let networks = list_at(answer, "/identityUniversalAuth/clientSecretTrustedIps");
    let networks: Vec<String> = networks
        .iter()
        .map(|network| match network.get("prefix").and_then(Value::as_u64) {
            Some(prefix) => format!("{}/{prefix}", text_at(network, "/ipAddress")),
            None => text_at(network, "/ipAddress"),
        })
        .collect();
    fields([
        ("name", text_at(answer, "/identity/name")),
        ("role", text_at(answer, "/identity/role")),
        ("client id", text_at(answer, "/identityUniversalAuth/clientId")),
        ("token seconds", text_at(answer, "/identityUniversalAuth/accessTokenTTL")),
        ("trusted from", networks.join(", ")),
        ("created", text_at(answer, "/identity/createdAt")),
        ("id", text_at(answer, "/identity/id")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_flat_however_it_is_wrapped() {
        let plain = json!({ "id": "1", "name": "a", "role": "member" });
        assert_eq!(flat(plain.clone()), plain);
        let wrapped = json!({ "id": "membership", "role": "member", "identity": { "id": "1", "name": "a" } });
        assert_eq!(flat(wrapped), plain);
    }

    #[test]
    fn what_is_shown_for_copying_is_one_word() {
        for (text, expected) in [("build-agent", true), ("a b", false), ("$(x)", false), ("-x", false), ("", false)] {
            assert_eq!(is_word(text), expected, "{text}");
        }
    }
}
